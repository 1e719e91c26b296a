import { plus } from "./algebra.js";
import { button, make } from "./dom.js";
import { pinLetter, makeCodeImages } from "./code-images.js";

/** A − B + C of each model (White 2016, 1609.04468, after Mikolov et al. 2013). */
const analogy = ({ A, B, C }) => A.map((a, i) => plus(plus(a, B[i], -1), C[i]));

/** The image of A − B + C once all three are pinned. */
export function makeAnalogy(session) {
  const result = makeCodeImages(session, "The image of A minus B plus C");
  const show = button("Show it", () => session.showCodes(analogy(session.pins)), { "aria-label": "Show it: A minus B plus C" });
  const hint = make("p", { class: "hint" });
  const update = () => {
    const missing = Object.keys(session.pins).filter((name) => !session.pins[name]);
    show.hidden = missing.length > 0;
    hint.textContent = missing.length ? `Pin ${missing.join(" and ")} too.` : "The difference between A and B, added to C.";
    result.show(missing.length ? null : analogy(session.pins));
  };
  session.addEventListener("pins", update);
  update();
  return make("div", { class: "analogy", role: "group", "aria-label": "A minus B plus C" },
    make("h3", {}, pinLetter("A"), " − ", pinLetter("B"), " + ", pinLetter("C")), make("div", { class: "row" }, ...result.canvases), show, hint);
}
