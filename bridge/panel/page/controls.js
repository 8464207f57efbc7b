// Commands, modes and parameters. What there is comes from the bridge; nothing is listed twice.
import { on, send } from "./socket.js";

const COMMANDS = [["Hand over", "handover", "main"], ["Stop", "stop"], ["Retry", "retry"], ["Pause", "pause"], ["Record", "record"], ["Forget", "reset"], ["Panic", "panic", "panic"]];
const controls = new Map();
const make = (tag, told = {}) => Object.assign(document.createElement(tag), told);

export function run() {
  for (const [name, address, kind = ""] of COMMANDS) {
    const button = make("button", { type: "button", textContent: name, className: kind, id: address });
    const is = () => button.getAttribute("aria-pressed") === "true";
    button.onclick = () => (address === "pause" ? send("/musebridge/pause", is() ? 0 : 1) : send(`/musebridge/${address}`));
    document.querySelector("#commands").append(button);
  }
  on("/musebridge/capabilities", (_, ...modes) => document.querySelector("#modes").replaceChildren(...modes.map(mode)));
  on("/musebridge/mode", chosen);
  on("/musebridge/record", (is) => pressed("record", is));
  on("/musebridge/parameter", parameter);
  on("/musebridge/learnt", (name, controller) => { const to = controls.get(name)?.learn; if (to) to.textContent = controller >= 0 ? `CC ${controller}` : "learn"; });
  on("/musebridge/learning", (name) => controls.forEach((control, of) => control.learn.setAttribute("aria-pressed", of === name)));
}

/** Show whether a command's button is down. */
export const pressed = (id, is) => document.getElementById(id)?.setAttribute("aria-pressed", Boolean(is));

/** Show the value that a parameter has. */
export function value(name, is) {
  const control = controls.get(name);
  if (!control) return;
  control.output.textContent = `${typeof is === "number" ? +is.toFixed(3) : is}${control.unit && ` ${control.unit}`}`;
  if (document.activeElement !== control.input || control.input.type === "range") control.input.value = is;
  if (control.input.type === "checkbox") control.input.checked = Boolean(is) && is !== "off";
}

let mode_now = "";
const chosen = (name) => {
  mode_now = name;
  document.querySelectorAll("#modes button").forEach((button) => button.setAttribute("aria-checked", button.textContent === name));
};

function mode(name) {
  const button = make("button", { type: "button", textContent: name, role: "radio" });
  button.setAttribute("aria-checked", name === mode_now);
  button.onclick = () => send("/musebridge/mode", name);
  return button;
}

function parameter(name, type, low, high, first, unit, meaning) {
  if (controls.has(name)) return;
  const row = make("div", { className: "control", title: meaning }), label = make("label", { textContent: name.replace(/_(s|ms)$/, "").replaceAll("_", " "), htmlFor: `p-${name}` });
  const output = make("output"), learn = make("button", { type: "button", textContent: "learn", title: "Move a controller to bind it" });
  const input = make("input", { id: `p-${name}`, type: { number: "range", whole: "range", switch: "checkbox" }[type] ?? "text" });
  if (input.type === "range") Object.assign(input, { min: low, max: high, step: type === "whole" ? 1 : (high - low) / 500 });
  input.setAttribute("aria-description", meaning);
  learn.setAttribute("aria-label", `learn a controller for ${name}`);
  const told = () => (input.type === "checkbox" ? Number(input.checked) : input.type === "range" ? Number(input.value) : input.value);
  input[input.type === "text" ? "onchange" : "oninput"] = () => send(`/musebridge/param/${name}`, told());
  learn.onclick = () => send(learn.getAttribute("aria-pressed") === "true" ? "/musebridge/learn" : `/musebridge/learn/${name}`);
  row.append(label, output, learn, input);
  document.querySelector("#controls").append(row);
  controls.set(name, { input, output, learn, unit });
  value(name, first);
}
