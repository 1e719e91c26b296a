/**
 * A model behind `vaelab explore`: bodies are bare arrays, little-endian. The other backend, on ONNX in a worker, has
 * the same methods (onnx.js); a page never knows which of them it has.
 */
export class HttpBackend {
  #root;

  /** `root`: where this run's part of the server is, such as "runs/0/". */
  constructor(root) {
    this.#root = root;
  }

  /** The manifest of the run, see payload.py. */
  async manifest() {
    return (await this.#get("manifest")).json();
  }

  /** Every point's number along column `index` of the manifest: Int16Array [points], to be scaled by its `low` and `high`. */
  async column(index) {
    return new Int16Array(await (await this.#get(`columns/${index}`)).arrayBuffer());
  }

  /** Every point's class in group `index` of the manifest: Uint8Array [points], 255 for none. */
  async group(index) {
    return new Uint8Array(await (await this.#get(`groups/${index}`)).arrayBuffer());
  }

  /** Posterior means of points: Float32Array [indices × latent]. */
  async codes(indices) {
    return new Float32Array(await this.#post("codes", Int32Array.from(indices)));
  }

  /** Pixels of points as the model sees them: Uint8Array [indices × height × width × channel]. */
  async images(indices) {
    return new Uint8Array(await this.#post("images", Int32Array.from(indices)));
  }

  /** The five points whose codes are nearest, nearest first: { indices, distances }. */
  async nearest(code) {
    const body = await this.#post("nearest", code);
    const count = body.byteLength / 8;
    return { indices: new Int32Array(body, 0, count), distances: new Float32Array(body, 4 * count, count) };
  }

  /** Conditions of points, of a conditional model: Uint8Array [indices × condition] of 0 and 1. */
  async conditions(indices) {
    return new Uint8Array(await this.#post("conditions", Int32Array.from(indices)));
  }

  /** Codes drawn from the sampler: Float32Array [manifest.samples × latent]. */
  async samples() {
    return new Float32Array(await (await this.#get("samples")).arrayBuffer());
  }

  /** Mean images of at most MOST codes [n × latent] under a condition (null: none): Uint8Array [n × height × width × channel]. */
  async decode(codes, condition) {
    return new Uint8Array(await this.#post(`decode${query(condition)}`, codes));
  }

  /** The encoding of one image [height × width × channel]: { mean, logVar, reconstruction, kl }, losses in nats. */
  async encode(pixels, condition) {
    const numbers = new Float32Array(await this.#post(`encode${query(condition)}`, pixels));
    const width = (numbers.length - 2) / 2;
    const [reconstruction, kl] = numbers.slice(2 * width);
    return { mean: numbers.slice(0, width), logVar: numbers.slice(width, 2 * width), reconstruction, kl };
  }

  async #get(path) {
    return checked(await fetch(this.#root + path, { cache: "no-store" }));
  }

  async #post(path, body) {
    const headers = { "Content-Type": "application/octet-stream" };
    return (await checked(await fetch(this.#root + path, { method: "POST", headers, body }))).arrayBuffer();
  }
}

/** A condition, a row of 0 and 1, by the numbers of what it has. */
function query(condition) {
  if (!condition) return "";
  return `?condition=${Array.from(condition.keys()).filter((i) => condition[i]).join(",")}`;
}

/** The answer, or an error with the server's one line. */
async function checked(answer) {
  if (!answer.ok) throw new Error((await answer.text()) || `${answer.status} ${answer.statusText}`);
  return answer;
}
