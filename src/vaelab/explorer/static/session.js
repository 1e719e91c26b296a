import { decodeState, encodeState } from "./link.js";

/**
 * What the person does, on one model or on two side by side under one hand.
 *
 * Events: "pins" (a pin was set or removed), "options" (layers, colours, hidden classes), "history" (undo or redo has become
 * possible or impossible), "choosing" (an image has been chosen and is on its way). Codes, images and axes are events of the
 * models.
 */
export class Session extends EventTarget {
  /** Float32Array [latent] of each model under each pin, or null: { A: [code, code], … }. */
  pins = { A: null, B: null, C: null };
  /** What the map shows, and the group that colours it with the classes that are hidden. */
  options = { points: true, lattice: false, density: false, rings: true, group: 0, hidden: [], path: "linear" };

  #past = [];
  #future = [];
  #choices = 0;

  constructor(models) {
    super();
    this.models = models;
    this.#past.push(this.#snapshot());
  }

  /** Whether the two models know the same images by the same numbers. */
  get shareImages() { return new Set(this.models.map((model) => model.manifest.images_sha256)).size === 1; }
  get canUndo() { return this.#past.length > 1; }
  get canRedo() { return this.#future.length > 0; }

  // -- one hand: what is done to one model is done to the other as far as it can be --

  /** Every model's shown code moves to the same place of its own map. */
  moveTo(place) { for (const model of this.models) model.moveTo(place); }

  /** The image of a point of `model`, in every model that knows it. */
  choosePoint(model, index) {
    return this.#choose(this.shareImages ? this.models : [model], async (each) => shownBy(await encodePoint(each, index)));
  }

  /** A person's own picture, one Uint8Array [height × width × channel] for each model's size; `done`: the gesture has ended. */
  chooseOwnImage(pictures, done = true) {
    const read = async (model, i) => shownBy({ pixels: pictures[i], ...(await model.encode(pictures[i])) });
    return this.#choose(this.models, read, done);
  }

  /** A code of each model, such as a pin's, with the image whose code it is. */
  goTo(codes) {
    return this.#choose(this.models, async (model, i) => ({ code: codes[i], origin: await pointAt(model, codes[i]) }));
  }

  /** Shows the { code, origin } that `read` finds, all models together; not where the person has done something else meanwhile. */
  async #choose(models, read, done = true) {
    const choice = ++this.#choices;
    this.#emit("choosing");
    const before = models.map(({ code }) => code);
    const found = await Promise.all(models.map((model, i) => read(model, i).catch((error) => model.fail(error))));
    if (choice !== this.#choices || models.some(({ code }, i) => code !== before[i])) return;
    for (const [i, each] of found.entries()) if (each) models[i].setCode(each.code, each.origin);
    if (done) this.commit();
  }

  /** One draw from each model's sampler, the same for models with as many latents under N(0, I). */
  async sample(normal) {
    const shared = normal(this.models[0].width);
    const same = (width) => (width === shared.length ? shared : normal(width));
    try {
      const drawn = await Promise.all(this.models.map((model) => model.draw(same)));
      this.models.forEach((model, i) => model.setCode(drawn[i], { drawn: true }));
      this.commit();
    } catch (error) {
      this.models[0].fail(error);
    }
  }

  reset() { for (const model of this.models) model.setCode(model.manifest.mean); this.commit(); }

  // -- pins --

  /** Puts the shown codes under pin "A", "B" or "C". */
  setPin(name, codes = this.models.map((model) => model.code.slice())) {
    this.pins = { ...this.pins, [name]: codes };
    this.#emit("pins");
  }

  setOptions(changes) {
    this.options = { ...this.options, ...changes };
    this.#emit("options");
  }

  // -- back and forth --

  /** Remembers where we are: called at the end of a gesture. */
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

  /** Shows what a hash holds; false where it is none of ours or of other models. */
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

  #emit(what) { this.dispatchEvent(new Event(what)); }
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

/** The point whose code this very one is, as encodePoint gives it; null where it is no point's. */
async function pointAt(model, code) {
  const { indices, distances } = await model.backend.nearest(code);
  return distances[0] === 0 ? encodePoint(model, indices[0]) : null;
}

const shownBy = (origin) => ({ code: origin.mean, origin });
