import { button, make } from "./dom.js";

/** An error as one line for a person. */
export function describeError(error) {
  if (error instanceof TypeError && /fetch|network|load failed/i.test(error.message)) {
    return "the server does not respond; is `vaelab explore` still running?";
  }
  return error.message || String(error);
}

/** Lines at the foot of the page that a screen reader hears: notes go by themselves, failures stay until dismissed. */
export class Messages {
  #notes = make("div", { role: "status", "aria-live": "polite" });
  #failures = make("div", { role: "alert" });

  constructor(element) {
    element.append(make("div", { class: "messages" }, this.#failures, this.#notes));
  }

  note(text) {
    const line = make("p", { class: "message", text });
    this.#notes.replaceChildren(line);
    setTimeout(() => line.remove(), 4000);
  }

  /** A failure, shown once however often it comes while a hand drags. */
  failure(error) {
    const text = describeError(error);
    const known = [...this.#failures.children].some((line) => line.firstChild.textContent === text);
    if (known) return;
    const dismiss = button("✕", () => line.remove(), { "aria-label": "Dismiss" });
    const line = make("div", { class: "message bad" }, make("span", { text }), dismiss);
    this.#failures.append(line);
  }
}
