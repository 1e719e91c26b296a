import { makeAnalogy } from "./analogy.js";
import { button, card, make } from "./dom.js";
import { makeInterpolation } from "./interpolation.js";
import { pinLetter, makeCodeImages } from "./code-images.js";

/** Pins A, B and C on codes, the way from A to B, and the analogy A − B + C. */
export function mountPins(element, session) {
  const section = card("Pins", { class: "pins" });
  const empty = make("p", { class: "hint", text: "Pin two images with the keys A and B, or with the buttons, to interpolate between them. With C, A − B + C is shown." });
  const [between, analogy] = [makeInterpolation(session), makeAnalogy(session)];
  const slots = Object.keys(session.pins).map((name) => makeSlot(session, name));
  section.append(make("div", { class: "body" }, make("div", { class: "slots" }, ...slots), between, analogy, empty));
  element.append(section);
  const update = () => {
    const ready = Boolean(session.pins.A && session.pins.B);
    between.hidden = analogy.hidden = !ready;
    empty.hidden = ready;
  };
  session.addEventListener("pins", update);
  update();
}

/** One pin: its letter, the image of its code, and what can be done with it. */
function makeSlot(session, name) {
  const pictures = makeCodeImages(session, `Image at pin ${name}`);
  const set = button(`Set ${name}`, () => session.setPin(name), { title: `Pin the current code as ${name}`, "aria-keyshortcuts": name });
  const go = button("Go", () => session.goTo(session.pins[name]), { "aria-label": `Go to ${name}`, title: `Show the code pinned at ${name}` });
  const remove = button("×", () => {
    session.setPin(name, null);
    set.focus();
  }, { class: "button remove", "aria-label": `Remove ${name}`, title: `Remove ${name}` });
  let shown;
  const update = () => {
    const codes = session.pins[name];
    if (codes === shown) return;
    shown = codes;
    slot.classList.toggle("empty", !codes);
    go.hidden = remove.hidden = !codes;
    pictures.show(codes);
  };
  const slot = make("div", { class: "slot", role: "group", "aria-label": `Pin ${name}` },
    make("div", { class: "held" }, pinLetter(name), ...pictures.canvases, remove), make("div", { class: "doings" }, set, go));
  session.addEventListener("pins", update);
  update();
  return slot;
}
