import { dot } from "./algebra.js";
import { moduleUrl, download, gunzip, readJson, readFile } from "./export-files.js";

const GRAPHS = ["encoder", "decoder", "likelihood"];
const NEAREST = 5;

/**
 * A model without a server: its points are in memory, its networks run on onnxruntime-web in a worker. The other backend
 * is in http.js and says what the methods give.
 */
export class OnnxBackend {
  #manifest; #codes; #groups; #images; #conditions; #samples; #worker;

  /** The model of the exported page that we are in; its points are here at once, its networks soon. */
  static async open() {
    const { explorer: manifest, runtime, model } = await readJson("manifest.json");
    const backend = new OnnxBackend();
    backend.#manifest = manifest;
    backend.#worker = new WorkerClient(new URL("./inference-worker.js", import.meta.url), prepareWorker(manifest, runtime, model));
    backend.#images = unpackImages(manifest, model);
    backend.#images.catch(() => {}); // told to whoever asks for images
    const [codes, groups] = await Promise.all([readFile(model.codes), readFile(model.groups)]);
    backend.#codes = new Float32Array(codes);
    backend.#groups = new Uint8Array(groups);
    backend.#conditions = manifest.condition ? readFile(model.conditions).then((rows) => new Uint8Array(rows)) : null;
    backend.#samples = manifest.samples ? readFile(model.samples) : null;
    return backend;
  }

  async manifest() { return this.#manifest; }

  async column(index) {
    const { latent, vector, low, high } = this.#manifest.columns[index];
    const { count, latent_dim: width } = this.#manifest;
    const steps = high > low ? 65535 / (high - low) : 0;
    return Int16Array.from({ length: count }, (_, i) => {
      const along = vector ? dot(vector, this.#code(i)) : this.#codes[i * width + latent];
      return Math.min(65535, Math.max(0, Math.round((along - low) * steps))) - 32768;
    });
  }

  async group(index) {
    const { count } = this.#manifest;
    return this.#groups.slice(index * count, (index + 1) * count);
  }

  async codes(indices) { return gather(this.#codes, indices, this.#manifest.latent_dim); }

  async images(indices) { return gather(await this.#images, indices, pixelCount(this.#manifest)); }

  async nearest(code) {
    const squares = Float32Array.from({ length: this.#manifest.count }, (_, i) => {
      let sum = 0;
      for (let j = 0, start = i * code.length; j < code.length; j++) sum += (this.#codes[start + j] - code[j]) ** 2;
      return sum;
    });
    const indices = smallest(squares, NEAREST);
    return { indices, distances: Float32Array.from(indices, (i) => Math.sqrt(squares[i])) };
  }

  async conditions(indices) { return gather(await this.#conditions, indices, this.#manifest.condition.names.length); }

  async samples() { return new Float32Array(await this.#samples); }

  async decode(codes, condition) { return this.#worker.request("decode", Float32Array.from(codes), condition); }

  /** Mean images of codes before they become integers, Float32Array [n × channel × height × width]. */
  async decodeFloats(codes, condition) { return this.#worker.request("decodeFloats", Float32Array.from(codes), condition); }

  async encode(pixels, condition) { return this.#worker.request("encode", Uint8Array.from(pixels), condition); }

  #code(index) {
    const { latent_dim: width } = this.#manifest;
    return this.#codes.subarray(index * width, (index + 1) * width);
  }
}

/** A worker to which questions are put, each with its promise. */
class WorkerClient {
  #worker; #ready; #broken = null; #waiting = new Map(); #count = 0;

  /** `opening`: a promise of { input, transfer }, what the worker needs before the first question. */
  constructor(address, opening) {
    this.#worker = new Worker(address);
    this.#worker.addEventListener("message", ({ data: { id, result, error } }) => {
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) resolve(result);
      else reject(new Error(error));
    });
    this.#worker.addEventListener("error", ({ message }) => {
      this.#broken = new Error(`the networks could not be started${message ? `: ${message}` : " in this browser"}`);
      for (const { reject } of this.#waiting.values()) reject(this.#broken);
    });
    this.#ready = opening.then(({ input, transfer }) => this.#put("open", input, transfer));
    this.#ready.catch(() => {}); // told to whoever asks
  }

  async request(task, input, condition = null) {
    await this.#ready;
    return this.#put(task, input, [input.buffer], condition);
  }

  #put(task, input, transfer, condition = null) {
    if (this.#broken) return Promise.reject(this.#broken);
    const id = this.#count++;
    this.#worker.postMessage({ id, task, input, condition }, transfer);
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }
}

/** The input of the worker's first task and the buffers to transfer: the runtime and the graphs. */
async function prepareWorker({ image, latent_dim: width }, runtime, model) {
  const [module, wasm, ...graphs] = await Promise.all([
    moduleAddress(runtime),
    runtimeFile(runtime, runtime.wasm),
    ...GRAPHS.map((name) => readFile(model[name])),
  ]);
  const input = { module, wasm, image, width, graphs: Object.fromEntries(GRAPHS.map((name, i) => [name, graphs[i]])) };
  return { input, transfer: [wasm, ...graphs] };
}

/** A file of the runtime: of the export, or from the network and then checked against its digest. */
const runtimeFile = ({ base, integrity }, name) => (integrity ? download(base + name, integrity[name]) : readFile(base + name));

/** Where a worker can import the runtime from: a file beside the page, else what was inlined or downloaded. */
async function moduleAddress(runtime) {
  if (!runtime.integrity && !globalThis.vaelabParts) return new URL(runtime.base + runtime.module, document.baseURI).href;
  return moduleUrl(await runtimeFile(runtime, runtime.module));
}

/**
 * All images, uint8 [points × height × width × channel]. They are gzipped, as they are or as differences of each pixel to its left
 * neighbour. Unlike pictures read through a canvas, they are exact in every browser.
 */
async function unpackImages(manifest, model) {
  const images = new Uint8Array(await gunzip(await readFile(model.images)));
  if (model.images_predictor === "left") {
    const { width, channels } = manifest.image;
    const row = width * channels;
    for (let start = 0; start < images.length; start += row) {
      for (let i = start + channels; i < start + row; i++) images[i] += images[i - channels];
    }
  }
  return images;
}

const pixelCount = ({ image: { height, width, channels } }) => height * width * channels;

/** Rows of an array, each of `size` numbers, one after the other. */
function gather(array, indices, size) {
  const found = new array.constructor(indices.length * size);
  Array.from(indices).forEach((index, i) => found.set(array.subarray(index * size, (index + 1) * size), i * size));
  return found;
}

/** Where the `count` smallest of some numbers are, smallest first; of equals the first. */
function smallest(numbers, count) {
  const found = [];
  for (let i = 0; i < numbers.length; i++) {
    if (found.length === count && numbers[i] >= numbers[found[count - 1]]) continue;
    const position = found.findIndex((other) => numbers[i] < numbers[other]);
    found.splice(position < 0 ? found.length : position, 0, i);
    if (found.length > count) found.pop();
  }
  return Int32Array.from(found);
}
