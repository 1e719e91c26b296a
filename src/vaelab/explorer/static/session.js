import { decodeState, encodeState } from "./link.js";

/**
 * The state of the page and the user's actions, on one model or on two side by side that move together.
 *
 * Events: "pins" (a pin was set or removed), "options" (layers, colours, hidden classes), "history" (undo or redo changed)
 * and "choosing" (an image is being encoded). Shared displays: "frame" (the maps have moved), "maximum" (the scale of bars has changed).
 */
export class Session extends EventTarget {
  /** Float32Array [latent] of each model under each pin, or null: { A: [code, code], … }. */
  pins = { A: null, B: null, C: null };
  /** The layers of the map, the group that colours it, its hidden classes, and the interpolation between pins. */
  options = { points: true, lattice: false, density: false, rings: true, group: 0, hidden: [], path: "linear" };
  /** The part of the plane that all maps show, see map-view.js. */
  frame = { centre: [0, 0], span: 1, fitted: 1 };

  #past = [];
  #future = [];
  #choices = 0;
  #extents = new Map();
  #maxima = { loss: new Map(), kl: new Map() };

  constructor(models) {
    super();
    this.models = models;
    this.#past.push(this.#snapshot());
  }

  /** Whether the models have the same images under the same indices. */
  get shareImages() { return new Set(this.models.map((model) => model.manifest.images_sha256)).size === 1; }
  get canUndo() { return this.#past.length > 1; }
  get canRedo() { return this.#future.length > 0; }

  // -- one scale for all models --

  /** Sets { left, right, bottom, top } of the points of a model. */
  setExtent(model, extent) { this.#extents.set(model, extent); }

  /** The smallest { left, right, bottom, top } that holds the points of all models. */
  get extent() {
    const all = [...this.#extents.values()];
    const [low, high] = [Math.min, Math.max].map((choose) => (side) => choose(...all.map((each) => each[side])));
    return { left: low("left"), right: high("right"), bottom: low("bottom"), top: high("top") };
  }

  /** Announces that the shared frame has changed. */
  moveFrame() { this.#emit("frame"); }

  /** Sets the largest value of a model's bars, "loss" or "kl". */
  setMaximum(kind, model, value) {
    this.#maxima[kind].set(model, value);
    this.#emit("maximum");
  }

  /** The largest value of all models' bars. */
  maximum(kind) { return Math.max(1e-6, ...this.#maxima[kind].values()); }

  // -- moving all models together, each as far as it can --

  /** Moves every model's shown code to the same position on its own map. */
  moveTo(position) { for (const model of this.models) model.moveTo(position); }

  /** Shows the image of a point of `model` in every model that has it. */
  choosePoint(model, index) {
    return this.#choose(this.shareImages ? this.models : [model], async (each) => withCode(await encodePoint(each, index)));
  }

  /** Encodes the user's picture, one Uint8Array [height × width × channel] per model; `done`: the gesture has ended. */
  chooseOwnImage(pictures, done = true) {
    const encode = async (model, i) => withCode({ pixels: pictures[i], ...(await model.encode(pictures[i])) });
    return this.#choose(this.models, encode, done);
  }

  /** Shows a code of each model, such as a pin's, with the image whose code it is. */
  goTo(codes) {
    return this.#choose(this.models, async (model, i) => ({ code: codes[i], origin: await pointAt(model, codes[i]) }));
  }

  /** Shows the { code, origin } that `find` returns for each model, unless the user did something else meanwhile. */
  async #choose(models, find, done = true) {
    const choice = ++this.#choices;
    this.#emit("choosing");
    const before = models.map(({ code }) => code);
    const found = await Promise.all(models.map((model, i) => find(model, i).catch((error) => model.fail(error))));
    if (choice !== this.#choices || models.some(({ code }, i) => code !== before[i])) return;
    for (const [i, each] of found.entries()) if (each) models[i].setCode(each.code, each.origin);
    if (done) this.commit();
  }

  /** Shows a code of each model, as one step of undo. */
  showCodes(codes) {
    this.models.forEach((model, i) => model.setCode(codes[i]));
    this.commit();
  }

  /** Draws a code from each model's sampler; models of the same width under N(0, I) get the same code. */
  async sample(drawNormal) {
    const shared = drawNormal(this.models[0].width);
    const draw = (width) => (width === shared.length ? shared : drawNormal(width));
    try {
      const drawn = await Promise.all(this.models.map((model) => model.draw(draw)));
      this.models.forEach((model, i) => model.setCode(drawn[i], { drawn: true }));
      this.commit();
    } catch (error) {
      this.models[0].fail(error);
    }
  }

  reset() { this.showCodes(this.models.map((model) => model.manifest.mean)); }

  // -- pins and options --

  /** Sets pin "A", "B" or "C" to the shown codes. */
  setPin(name, codes = this.models.map((model) => model.code.slice())) {
    this.pins = { ...this.pins, [name]: codes };
    this.#emit("pins");
  }

  setOptions(changes) {
    this.options = { ...this.options, ...changes };
    this.#emit("options");
  }

  // -- undo and redo --

  /** Records the shown codes in the history; called at the end of a gesture. */
  commit() {
    const [now, before] = [this.#snapshot(), this.#past.at(-1)];
    if (now.every((entry, i) => entry.code.every((value, j) => value === before[i].code[j]))) return;
    this.#past.push(now);
    if (this.#past.length > 200) this.#past.shift();
    this.#future = [];
    this.#emit("history");
  }

  undo() { if (this.canUndo) { this.#future.push(this.#past.pop()); this.#show(this.#past.at(-1)); } }

  redo() { if (this.canRedo) { this.#past.push(this.#future.pop()); this.#show(this.#past.at(-1)); } }

  #snapshot() { return this.models.map(({ code, origin }) => ({ code: code.slice(), origin })); }

  #show(snapshot) {
    this.models.forEach((model, i) => model.setCode(snapshot[i].code, snapshot[i].origin));
    this.#emit("history");
  }

  // -- the view as a link --

  /** The hash of an address that restores codes, axes, pins and options. */
  link() {
    const models = this.models.map(({ key, code, axes }) => ({ key, code, axes }));
    return encodeState({ models, pins: this.pins, options: this.options });
  }

  /** Shows the view of a hash; false if it is not ours or belongs to other models. */
  async restore(hash) {
    const state = decodeState(hash, this.models);
    if (!state) return false;
    this.pins = state.pins;
    this.options = { ...this.options, ...state.options };
    for (const [i, model] of this.models.entries()) {
      const { code, axes } = state.models[i];
      if (axes.every((axis) => axis in model.manifest.columns)) await model.setAxes(axes);
      model.setCode(code, await pointAt(model, code).catch((error) => model.fail(error)));
    }
    this.#emit("pins");
    this.#emit("options");
    this.commit();
    return true;
  }

  #emit(name) { this.dispatchEvent(new Event(name)); }
}

/** A point as the origin of a shown code, see model.js. */
async function encodePoint(model, index) {
  const { backend } = model;
  const [mean, pixels, condition] = await Promise.all([
    backend.codes([index]), backend.images([index]), model.condition ? backend.conditions([index]) : null,
  ]);
  if (condition) model.setCondition(condition);
  return { index, pixels, ...(await model.encode(pixels)), mean };
}

/** The point with exactly this code, as encodePoint returns it; null if there is none. */
async function pointAt(model, code) {
  const { indices, distances } = await model.backend.nearest(code);
  return distances[0] === 0 ? encodePoint(model, indices[0]) : null;
}

const withCode = (origin) => ({ code: origin.mean, origin });
