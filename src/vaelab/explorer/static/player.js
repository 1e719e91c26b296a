import { button, make } from "./dom.js";
import { animate } from "./scheduling.js";
import { codesOnPath } from "./path.js";

/** Moves the shown codes from A to B and back until the person stops it or moves a code otherwise. */
export class Player {
  /** The button "Play" or "Pause". */
  button;

  #session; #mark; #halt = null; #own = false;
  /** 0 to 1 on the way there, 1 to 2 on the way back. */
  #phase = 0;

  /** `mark(share)` hears where on the way the shown codes are; null: elsewhere. */
  constructor(session, mark) {
    this.#session = session;
    this.#mark = mark;
    this.button = button("", () => this.toggle(), { class: "button play", title: "Move the current code from A to B and back", "aria-keyshortcuts": "P" });
    this.#name("Play");
    document.addEventListener("explorer:play", () => this.toggle());
    for (const name of ["pins", "choosing"]) session.addEventListener(name, () => this.#leave());
    for (const model of session.models) model.addEventListener("code", () => { if (!this.#own) this.#leave(); });
  }

  toggle() {
    if (this.#halt) {
      this.#stop();
      this.#session.commit();
    } else if (this.#session.pins.A && this.#session.pins.B) {
      this.#name("Pause");
      this.#halt = animate((step) => this.#advance(step));
    }
  }

  /** Shows the codes at `share` of the way. */
  jump(share) {
    this.#stop();
    this.#phase = share;
    this.#move(share, (codes) => this.#session.showCodes(codes));
  }

  #advance(step) {
    this.#phase = (this.#phase + step) % 2;
    this.#move(Math.min(this.#phase, 2 - this.#phase), (codes) => this.#session.models.forEach((model, i) => model.setCode(codes[i])));
  }

  #move(share, show) {
    this.#own = true;
    show(codesOnPath(this.#session, share));
    this.#own = false;
    this.#mark(share);
  }

  #leave() {
    this.#stop();
    this.#mark(null);
  }

  #stop() {
    this.#halt?.();
    this.#halt = null;
    this.#name("Play");
  }

  #name(text) {
    if (this.button.firstChild?.data !== text) this.button.replaceChildren(text, make("kbd", { text: "P", "aria-hidden": "true" }));
  }
}
