import { card, make } from "./dom.js";
import { LatestOnly, debounce } from "./scheduling.js";
import { formatFixed, formatCount } from "./numbers.js";
import { paint } from "./pixels.js";

const COUNT = 5;
const NO_CLASS = 255;

/** The training images whose codes are nearest to the shown one, each a way to go there. */
export function mountNearest(element, session, model) {
  const { manifest, backend } = model;
  const panel = card("Nearest training images", { class: "nearest" });
  const hint = make("p", { class: "hint" });
  const thumbnails = Array.from({ length: Math.min(COUNT, manifest.count) }, () => makeThumbnail(manifest.image, (index) => session.choosePoint(model, index)));
  panel.append(hint, make("ol", { class: "thumbnails" }, ...thumbnails.map(({ item }) => item)));
  element.append(panel);

  let found = null;
  const finder = new LatestOnly(
    async (code) => {
      const { indices, distances } = await backend.nearest(code);
      return { indices, distances, images: await backend.images(indices) };
    },
    (result) => { found = result; show(); },
    (error) => model.fail(error),
  );
  const ask = debounce(() => finder.submit(model.code), 80);

  const show = () => fill().catch((error) => model.fail(error));
  async function fill() {
    const { group } = session.options;
    const names = manifest.groups[group];
    hint.textContent = `Of ${formatCount(manifest.count)}, by distance of posterior means${names ? `; with ${names.name}, number and distance` : ""}.`;
    if (!found) return;
    const classes = names ? await model.group(group) : null;
    const { indices, distances, images } = found;
    const classOf = (index) => (classes && classes[index] !== NO_CLASS ? names.values[classes[index]] : null);
    thumbnails.forEach((thumbnail, i) => thumbnail.show({
      index: indices[i], distance: distances[i], images, start: i * model.pixelCount, name: names?.name, value: classOf(indices[i]),
    }));
  }

  model.addEventListener("code", ask);
  session.addEventListener("options", show);
  show();
  ask();
}

/** One of the thumbnails in the row: its list item, and how it is filled; the button stays, and with it the focus. */
function makeThumbnail(shape, choose) {
  let shown = null;
  const canvas = make("canvas", { class: "image", width: shape.width, height: shape.height, "aria-hidden": "true" });
  const [what, number, away] = ["what", "which number", "away number"].map((name) => make("span", { class: name }));
  const words = ["Training image ", ", distance "].map((text) => make("span", { class: "visually-hidden", text }));
  const go = make("button", { type: "button", class: "thumbnail", disabled: true, onclick: () => choose(shown) }, canvas, what, words[0], number, words[1], away);
  return {
    item: make("li", {}, go),
    show({ index, distance, images, start, name, value }) {
      const far = distance < 5e-5 ? "0" : formatFixed(distance, distance < 0.1 ? 4 : 2);
      shown = index;
      go.disabled = false;
      paint(canvas, images, shape, start);
      what.textContent = value ?? "";
      what.hidden = value === null;
      number.textContent = formatCount(index);
      away.textContent = far;
      const label = value === null ? "" : `, ${name} ${value}`;
      go.title = `Show training image ${formatCount(index)}${label}; its posterior mean is ${far} away`;
    },
  };
}
