import { make } from "./dom.js";
import { paint } from "./pixels.js";

/** Milliseconds that the preview stays after the last change. */
const STAYS = 2000;

/**
 * Small copies of the shown images in the corner of the window, while the code moves and the large ones are not visible. `large`
 * holds the canvas of every model. Screen readers ignore the copies.
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
