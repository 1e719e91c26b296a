import { button, make } from "./dom.js";
import { KEYS, keysOn, setKeysOn } from "./keys.js";

const GESTURES = [
  ["Drag on the map", "move the code; what is off the map stays"],
  ["Arrow keys on the map", "the same in steps, with Shift in larger ones; Enter goes to the nearest point"],
  ["Rest on a point", "see its image; click to go there"],
  ["Wheel, pinch, + and −", "zoom the map; F shows all of it"],
  ["Drag with Space or two fingers", "pan the map"],
  ["A class below the map", "hide or show its points"],
  ["A slider", "move one latent or attribute; its strip shows what it does"],
  ["Draw, drop or paste a picture", "encode it and move on from there"],
];

/** A dialog with all keys and gestures; returns what opens it. */
export function makeHelp(element) {
  const close = button("Close", () => dialog.close(), { autofocus: true });
  const single = make("input", { type: "checkbox", checked: keysOn(), onchange: () => setKeysOn(single.checked) });
  const dialog = make("dialog", { class: "help", "aria-labelledby": "help-title" },
    make("header", {}, make("h2", { id: "help-title", text: "How to move in here" }), close),
    make("div", { class: "help-columns" },
      list("Hands", "stacked", GESTURES, (words) => words),
      list("Keys", null, KEYS, (keys) => keys.split(" ").flatMap((key) => [make("kbd", { text: key }), " "]))),
    make("label", { class: "row" }, single, "Single keys work anywhere on the page"),
  );
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  element.append(dialog);
  return () => dialog.showModal();
}

function list(title, name, rows, term) {
  const terms = rows.flatMap(([what, does]) => [make("dt", {}, ...[term(what)].flat()), make("dd", { text: does })]);
  return make("section", {}, make("h3", { text: title }), make("dl", { class: name }, ...terms));
}
