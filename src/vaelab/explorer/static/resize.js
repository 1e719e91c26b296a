// Pictures from files as the models see them, by the same arithmetic as vaelab's image folders (decoding.py): upright, cut to shape
// about the centre, grey by the Rec. 601 luma, area averages where they shrink and cubic curves where they grow.
import { layOutPhotograph } from "./drawing-layout.js";

/** Longest side that is read as it is; larger pictures are reduced to it by the browser first. */
const LONGEST = 4096;

/** The pixels of a file, upright as its EXIF says: { name, width, height, data } with RGBA; an Error of one line where it is none. */
export async function openPicture(file) {
  const name = file.name || "the pasted image";
  if (file.type && !file.type.startsWith("image/")) throw new Error(`${name} is no picture (${file.type})`);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new Error(`${name}: this browser cannot read it as an image; try PNG or JPEG`);
  }
  const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(scale * side)));
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return { name, width, height, data: context.getImageData(0, 0, width, height).data };
}

/**
 * A picture { width, height, data } in the shape of a model, Uint8Array [height × width × channel], with transparent parts on `paper`.
 * `layout` is the layout of the training images (drawing-layout.js), if the picture shall be laid out in the same way.
 */
export function fit(picture, shape, { paper = 255, invert = false, layout = null } = {}) {
  const flat = flatten(picture, shape.channels, paper);
  const values = invert ? flat.map((value) => 255 - value) : flat;
  const found = layout && layOutPhotograph(values, picture, shape, layout);
  const part = found ?? middle(picture, shape);
  return resize(take(found?.values ?? values, picture, part, shape.channels, layout?.dark ? 0 : 255), part, shape);
}

/** An image of another model, Uint8Array [height × width × channel], as a picture. */
export function asPicture(pixels, { height, width, channels }) {
  const data = new Uint8ClampedArray(4 * height * width).fill(255);
  for (let i = 0; i < height * width; i++) for (let c = 0; c < 3; c++) data[4 * i + c] = pixels[channels * i + (channels >= 3 ? c : 0)];
  return { width, height, data };
}

/** The largest part about the centre, in whole pixels, with the shape's proportions. */
function middle({ width, height }, shape) {
  let [wide, high] = [width, height];
  if (wide * shape.height >= high * shape.width) wide = Math.max(1, Math.round((high * shape.width) / shape.height));
  else high = Math.max(1, Math.round((wide * shape.height) / shape.width));
  return { left: (width - wide) >> 1, top: (height - high) >> 1, width: wide, height: high };
}

/** A part of an image [height × width × channel], `ground` where it reaches beyond. */
function take(values, { width, height }, part, channels, ground) {
  const taken = new Uint8Array(part.width * part.height * channels).fill(ground);
  const [first, last] = [Math.max(0, -part.left), Math.min(part.width, width - part.left)];
  for (let row = Math.max(0, -part.top); row < Math.min(part.height, height - part.top); row++) {
    const from = (part.top + row) * width + part.left;
    taken.set(values.subarray(channels * (from + first), channels * (from + last)), channels * (row * part.width + first));
  }
  return taken;
}

/** Grey or RGB values, [height × width × channel], with what is transparent on a ground of `paper`. */
function flatten({ data }, channels, paper) {
  const flat = new Uint8Array((data.length / 4) * channels);
  for (let from = 0, to = 0; from < data.length; from += 4, to += channels) {
    const opacity = data[from + 3] / 255;
    const r = Math.round(opacity * data[from] + (1 - opacity) * paper);
    const g = Math.round(opacity * data[from + 1] + (1 - opacity) * paper);
    const b = Math.round(opacity * data[from + 2] + (1 - opacity) * paper);
    flat[to] = channels === 1 ? (19595 * r + 38470 * g + 7471 * b + 32768) >> 16 : r;
    if (channels === 3) [flat[to + 1], flat[to + 2]] = [g, b];
  }
  return flat;
}

/** Values [height × width × channel] at another size, one axis after the other. */
export function resize(values, from, to) {
  const shrinks = from.width >= to.width && from.height >= to.height;
  const weigh = shrinks ? areas : cubics;
  const wide = along(values, weigh(from.width, to.width), from.height, from.width, to.channels);
  const whole = shrinks ? wide : bytes(wide); // as Pillow does: what a curve overshoots is cut off at once
  return bytes(along(whole, weigh(from.height, to.height), 1, from.height, to.width * to.channels));
}

/** The nearest integers from 0 to 255; a half, for all that floating point makes of it, goes up. */
const bytes = (values) => Uint8Array.from(values, (value) => Math.max(0, Math.min(255, Math.floor(value + 0.5 + 1e-9))));

/** Weighted sums along the middle one of three axes [outer × length × inner]; `weights`: [[first, weights], …], one entry a result. */
function along(values, weights, outer, length, inner) {
  const sums = new Float64Array(outer * weights.length * inner);
  for (let o = 0; o < outer; o++) {
    weights.forEach(([first, shares], i) => {
      const to = (o * weights.length + i) * inner;
      shares.forEach((share, k) => {
        const start = (o * length + first + k) * inner;
        for (let j = 0; j < inner; j++) sums[to + j] += share * values[start + j];
      });
    });
  }
  return sums;
}

/** For each of `count` equal parts of `length` pixels: the first pixel that it touches, and the share of each pixel in it. */
function areas(length, count) {
  return Array.from({ length: count }, (_, i) => {
    const [begin, end] = [i * length, (i + 1) * length]; // in 1/count pixels: integers
    const first = Math.floor(begin / count);
    const touched = Math.ceil(end / count) - first;
    const covered = (at) => Math.min(end, (at + 1) * count) - Math.max(begin, at * count);
    return [first, Array.from({ length: touched }, (_, k) => covered(first + k) / length)];
  });
}

/** For each of `count` pixels that replace `length`: its first source pixel, and the weights of a cubic (Keys 1981, a = −1/2). */
function cubics(length, count) {
  const scale = length / count;
  const wide = Math.max(1, scale); // an axis that shrinks beside one that grows is smoothed
  return Array.from({ length: count }, (_, i) => {
    const middle = (i + 0.5) * scale;
    const first = Math.max(0, Math.floor(middle - 2 * wide + 0.5));
    const last = Math.min(length, Math.floor(middle + 2 * wide + 0.5));
    const weights = Array.from({ length: last - first }, (_, k) => keys((first + k + 0.5 - middle) / wide));
    const sum = weights.reduce((a, b) => a + b, 0);
    return [first, weights.map((weight) => weight / sum)];
  });
}

function keys(x) {
  const t = Math.abs(x);
  if (t < 1) return (1.5 * t - 2.5) * t * t + 1;
  return t < 2 ? ((-0.5 * t + 2.5) * t - 4) * t + 2 : 0;
}
