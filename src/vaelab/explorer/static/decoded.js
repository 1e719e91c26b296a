import { drawNormal, norm } from "./algebra.js";
import { chiQuantile, chiCdf } from "./chi-distribution.js";
import { makeConditionChooser } from "./condition.js";
import { button, card, make } from "./dom.js";
import { oncePerFrame } from "./scheduling.js";
import { debounce } from "./scheduling.js";
import { formatFixed, formatCount } from "./numbers.js";
import { enlarged, paint, savePng } from "./pixels.js";

/** Pixels that a saved image has at least on its shorter side. */
const SAVED = 256;

/** The decoded image of the shown code, what it came from, and how long its code is beside those of the prior. */
export function mountDecoded(element, session, model) {
  const decoded = picture("decoded");
  const original = picture("original");
  const origin = make("p", { class: "origin" });
  const length = model.manifest.is_normal ? mountLength(model) : null; // lengths of other priors do not follow the χ distribution
  const key = (name) => make("kbd", { text: name, "aria-hidden": "true" });
  const tool = (text, name, work, title) => {
    const found = button(text, work, { title, "aria-keyshortcuts": name });
    found.append(key(name));
    return found;
  };
  const section = card("Decoded", { class: "decoded" },
    tool("Sample prior", "R", () => session.sample(drawNormal), sampleTitle(model.manifest)),
    tool("Reset", "0", () => session.reset(), "The mean code of the training images"),
    tool("Save image", "S", () => saveImage(model), "Save the image as a PNG"));
  const condition = makeConditionChooser(model);
  if (condition) section.append(condition);
  section.append(make("div", { class: "body" }, decoded.figure, make("div", { class: "source" }, origin, original.figure), length?.element));
  const { channels } = model.manifest.image;
  if (channels !== 1 && channels !== 3) section.append(make("p", { class: "hint", text: `Images show the first ${channels === 2 ? "" : "three "}of ${channels} channels. The model sees all.` }));
  element.append(section);

  const describe = debounce(async () => {
    const text = await describeOrigin(session, model);
    if (text === null) return;
    origin.textContent = text;
    decoded.canvas.setAttribute("aria-label", `Decoded image. ${text}`);
    original.canvas.setAttribute("aria-label", `Original image. ${text}`);
  }, 100);
  const update = oncePerFrame(() => {
    const pixels = model.origin?.pixels;
    original.figure.classList.toggle("none", !pixels); // its position stays, so that nothing jumps under a hand that drags
    decoded.caption.textContent = pixels ? "reconstruction" : "decoded";
    if (pixels) paint(original.canvas, pixels, model.manifest.image);
    length?.show(norm(model.code));
    describe();
  });
  const show = () => { if (model.image) paint(decoded.canvas, model.image, model.manifest.image); };
  model.addEventListener("image", show);
  model.addEventListener("code", update);
  session.addEventListener("options", describe);
  document.addEventListener("explorer:save", () => saveImage(model));
  show();
  update();
}

function sampleTitle({ is_normal: isNormal, sampler, prior }) {
  if (isNormal) return "A random code from the prior N(0, I)";
  return sampler === "prior" ? `A random code from the model’s prior (${prior})` : `A random code from the sampler ${sampler}`;
}

function picture(name) {
  const canvas = make("canvas", { class: "image", role: "img", "aria-label": `${name} image` });
  const caption = make("figcaption", { text: name });
  return { canvas, caption, figure: make("figure", {}, canvas, caption) };
}

/** In words where the shown code comes from; null where another code was shown while its class was looked up. */
async function describeOrigin(session, model) {
  const { origin, code, manifest } = model;
  if (origin?.index !== undefined) {
    const name = `Training image #${formatCount(origin.index)}`;
    const group = manifest.groups[session.options.group];
    if (!group) return name;
    const classes = await model.group(session.options.group).catch(() => []);
    if (model.origin !== origin) return null;
    const value = group.values[classes[origin.index]];
    return value === undefined ? name : `${name}, ${group.name}: ${value}`;
  }
  if (origin?.pixels) return "Your own image, as the model sees it";
  if (origin?.drawn) return manifest.sampler === "prior" ? "Drawn from the prior" : `Drawn from the sampler ${manifest.sampler}`;
  const isMean = manifest.mean.every((value, i) => Math.fround(value) === code[i]);
  return isMean ? "Mean code of the training images" : "Not the code of an image";
}

/** The length of the shown code on a line where 90 % of the prior's samples are marked. */
function mountLength({ width }) {
  const [low, median, high] = [0.05, 0.5, 0.95].map((each) => chiQuantile(each, width));
  const end = 1.6 * high;
  const at = (value) => `${100 * Math.min(1, value / end)}%`;
  const value = make("strong", { class: "number" });
  const verdict = make("p", {});
  const band = make("i", { class: "band" });
  const middle = make("i", { class: "median" });
  const mark = make("i", { class: "mark" });
  Object.assign(band.style, { left: at(low), width: at(high - low) });
  middle.style.left = at(median);
  const expected = `The prior’s: ${formatFixed(median, 2)} (90 %: ${formatFixed(low, 2)}–${formatFixed(high, 2)})`;
  const title = `Norms of samples from N(0, I) in ${width} dimensions follow the χ distribution`;
  const element = make("div", { class: "length" },
    make("p", {}, make("span", { text: "Norm of the code ‖z‖ " }), value),
    make("div", { class: "gauge", "aria-hidden": "true" }, band, middle, mark),
    verdict, make("p", { class: "hint number", text: expected, title }));
  const show = (length) => {
    value.textContent = formatFixed(length, 2);
    verdict.textContent = `${compare(100 * chiCdf(length, width))} of the prior’s samples`;
    mark.style.left = at(length);
  };
  return { element, show };
}

/** "larger than 83 %", "smaller than nearly all". */
function compare(percent) {
  const [word, most] = percent < 50 ? ["smaller", 100 - percent] : ["larger", percent];
  return `${word} than ${most > 99.5 ? "nearly all" : `${Math.round(most)} %`}`;
}

function saveImage(model) {
  if (!model.image) return;
  const { height, width } = model.manifest.image;
  const canvas = document.createElement("canvas");
  paint(canvas, model.image, model.manifest.image);
  const name = model.origin?.index === undefined ? "decoded" : `reconstruction-${model.origin.index}`;
  savePng(enlarged(canvas, Math.ceil(SAVED / Math.min(height, width))), `${model.manifest.run}-${name}.png`);
}
