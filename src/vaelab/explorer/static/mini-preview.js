import { make } from "./dom.js";
import { paint } from "./pixels.js";

/** How long a small image stays once nothing changes, milliseconds. */
const STAYS = 2000;

/**
 * The shown images once more, small, in the corner of the window: while a hand moves the code where the large ones are out of
 * sight. `large` has the canvas of every model; a screen reader has those already.
 */
export function mountMiniPreview(element, session, large) {
  const inSight = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, intersectionRatio } of entries) {
      if (intersectionRatio > 0.4) inSight.add(target);
      else inSight.delete(target);
    }
  }, { threshold: [0, 0.4, 0.5] });
  const small = session.models.map(() => make("canvas", { class: "image" }));
  const corner = make("div", { class: "peek", "aria-hidden": "true" }, ...small);
  let timer = 0;
  const hide = () => corner.classList.remove("shown");
  session.models.forEach((model, i) => {
    watcher.observe(large[i]);
    model.addEventListener("image", () => {
      paint(small[i], model.image, model.manifest.image);
      if (large.every((canvas) => inSight.has(canvas))) return hide();
      corner.classList.add("shown");
      clearTimeout(timer);
      timer = setTimeout(hide, STAYS);
    });
  });
  element.append(corner);
}
