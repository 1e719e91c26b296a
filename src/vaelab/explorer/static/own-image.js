import { button, card, make } from "./dom.js";
import { centreStrokes, measureLayout } from "./drawing-layout.js";
import { LatestOnly } from "./scheduling.js";
import { formatFixed, formatCount } from "./numbers.js";
import { Pad } from "./pad.js";
import { asPicture, fit, openPicture } from "./resize.js";
import { mountReconstruction } from "./reconstruction.js";

/** Training images that are looked at for how drawings have to be laid out. */
const LOOKED_AT = 64;

/** The user's own image: drawn, if all models are grey, or a file that is dropped, pasted or chosen. A picture has no more than RGB. */
export function mountOwnImage(element, session) {
  const { models } = session;
  if (!models.every(({ manifest }) => [1, 3].includes(manifest.image.channels))) return;
  const isGrey = models.every(({ manifest }) => manifest.image.channels === 1);
  const chooser = make("input", { type: "file", accept: PICTURES, hidden: true, onchange: () => { own.take(chooser.files); chooser.value = ""; } });
  const panel = card("Your own image", { class: "own" });
  const problem = make("p", { class: "problem", role: "alert" });
  const bench = make("div", { class: "bench" });
  const ways = make("div", { class: "row" },
    button("Open image…", () => chooser.click()),
    button("Random training image", () => own.takeRandom().catch((error) => models[0].fail(error))),
  );
  const hint = make("p", { class: "hint", text: `${isGrey ? "Draw, or drop" : "Drop"} or paste an image anywhere on the page.` });
  panel.append(hint, bench, ways, chooser, problem);
  const own = new OwnImage(session, (error) => { problem.textContent = error?.message ?? ""; });
  for (const model of models) mountReconstruction(panel, model, { named: models.length > 1 });
  panel.append(mountReturnLink(session));
  element.append(panel);
  receiveFiles(panel, (files) => own.take(files));
  if (isGrey) own.lookAtTraining().then(() => mountPadControls(bench, own), (error) => models[0].fail(error));
}

/** The user's picture or drawing and its layout. Event: "source" (another picture or drawing, or other settings). */
class OwnImage extends EventTarget {
  centred = false;
  invert = false;
  pad = null;
  /** The picture from a file that is shown; null while the drawing is. */
  picture = null;

  #session; #report; #layouts = []; #asked = null; #reader;
  /** The source and settings of laid-out pixels, for undo and redo. */
  #sources = new WeakMap();

