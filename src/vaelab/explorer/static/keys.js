import { drawNormal } from "./algebra.js";
import { loadSetting, saveSetting } from "./storage.js";
import { nextTheme } from "./theme.js";

/** The keys and their effects, as listed in the help. */
export const KEYS = [
  ["R", "a random code from the prior"],
  ["0", "the mean code"],
  ["Z", "undo (with Shift: redo)"],
  ["A B C", "pin the current code"],
  ["P", "play the interpolation from A to B"],
  ["S", "save the image"],
  ["L", "lattice of decoded images on the map"],
  ["D", "density of the points"],
  ["G", "rings of the prior: 1, 2, 3 σ"],
  ["T", "theme: system, dark, light"],
  ["?", "this help"],
];

/** Keys that go on working while they are held down. */
const REPEATED = ["r", "z"];

let on = loadSetting("keys") !== "off";

/** Whether single keys work; users of speech input may switch them off. */
export const keysOn = () => on;

export function setKeysOn(value) {
  on = value;
  saveSetting("keys", on ? "on" : "off");
}

/** Listens for keys on the whole page; `help` opens the help. */
export function listenForKeys(session, help) {
  const toggle = (layer) => () => session.setOptions({ [layer]: !session.options[layer] });
  const announce = (name) => () => document.dispatchEvent(new CustomEvent(name));
  const work = {
    r: () => session.sample(drawNormal),
    0: () => session.reset(),
    z: (event) => (event.shiftKey ? session.redo() : session.undo()),
    a: () => session.setPin("A"),
    b: () => session.setPin("B"),
    c: () => session.setPin("C"),
    p: announce("explorer:play"),
    s: announce("explorer:save"),
    l: toggle("lattice"),
    d: toggle("density"),
    g: toggle("rings"),
    t: nextTheme,
    "?": help,
  };
  document.addEventListener("keydown", (event) => {
    const key = event.key?.toLowerCase();
    if (!Object.hasOwn(work, key) || !on || event.defaultPrevented || isTaken(event)) return;
    if (event.ctrlKey || event.metaKey || event.altKey || (event.repeat && !REPEATED.includes(key))) return;
    event.preventDefault();
    work[key](event);
  });
}

/** Whether a key belongs to what has the focus: a field that takes letters, or an open dialog. */
function isTaken({ target }) {
  if (document.querySelector("dialog[open]")) return true;
  if (target.closest?.("select, textarea, [contenteditable]")) return true;
  return target.matches?.("input:not([type=range], [type=checkbox], [type=radio], [type=file])") ?? false;
}
