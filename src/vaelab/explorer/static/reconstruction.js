import { kl } from "./algebra.js";
import { make } from "./dom.js";
import { LatestOnly } from "./scheduling.js";
import { formatFixed } from "./numbers.js";
import { paint } from "./pixels.js";

/**
 * What a model sees of an image and makes of it: a row with the image, its reconstruction and both terms of the loss. It keeps the
 * last image that was read while the shown code moves on.
 */
export function mountReconstruction(element, model, { named = false } = {}) {
  const shape = model.manifest.image;
  const image = (label) => make("canvas", { class: "image", width: shape.width, height: shape.height, role: "img", "aria-label": label });
  const [seen, again] = [image("What the model sees"), image("Its reconstruction")];
  const [error, divergence] = [make("dd", { class: "number" }), make("dd", { class: "number" })];
  const row = make("div", { class: "seen", role: "group", "aria-label": named ? `Seen by ${model.manifest.run}` : "Seen by the model", hidden: true },
    named ? make("h3", { text: model.manifest.run }) : null,
    make("figure", {}, seen, make("figcaption", { text: "what the model sees" })),
    make("figure", {}, again, make("figcaption", { text: "its reconstruction" })),
    make("dl", {}, make("dt", { text: "Reconstruction" }), error, make("dt", { text: "KL" }), divergence),
  );
  element.append(row);

  const decoder = new LatestOnly(
    (origin) => model.decode(origin.mean),
    (pixels) => paint(again, pixels, shape),
    (problem) => model.fail(problem),
  );
  model.addEventListener("code", () => {
    const { origin } = model;
    if (!origin?.pixels || origin.reconstruction === undefined) return;
    row.hidden = false;
    paint(seen, origin.pixels, shape);
    error.textContent = `${formatFixed(origin.reconstruction)} nats`;
    divergence.textContent = `${formatFixed(kl(origin.mean, origin.logVar).reduce((sum, each) => sum + each, 0))} nats`;
    decoder.submit(origin);
  });
}
