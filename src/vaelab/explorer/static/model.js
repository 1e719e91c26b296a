import { dot, moveWithin, plane, plus } from "./algebra.js";
import { LatestOnly } from "./scheduling.js";

/** Codes that a backend decodes at once; more go one such batch after the other, so that a drag never waits long. */
const MOST = 64;

/**
 * One model on the page: its manifest, the shown code and its image.
 *
 * Events: "code" (the shown code has changed), "image" (its image has arrived), "axes" (the map has other axes), "condition" (codes
 * are decoded under another condition). "failed" carries an Error for the user in its detail.
 */
export class Model extends EventTarget {
  /** Float32Array [latent]: the shown code. */
  code;
  /** Uint8Array [height × width × channel]: the decoded image of the shown code, or of one just before it. */
  image = null;
  /**
   * The origin of the shown code, null after a move: { index } of a point, { pixels } of the user's picture, or { drawn: true } of a
   * sample. Points and pictures also have { mean, logVar, reconstruction, kl } once they are encoded.
   */
  origin = null;
  /** Uint8Array [condition] of 0 and 1: what codes are decoded under; null for an unconditional model. */
  condition = null;
  /** Columns of the manifest that the map shows. */
  axes = [0, 1];
  /** Two orthonormal vectors { x, y }: a code lies at [code·x, code·y] on the map. */
  plane;
  /** Where every point lies on the map: { x, y }, two Float32Array [points]. */
  positions;

  #columns = new Map();
  #groups = new Map();
  #decoder;
  #samples = null;

  /** Opens a model with its first map and its first group of classes. */
  static async open(backend) {
    const model = new Model();
    model.backend = backend;
    model.manifest = await backend.manifest();
    model.code = Float32Array.from(model.manifest.mean);
    if (model.manifest.condition) model.condition = Uint8Array.from(model.manifest.condition.typical);
    model.#decoder = new LatestOnly(
      async (code) => [await backend.decode(code, model.condition), code],
      ([image]) => { model.image = image; model.#emit("image"); },
      (error) => model.fail(error),
    );
    await model.setAxes(model.manifest.maps[0].axes);
    return model;
  }

  /** The key of this model in a link. */
  get key() { return this.manifest.codes_sha256.slice(0, 12); }
  get width() { return this.manifest.latent_dim; }
  get pixelCount() { const { height, width, channels } = this.manifest.image; return height * width * channels; }
  /** [x, y] of a code, by default the shown one. */
  position(code = this.code) { return [dot(code, this.plane.x), dot(code, this.plane.y)]; }

  /** Shows `code`; `origin` says what it came from. */
  setCode(code, origin = null) {
    this.code = Float32Array.from(code);
    this.origin = origin;
    this.#decoder.submit(this.code);
    this.#emit("code");
  }

  /** Decodes under another condition, a row of 0 and 1; what the shown code came from is left as it is. */
  setCondition(condition) {
    if (!this.condition || this.condition.every((value, i) => value === condition[i])) return;
    this.condition = Uint8Array.from(condition);
    this.#emit("condition");
    this.setCode(this.code, this.origin);
  }

  /** Encodes one image under the present condition. */
  encode(pixels) { return this.backend.encode(pixels, this.condition); }

  /** A code of the sampler: drawn here where that is N(0, I), else one of those that came with the manifest. */
  async draw(normal) {
    const { manifest: { samples }, width } = this;
    if (!samples) return normal(width);
    this.#samples ??= this.backend.samples();
    const which = Math.floor(Math.random() * samples);
    return (await this.#samples).slice(which * width, (which + 1) * width);
  }

  /** Moves the shown code on the map; what of it is off the map stays. */
  moveTo(position) { this.setCode(moveWithin(this.plane, this.code, position)); }

  /** How far the shown code lies along an attribute: 0 at the mean code of images without it, 1 at that with it. */
  amount({ direction, without }) {
    return dot(plus(this.code, without, -1), direction) / dot(direction, direction);
  }

  /** Images of any number of codes [n × latent], a few at a time. */
  async decode(codes) {
    const each = MOST * this.width;
    const images = new Uint8Array((codes.length / this.width) * this.pixelCount);
    for (let start = 0; start < codes.length; start += each) {
      images.set(await this.backend.decode(codes.slice(start, start + each), this.condition), (start / this.width) * this.pixelCount);
    }
    return images;
  }

  /** Every point's number along a column, Float32Array [points]; fetched once. */
  column(index) {
    if (!this.#columns.has(index)) {
      const { low, high } = this.manifest.columns[index];
      const scale = (high - low) / 65535;
      const found = this.backend.column(index).then((whole) => Float32Array.from(whole, (q) => low + (q + 32768) * scale));
      keep(this.#columns, index, found);
    }
    return this.#columns.get(index);
  }

  /** Every point's class, Uint8Array [points]; fetched once. */
  group(index) {
    if (!this.#groups.has(index)) keep(this.#groups, index, this.backend.group(index));
    return this.#groups.get(index);
  }

  /** The vector of a column, Float32Array [latent] of length 1. */
  vector(index) {
    const { latent, vector } = this.manifest.columns[index];
    const found = Float32Array.from(vector ?? { length: this.width }, (value) => value ?? 0);
    if (latent !== undefined) found[latent] = 1;
    return found;
  }

  /** Draws the map along two columns; false where they are one direction. */
  async setAxes([first, second]) {
    const [a, b] = [this.vector(first), this.vector(second)];
    const found = plane(a, b);
    if (!found) return false;
    const [x, other] = await Promise.all([this.column(first), this.column(second)]);
    const cosine = dot(a, b);
    const sine = Math.sqrt(1 - cosine * cosine);
    const y = Math.abs(cosine) < 1e-6 ? other : other.map((value, i) => (value - cosine * x[i]) / sine);
    Object.assign(this, { axes: [first, second], plane: found, positions: { x, y } });
    this.#emit("axes");
    return true;
  }

  fail(error) { this.dispatchEvent(new CustomEvent("failed", { detail: error })); }
  #emit(what) { this.dispatchEvent(new Event(what)); }
}

/** Keeps a promise, unless it comes to nothing: then it is asked for again. */
function keep(promises, key, promise) {
  promises.set(key, promise);
  promise.catch(() => promises.delete(key));
}
