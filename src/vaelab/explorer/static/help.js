import { button, make } from "./dom.js";
import { KEYS, keysOn, setKeysOn } from "./keys.js";

const GESTURES = [
  ["Drag on the map", "move the code; its component outside the plane stays fixed"],
  ["Arrow keys on the map", "move the code in steps, larger ones with Shift; Enter selects the nearest point"],
  ["Hover over a point", "show its image; click to select it"],
  ["Wheel, pinch, + and −", "zoom the map; F fits all points"],
  ["Drag with Space or two fingers", "pan the map"],
  ["Click a class below the map", "hide or show its points"],
  ["Move a slider", "change one latent or attribute; its strip shows the effect"],
  ["Draw, drop or paste an image", "encode it and continue from its code"],
];

/** A dialog with all keys and gestures; returns what opens it. */
export function makeHelp(element) {
  const close = button("Close", () => dialog.close(), { autofocus: true });
  const single = make("input", { type: "checkbox", checked: keysOn(), onchange: () => setKeysOn(single.checked) });
  const dialog = make("dialog", { class: "help", "aria-labelledby": "help-title" },
    make("header", {}, make("h2", { id: "help-title", text: "Controls" }), close),
    make("div", { class: "help-columns" },
      list("Mouse and touch", "stacked", GESTURES, (words) => words),
      list("Keys", null, KEYS, (keys) => keys.split(" ").flatMap((key) => [make("kbd", { text: key }), " "]))),
    make("label", { class: "row" }, single, "Single-key shortcuts work anywhere on the page"),
  );
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  element.append(dialog);
  return () => dialog.showModal();
}

function list(title, name, rows, term) {
  const terms = rows.flatMap(([what, does]) => [make("dt", {}, ...[term(what)].flat()), make("dd", { text: does })]);
  return make("section", {}, make("h3", { text: title }), make("dl", { class: name }, ...terms));
}