  constructor(session, report) {
    super();
    this.#session = session;
    this.#report = report;
    const read = async ({ done }) => { if (this.#isGiven) await session.chooseOwnImage(this.#lay(), done); };
    this.#reader = new LatestOnly(read, (_, input) => { if (this.#asked === input) this.#asked = null; }, report);
    session.addEventListener("history", () => this.#update());
  }

  get layout() { return this.#layouts[0]; }

  get #isGiven() { return Boolean(this.picture || this.pad?.strokes.length); }

  async lookAtTraining() {
    this.#layouts = await Promise.all(this.#session.models.map(async ({ backend, manifest }) => {
      const count = Math.min(LOOKED_AT, manifest.count);
      const indices = Array.from({ length: count }, (_, i) => Math.floor((i * manifest.count) / count));
      return measureLayout(await backend.images(indices), manifest.image);
    }));
    this.centred = this.layout.centred;
    this.pad = new Pad(this.#session.models[0].manifest.image, this.layout);
    this.pad.addEventListener("draw", () => this.#drawn(false));
    this.pad.addEventListener("drawn", () => this.#drawn(true));
  }

  /** Reads what there is with the present settings; `done`: the gesture has ended. */
  read(done = true) {
    if (!this.#isGiven) return;
    this.#asked = { done };
    this.#reader.submit(this.#asked);
  }

  /** Reads the first of some files that is a picture; says why where none is. */
  async take(files) {
    if (!files?.length) return;
    this.#report(null);
    try {
      this.picture = await firstPicture([...files]);
      this.invert = Boolean(this.layout?.centred) && isBright(this.picture) === this.layout.dark;
      this.dispatchEvent(new Event("source"));
      this.read();
    } catch (error) {
      this.#report(error);
    }
  }

  async takeRandom() {
    const { models } = this.#session;
    const index = Math.floor(Math.random() * models[0].manifest.count);
    if (this.#session.shareImages) return this.#session.choosePoint(models[0], index);
    const picture = asPicture(await models[0].backend.images([index]), models[0].manifest.image);
    return this.#session.chooseOwnImage(models.map(({ manifest }) => fit(picture, manifest.image)));
  }

  #drawn(done) {
    this.picture = null;
    this.#report(null);
    this.dispatchEvent(new Event("source"));
    this.read(done);
  }

  /** The picture or the drawing, in each model's shape. */
  #lay() {
    const { pad, picture, invert, centred } = this;
    const shapes = this.#session.models.map(({ manifest }) => manifest.image);
    const paper = this.layout?.centred && this.layout.dark !== invert ? 0 : 255; // what becomes the training images' ground
    const drawing = picture ? null : pad.picture(centred ? centreStrokes(pad.strokes, pad.pen, this.layout, shapes[0]) : pad.strokes);
    const pictures = shapes.map((shape, i) => (picture
      ? fit(picture, shape, { paper, invert, layout: centred ? this.#layouts[i] : null })
      : fit(drawing, shape)));
    for (const pixels of pictures) this.#sources.set(pixels, { picture, invert, centred, strokes: pad?.strokes });
    return pictures;
  }

  /** Shows what an own image that undo or redo has brought back was made of. */
  #update() {
    const source = this.#sources.get(this.#session.models[0].origin?.pixels);
    if (!source || this.#asked || this.pad?.isDrawing) return;
    const { strokes, ...settings } = source;
    Object.assign(this, settings);
    if (strokes) this.pad.show(strokes);
    this.dispatchEvent(new Event("source"));
  }
}

/** The first picture among files; the error of the first file where there is none. */
async function firstPicture(files) {
  let failure = null;
  for (const file of files) {
    try {
      return await openPicture(file);
    } catch (error) {
      failure ??= error;
    }
  }
  throw failure;
}

/** Whether a picture's outermost pixels are bright, where they can be seen at all: ink on paper, mostly. */
function isBright({ width, height, data }) {
  let [sum, count] = [0, 0];
  for (let i = 0; i < width * height; i++) {
    const [x, y] = [i % width, Math.floor(i / width)];
    if (x > 0 && y > 0 && x < width - 1 && y < height - 1) continue;
    const opacity = data[4 * i + 3] / 255;
    sum += opacity * data[4 * i + 1] + (1 - opacity) * 255;
    count++;
  }
  return sum / count > 127.5;
}

/** The pad with its settings. */
function mountPadControls(element, own) {
  const { pad } = own;
  const size = Math.min(pad.element.width, pad.element.height) / pad.grain;
  const width = make("output", { class: "number", text: formatFixed(pad.pen) });
  const pen = make("input", { type: "range", min: 0.5, max: Math.max(4, size / 5), step: 0.1, value: pad.pen, oninput: () => {
    pad.pen = Number(pen.value);
    width.textContent = formatFixed(pad.pen);
    if (!own.picture) own.read(false);
  }, onchange: () => { if (!own.picture) own.read(); } });
  const undo = button("Undo stroke", () => pad.undo());
  const clear = button("Clear", () => { pad.show([]); refresh(); });
  const check = (text, key) => {
    const box = make("input", { type: "checkbox", onchange: () => { own[key] = box.checked; own.read(); } });
    return [box, make("label", { class: "check" }, box, text)];
  };
  const [centred, centredLabel] = check("Centre like the training images", "centred");
  const [invert, invertLabel] = check("Invert the image", "invert");
  const refresh = () => {
    undo.disabled = clear.disabled = pad.strokes.length === 0;
    [centred.checked, invert.checked] = [own.centred, own.invert];
    invertLabel.hidden = !own.picture;
    element.classList.toggle("dark", own.layout.dark);
  };
  for (const what of ["draw", "drawn"]) pad.addEventListener(what, refresh);
  own.addEventListener("source", refresh);
  element.append(
    make("div", { class: "sheet" }, pad.element, make("span", { text: "draw here", "aria-hidden": "true" })),
    make("div", { class: "settings" },
      make("label", { class: "pen" }, "Pen", pen, width),
      make("div", { class: "row" }, undo, clear),
      own.layout.centred ? centredLabel : null, invertLabel),
  );
  refresh();
}

/** Says which image was read last, with the way back to it once the shown code has moved on. */
function mountReturnLink(session) {
  const [first] = session.models;
  let kept = null;
  const what = make("span");
  const back = button("Show it again", () => (kept[0].index === undefined
    ? session.chooseOwnImage(kept.map(({ pixels }) => pixels))
    : session.choosePoint(first, kept[0].index)));
  const line = make("p", { class: "return hint", hidden: true }, what, back);
  first.addEventListener("code", () => {
    const isShown = Boolean(first.origin?.pixels);
    if (isShown) queueMicrotask(() => { kept = session.models.map(({ origin }) => origin); });
    line.hidden = !isShown && !kept;
    const index = isShown ? first.origin.index : kept?.[0].index;
    const name = index === undefined ? "Your image" : `Training image #${formatCount(index)}`;
    what.textContent = isShown ? `${name} is shown.` : `${name}; the current code is a different one. `;
    back.hidden = isShown;
  });
  return line;
}

/** Hands over files that are dropped or pasted anywhere on the page. */
function receiveFiles(panel, take) {
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  const mark = (is) => panel.classList.toggle("dropping", is);
  document.addEventListener("dragover", (event) => { if (holdsFiles(event)) { event.preventDefault(); mark(true); } });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) mark(false); });
  document.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    mark(false);
    take(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) take(event.clipboardData.files);
  });
}

const PICTURES = "image/*";
