// The piano roll: the past to the left of the line "now", what is planned to the right.
const SECONDS_BACK = 6, SECONDS_AHEAD = 2, LOWEST = 21, HIGHEST = 108;
const heard = [], model = [];
let plan = [], marks = [], struck = [], pedal = [], beats = [];
let turn = 0; // when the model last played
let offset = null; // of the bridge's milliseconds to this page's; the smallest delay seen is the nearest to it

const open = (notes, pitch) => notes.findLast((note) => note.pitch === pitch && note.end === null);

/** The bridge's time came; messages can only be late, so the earliest arrival counts. */
export function time(ms) {
  const seen = performance.now() - ms;
  offset = offset === null || seen < offset || seen - offset > 2000 ? seen : offset + (seen - offset) * 0.002;
}

/** The bridge's time now, in ms. */
export const now = () => performance.now() - (offset ?? performance.now());

export function heardNote(ms, pitch, velocity) { move(heard, ms, pitch, velocity); }

export function planned(ms, pitch, velocity) { move(plan, ms, pitch, velocity); }

/** A note of the model sounds; it leaves the plan. */
export function sounds(pitch, velocity, ms) {
  move(model, ms, pitch, velocity);
  if (velocity <= 0) return;
  plan = plan.filter((note) => note.pitch !== pitch || note.start > ms + 1);
  if (heard.some((note) => note.start > turn)) marks.push(ms); // the first note behind something of the player's
  turn = ms;
}

/** What was planned and has not sounded never will: it is crossed out. */
export function withdrawn() {
  struck.push(...plan.filter((note) => note.start > now() - 50));
  plan = [];
}

export function pedalMoved(ms, value) { pedal.push({ ms, down: value >= 64 }); }

export function beat(inBar) { beats.push({ ms: now(), first: inBar < 1.5 }); }

function move(notes, ms, pitch, velocity) {
  const sounding = open(notes, pitch);
  if (sounding) sounding.end = ms;
  if (velocity > 0) notes.push({ pitch, velocity, start: ms, end: null });
}

function forget(ms) {
  const old = (note) => (note.end ?? note.start) < ms - SECONDS_BACK * 1000 && (note.end !== null || note.start < ms - 60000);
  for (const notes of [heard, model]) while (notes.length && old(notes[0])) notes.shift();
  plan = plan.filter((note) => (note.end ?? note.start + 2000) > ms - 500);
  struck = struck.filter((note) => note.start > ms - SECONDS_BACK * 1000);
  marks = marks.filter((at) => at > ms - SECONDS_BACK * 1000);
  beats = beats.filter((at) => at.ms > ms - SECONDS_BACK * 1000);
  while (pedal.length > 1 && pedal[1].ms < ms - SECONDS_BACK * 1000) pedal.shift();
}

/** Draw on a canvas at every frame. */
export function run(canvas) {
  const pen = canvas.getContext("2d");
  const frame = () => {
    const { clientWidth: width, clientHeight: height } = canvas, scale = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
    if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    draw(pen, width, height, now());
    requestAnimationFrame(frame);
  };
  frame();
}

function draw(pen, width, height, ms) {
  forget(ms);
  const style = getComputedStyle(document.documentElement), ink = (name) => style.getPropertyValue(`--${name}`);
  const x = (at) => width * (SECONDS_BACK + (at - ms) / 1000) / (SECONDS_BACK + SECONDS_AHEAD);
  const row = height / (HIGHEST - LOWEST + 1), y = (pitch) => (HIGHEST - pitch) * row;
  const bar = (note, colour, wider = 0, inset = 0) => {
    const left = x(note.start), right = x(note.end ?? Math.max(ms, note.start + 120));
    pen.fillStyle = colour;
    pen.fillRect(left + inset, y(note.pitch) + inset - wider, Math.max(3, right - left) - 2 * inset, Math.max(3, row - 0.5) - 2 * inset + 2 * wider);
  };
  const rule = (at, colour, thickness) => { pen.fillStyle = colour; pen.fillRect(at, 0, thickness, height); };
  pen.clearRect(0, 0, width, height);
  for (let pitch = LOWEST + 3; pitch <= HIGHEST; pitch += 12) { pen.fillStyle = ink("line"); pen.fillRect(0, y(pitch) + row, width, 1); }
  for (const at of beats) rule(x(at.ms), ink("line"), at.first ? 2 : 1);
  pedal.forEach((at, i) => { if (at.down) { pen.fillStyle = ink("line"); pen.fillRect(x(at.ms), height - 5, x(pedal[i + 1]?.ms ?? ms) - x(at.ms), 5); } });
  for (const at of marks) rule(x(at), ink("model"), 1);
  for (const note of plan) { bar(note, ink("quiet"), 1); bar(note, ink("plan"), 0, 1); } // an outline: pale alone is hard to see
  for (const note of struck) {
    bar({ ...note, end: note.end ?? note.start + 120 }, ink("line"));
    pen.fillStyle = ink("quiet");
    pen.fillRect(x(note.start) - 3, y(note.pitch) + row / 2, x(note.end ?? note.start + 120) - x(note.start) + 6, 1);
  }
  for (const note of heard) bar(note, ink("heard"));
  for (const note of model) bar(note, ink("model"));
  rule(x(ms), ink("now"), 1.5);
}
