// Takes and presets: what there is comes from the bridge, and news of it as well.
import { on, send } from "./socket.js";

const takes = new Map(), at = (id) => document.getElementById(id);
const make = (tag, told = {}) => Object.assign(document.createElement(tag), told);

function button(name, label, act) {
  const made = make("button", { type: "button", textContent: name, onclick: act });
  made.setAttribute("aria-label", label);
  return made;
}

function take(id, seconds, notes, kept) {
  const row = make("li"), name = `answer ${id}`, file = make("a", { href: `takes/${id}.mid${location.search}`, textContent: ".mid", download: `answer-${id}.mid`, draggable: true });
  file.setAttribute("aria-label", `${name} as a MIDI file`);
  file.ondragstart = (event) => event.dataTransfer.setData("DownloadURL", `audio/midi:answer-${id}.mid:${file.href}`);
  row.append(
    make("span", { textContent: `${id}: ${Number(seconds).toFixed(1)} s, ${notes} notes${kept ? ", kept" : ""}` }), button("play", `play ${name}`, () => send("/musebridge/takes/play", id)),
    button("keep", `keep ${name}`, () => send("/musebridge/takes/keep", id)), button("delete", `delete ${name}`, () => send("/musebridge/takes/delete", id)), file,
  );
  takes.get(id)?.remove();
  takes.set(id, row);
  at("takes").replaceChildren(...[...takes.keys()].sort((a, b) => b - a).map((key) => takes.get(key)));
}

export function run() {
  on("/musebridge/take", take);
  on("/musebridge/take/deleted", (id) => { takes.get(id)?.remove(); takes.delete(id); });
  on("/musebridge/preset", (name, description) => {
    if (![...at("presets").options].some((option) => option.value === name)) at("presets").add(make("option", { value: name, textContent: name, title: description }));
  });
  at("load").onclick = () => send("/musebridge/presets/load", at("presets").value);
  at("save").onclick = () => at("save-name").value && send("/musebridge/presets/save", at("save-name").value);
}

/** Ask for what there is; the bridge has just come. */
export function ask() {
  takes.clear();
  at("takes").replaceChildren();
  send("/musebridge/takes");
  send("/musebridge/presets");
}
