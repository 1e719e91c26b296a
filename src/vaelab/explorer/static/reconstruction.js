import { make } from "./dom.js";
import { formatFixed } from "./numbers.js";
import { paint } from "./pixels.js";
import { LatestOnly } from "./scheduling.js";

/**
 * A row with the image that the model sees, its reconstruction and both terms of the loss. It keeps the last encoded image while
 * the shown code moves on.
 */
export function mountReconstruction(element, model, { named = false } = {}) {
  const shape = model.manifest.image;
  const image = (label) => make("canvas", { class: "image", width: shape.width, height: shape.height, role: "img", "aria-label": label });
  const [input, output] = [image("What the model sees"), image("Its reconstruction")];
  const [reconstruction, divergence] = [make("dd", { class: "number" }), make("dd", { class: "number" })];
  const row = make("div", { class: "reconstruction-row", role: "group", "aria-label": named ? `Seen by ${model.manifest.run}` : "Seen by the model", hidden: true },
    named ? make("h3", { text: model.manifest.run }) : null,
    make("figure", {}, input, make("figcaption", { text: "what the model sees" })),
    make("figure", {}, output, make("figcaption", { text: "its reconstruction" })),
    make("dl", {}, make("dt", { text: "Reconstruction" }), reconstruction, make("dt", { text: "KL" }), divergence),
  );
  element.append(row);

  const decoder = new LatestOnly(
    (origin) => model.decode(origin.mean),
    (pixels) => paint(output, pixels, shape),
    (error) => model.fail(error),
  );
  model.addEventListener("code", () => {
    const { origin } = model;
    if (!origin?.pixels || origin.reconstruction === undefined) return;
    row.hidden = false;
    paint(input, origin.pixels, shape);
    reconstruction.textContent = `${formatFixed(origin.reconstruction)} nats`;
    divergence.textContent = `${formatFixed(origin.kl)} nats`;
    decoder.submit(origin);
  });
}
