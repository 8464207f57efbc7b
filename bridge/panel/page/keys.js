// Playing in the page: the computer's keys, a finger, a mouse, or a MIDI keyboard that the browser reaches.
import { send } from "./socket.js";

const ROW = "awsedftgyhujk", BLACK = new Set([1, 3, 6, 8, 10]), NAMES = ["C", "", "D", "", "E", "F", "", "G", "", "A", "", "B"];
const down = new Map();
let octave = 4;

function strike(source, pitch, velocity = 80) {
  if (down.has(source)) return;
  down.set(source, pitch);
  send(`/vkb_midi/1/note/${pitch}`, velocity);
  show(pitch, true);
}

function lift(source) {
  const pitch = down.get(source);
  if (pitch === undefined) return;
  down.delete(source);
  if (![...down.values()].includes(pitch)) send(`/vkb_midi/1/note/${pitch}`, 0);
  show(pitch, false);
}

const show = (pitch, is) => document.querySelector(`#keys [data-pitch="${pitch}"]`)?.classList.toggle("down", is);

/** Draw two octaves from C3 on and listen to whatever plays. */
export function run(keyboard) {
  for (let pitch = 48; pitch <= 72; pitch++) {
    const key = document.createElement("button");
    Object.assign(key, { type: "button", tabIndex: -1, textContent: NAMES[pitch % 12] });
    key.className = BLACK.has(pitch % 12) ? "black" : "";
    key.dataset.pitch = pitch;
    key.setAttribute("aria-label", `${NAMES[pitch % 12] || `${NAMES[pitch % 12 - 1]} sharp`} ${Math.floor(pitch / 12) - 1}`);
    key.onpointerdown = (event) => { key.releasePointerCapture?.(event.pointerId); strike(`p${event.pointerId}`, pitch); };
    keyboard.append(key);
  }
  addEventListener("pointerup", (event) => lift(`p${event.pointerId}`));
  addEventListener("pointercancel", (event) => lift(`p${event.pointerId}`));
  addEventListener("keydown", typed);
  addEventListener("keyup", (event) => lift(`k${event.code}`));
  addEventListener("blur", () => [...down.keys()].forEach(lift)); // no key may hang where its end is not seen
  navigator.requestMIDIAccess?.().then(reach, () => {});
}

function typed(event) {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=range], [type=checkbox]), select")) return;
  const at = ROW.indexOf(event.key.toLowerCase());
  if (event.key === "z" || event.key === "x") octave = Math.min(7, Math.max(1, octave + (event.key === "x" ? 1 : -1)));
  if (at >= 0) strike(`k${event.code}`, 12 * (octave + 1) + at);
}

function reach(midi) {
  const listen = () => midi.inputs.forEach((input) => {
    input.onmidimessage = ({ data: [status, pitch, velocity] }) => {
      const kind = status & 0xf0;
      if (kind === 0x90 && velocity > 0) strike(`${input.id} ${pitch}`, pitch, velocity);
      else if (kind === 0x80 || kind === 0x90) lift(`${input.id} ${pitch}`);
    };
  });
  midi.onstatechange = listen;
  listen();
}
