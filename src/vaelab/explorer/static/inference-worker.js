// Runs a model's networks in a worker, so that they never block the page. A message { id, task, input, condition } is answered by
// { id, result } or { id, error }, in the same order. It is a classic worker, because a page from the disk can start no other.

let ort, sessions, shape, width;

/** Task → function of its input; returns a typed array, or an object of numbers and typed arrays. */
const tasks = {
  /** Loads the runtime and the graphs; `module`: the runtime's address, `wasm` and `graphs`: contents of files. */
  async open({ module, wasm, graphs, image, width: latents }) {
    ort = await import(module);
    ort.env.wasm.numThreads = 1; // several would need headers that plain hosts do not send
    ort.env.wasm.wasmBinary = wasm;
    shape = image;
    width = latents;
    sessions = {};
    for (const [name, graph] of Object.entries(graphs)) {
      sessions[name] = await ort.InferenceSession.create(new Uint8Array(graph), { executionProviders: ["wasm"] });
    }
    return true;
  },

  async decode(codes, condition) { return toPixels(await tasks.decodeFloats(codes, condition)); },

  async decodeFloats(codes, condition) {
    const { image } = await sessions.decoder.run({ z: tensor(codes, width), ...given(condition, codes.length / width) }, ["image"]);
    return image.data.slice();
  },

  async encode(pixels, condition) {
    const { height, width: columns, channels } = shape;
    const x = new ort.Tensor("float32", toFloats(pixels), [1, channels, height, columns]);
    const { mean, log_var: logVar, kl } = await sessions.encoder.run({ x, ...given(condition, 1) });
    const { decoded } = await sessions.decoder.run({ z: mean, ...given(condition, 1) }, ["decoded"]);
    const { error } = await sessions.likelihood.run({ decoded, x });
    return { mean: mean.data.slice(), logVar: logVar.data.slice(), reconstruction: error.data[0], kl: kl.data[0] };
  },
};

/** The input "condition" of a conditional model's graphs, the same for each of `count` codes; nothing without one. */
function given(condition, count) {
  if (!condition) return {};
  const rows = new Float32Array(count * condition.length);
  for (let i = 0; i < count; i++) rows.set(condition, i * condition.length);
  return { condition: tensor(rows, condition.length) };
}

const tensor = (numbers, columns) => new ort.Tensor("float32", numbers, [numbers.length / columns, columns]);

/** [n × channel × height × width] in [0, 1] as integers [n × height × width × channel], as vaelab rounds in Python. */
function toPixels(floats) {
  const { channels, height, width: columns } = shape;
  const plane = height * columns;
  const pixels = new Uint8Array(floats.length);
  for (let start = 0, from = 0; start < floats.length; start += plane * channels) {
    for (let channel = 0; channel < channels; channel++) {
      for (let to = start + channel, end = to + plane * channels; to < end; to += channels) pixels[to] = toLevel(floats[from++]);
    }
  }
  return pixels;
}

/** One pixel, 0 … 255: cut off, in single precision, halves to the even neighbour. */
function toLevel(value) {
  const scaled = Math.fround(Math.min(1, Math.max(0, value)) * 255);
  const below = Math.floor(scaled);
  return scaled - below === 0.5 ? below + (below % 2) : Math.round(scaled);
}

/** One image [height × width × channel] of integers as [channel × height × width] in [0, 1]. */
function toFloats(pixels) {
  const { channels } = shape;
  const plane = pixels.length / channels;
  return Float32Array.from(pixels, (_, i) => pixels[(i % plane) * channels + Math.floor(i / plane)] / 255);
}

const buffers = (result) => Object.values(ArrayBuffer.isView(result) ? { result } : result).flatMap((each) => each.buffer ?? []);

let last = Promise.resolve();
addEventListener("message", ({ data: { id, task, input, condition } }) => {
  last = last.then(async () => {
    try {
      const result = await tasks[task](input, condition);
      postMessage({ id, result }, buffers(result));
    } catch (error) {
      postMessage({ id, error: String(error?.message ?? error).slice(0, 300) }); // an address may be in it, as long as the runtime
    }
  });
});
