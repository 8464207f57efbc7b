// What the bridge says, to what the page shows.
import * as controls from "./controls.js";
import * as keys from "./keys.js";
import * as lists from "./lists.js";
import * as roll from "./roll.js";
import { connect, on } from "./socket.js";
import * as synth from "./synth.js";

const at = (id) => document.getElementById(id);
const music = { key: "", chord: "", bar: "" }, health = { lateness: "", in: "", out: "" };
const show = () => {
  at("music").textContent = [music.key, music.chord, music.bar].filter(Boolean).join(" · ");
  at("health").textContent = [health.in, health.out, health.lateness].filter(Boolean).join(" · ");
};
const state = (name) => {
  at("state").textContent = name;
  at("state").dataset.state = name;
  controls.pressed("pause", name === "paused");
};

on("/panel/bridge", (there) => {
  if (!there) return state("no bridge");
  at("error").textContent = "";
  lists.ask();
});
on("/panel/lost", (why) => { state("no connection"); at("error").textContent = why; });
on("/musebridge/state", state);
on("/musebridge/time", roll.time);
on("/musebridge/plan", roll.planned);
on("/musebridge/withdrawn", roll.withdrawn);
on("/musebridge/heard", (ms, pitch, velocity) => { roll.heardNote(ms, pitch, velocity); synth.play(pitch, velocity); });
on("/musebridge/pedal", roll.pedalMoved);
on("/musebridge/note", (pitch, velocity, ms) => { roll.sounds(pitch, velocity, ms); synth.play(pitch, velocity); });
on("/musebridge/key", (name) => { music.key = name; show(); });
on("/musebridge/chord", (name) => { music.chord = name; show(); });
on("/musebridge/beat", (beat, bar, bpm) => { roll.beat(beat); music.bar = `bar ${bar}, beat ${Math.floor(beat)}, ${Math.round(bpm)} bpm`; show(); });
on("/musebridge/port", (side, name, there) => { health[side] = `${side}: ${name}${there ? "" : " (gone)"}`; show(); });
on("/musebridge/stats", (heard, played, median, p99) => { health.lateness = `sent after due: median ${median.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms`; show(); });
on("/musebridge/error", (what) => { at("error").textContent = what; });
on("", (address, ...values) => { if (address.startsWith("/musebridge/param/")) controls.value(address.slice(18), values[0]); });

controls.run();
lists.run();
roll.run(at("roll"));
keys.run(at("keys"));
at("synth").onchange = ({ target }) => synth.turn(target.checked);
connect();
