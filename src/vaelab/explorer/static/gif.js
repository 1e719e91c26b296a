// Animated GIF (GIF89a, CompuServe 1990) of images as the models give them, uint8 [height × width × channel].

/** Pixel values 0 to 255, then two codes of LZW's own; codes have at most 12 bits. */
const [CLEAR, END, FIRST, FULL] = [256, 257, 258, 4096];
/** Bits per channel in which colours are counted for the palette. */
const DEPTH = 6;

/** A Blob that plays `frames` in a loop, `delay` milliseconds each: grey exactly, colours with 256 colours for the file. */
export function encodeGif(frames, { height, width, channels }, delay = 80) {
  const { palette, toIndices } = channels === 3 ? chooseColours(frames) : greys();
  const screen = [...short(width), ...short(height)];
  const parts = [ascii("GIF89a"), [...screen, 0xf7, 0, 0], palette, [0x21, 0xff, 11], ascii("NETSCAPE2.0"), [3, 1, 0, 0, 0]];
  for (const frame of frames) {
    parts.push([0x21, 0xf9, 4, 4, ...short(Math.round(delay / 10)), 0, 0], [0x2c, 0, 0, 0, 0, ...screen, 0, 8], ...blocks(compress(toIndices(frame))));
  }
  return new Blob([...parts, [0x3b]].map((part) => Uint8Array.from(part)), { type: "image/gif" });
}

const ascii = (text) => Array.from(text, (letter) => letter.charCodeAt(0));
const short = (value) => [value & 255, value >> 8];

/** Data as a GIF holds it: pieces of at most 255 bytes behind their lengths, ended by an empty one. */
function blocks(bytes) {
  const parts = [];
  for (let start = 0; start < bytes.length; start += 255) {
    const piece = bytes.slice(start, start + 255);
    parts.push([piece.length], piece);
  }
  return [...parts, [0]];
}

/** LZW with codes that grow from 9 to 12 bits, low bits first (Welch 1984). */
function compress(indices) {
  const longer = new Uint16Array(FULL * 256); // the code of a known string and one pixel more, 0 where it is not known
  const bytes = [];
  let [size, free, held, bits] = [9, FIRST, 0, 0];
  const put = (code) => {
    bits |= code << held;
    for (held += size; held >= 8; held -= 8, bits >>>= 8) bytes.push(bits & 255);
    if (free === 1 << size && size < 12) size++;
  };
  put(CLEAR);
  let known = indices[0];
  for (let i = 1; i < indices.length; i++) {
    const next = 256 * known + indices[i];
    if (longer[next]) { known = longer[next]; continue; }
    put(known);
    if (free < FULL) longer[next] = free++;
    else {
      put(CLEAR);
      longer.fill(0);
      [size, free] = [9, FIRST];
    }
    known = indices[i];
  }
  put(known);
  put(END);
  return held ? [...bytes, bits] : bytes;
}

const greys = () => ({ palette: Array.from({ length: 768 }, (_, i) => Math.floor(i / 3)), toIndices: (frame) => frame });

/**
 * A palette for RGB frames: the box of colours with the largest squared error is split at its mean until there are 256 boxes
 * (Wan, Prusinkiewicz & Wong 1990). The colour of a box is the mean of its pixels.
 */
function chooseColours(frames) {
  const drop = 8 - DEPTH;
  const bin = (frame, i) => ((((frame[i] >> drop) << DEPTH) | (frame[i + 1] >> drop)) << DEPTH) | (frame[i + 2] >> drop);
  const sums = new Map(); // of each bin: [red, green, blue, pixels]
  for (const frame of frames) {
    for (let i = 0; i < frame.length; i += 3) {
      const key = bin(frame, i);
      const sum = sums.get(key) ?? sums.set(key, [0, 0, 0, 0]).get(key);
      for (let c = 0; c < 3; c++) sum[c] += frame[i + c];
      sum[3]++;
    }
  }
  const boxes = [measure([...sums].map(([key, [r, g, b, count]]) => ({ key, count, colour: [r / count, g / count, b / count] })))];
  while (boxes.length < 256) {
    const worst = boxes.reduce((most, box) => (box.error > most.error ? box : most));
    if (!(worst.error > 1e-6)) break;
    const { bins, mean, axis } = worst;
    const [low, high] = [bins.filter(({ colour }) => colour[axis] <= mean[axis]), bins.filter(({ colour }) => colour[axis] > mean[axis])];
    boxes.splice(boxes.indexOf(worst), 1, measure(low), measure(high));
  }
  const table = new Uint8Array(1 << (3 * DEPTH));
  boxes.forEach(({ bins }, index) => bins.forEach(({ key }) => { table[key] = index; }));
  const palette = boxes.flatMap(({ mean }) => mean.map(Math.round));
  return {
    palette: [...palette, ...new Array(768 - palette.length).fill(0)],
    toIndices: (frame) => Uint8Array.from({ length: frame.length / 3 }, (_, i) => table[bin(frame, 3 * i)]),
  };
}

/** A box of bins: its mean colour and, along the axis where it is largest, the squared error of that mean. */
function measure(bins) {
  const over = (value) => bins.reduce((sum, each) => sum + each.count * value(each.colour), 0);
  const count = over(() => 1);
  const mean = [0, 1, 2].map((c) => over((colour) => colour[c]) / count);
  const errors = mean.map((m, c) => over((colour) => (colour[c] - m) ** 2));
  const error = Math.max(...errors);
  return { bins, mean, error, axis: errors.indexOf(error) };
}
