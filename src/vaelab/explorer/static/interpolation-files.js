// The way from A to B in files: a picture of the strip, an animation. Two models stand below or beside each other.

import { encodeGif } from "./gif.js";
import { enlarged, paint, save, savePng, sheet } from "./pixels.js";
import { runNames } from "./code-images.js";
import { decodePath } from "./path.js";

/** Pixels that an image has at least on its shorter side in a strip and in an animation, and those between images. */
const [IN_STRIP, IN_GIF, GAP] = [112, 256, 4];

export async function saveStrip(session, count) {
  const images = await decodePath(session, count);
  const rows = session.models.map(({ manifest }, m) => enlarged(sheet(images[m], manifest.image, count), timesFor(IN_STRIP, manifest.image)));
  savePng(join(rows, "height", "width"), fileName(session, "png"));
}

/** `count` images there and all but the ends back, `delay` milliseconds each. */
export async function saveGif(session, count, delay) {
  const images = await decodePath(session, count);
  const channels = session.models.some(({ manifest }) => manifest.image.channels >= 3) ? 3 : 1;
  const moments = Array.from({ length: count }, (_, i) => moment(session, images, i));
  const { width, height } = moments[0];
  const there = moments.map((each) => pixelsOf(each, channels));
  save(encodeGif([...there, ...there.slice(1, -1).reverse()], { height, width, channels }, delay), fileName(session, "gif"));
}

/** A canvas with every model's image number `i`. */
function moment(session, images, i) {
  const shown = session.models.map(({ manifest, pixelCount }, m) => {
    const canvas = document.createElement("canvas");
    paint(canvas, images[m], manifest.image, i * pixelCount);
    return enlarged(canvas, timesFor(IN_GIF, manifest.image));
  });
  return join(shown, "width", "height");
}

function pixelsOf(canvas, channels) {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return Uint8Array.from({ length: (data.length / 4) * channels }, (_, i) => data[4 * Math.floor(i / channels) + (i % channels)]);
}

/** One canvas with all of them, one after the other `along` its "width" or "height". */
function join(canvases, along, across) {
  const whole = document.createElement("canvas");
  whole[along] = canvases.reduce((sum, each) => sum + each[along] + GAP, -GAP);
  whole[across] = Math.max(...canvases.map((each) => each[across]));
  let at = 0;
  for (const each of canvases) {
    whole.getContext("2d").drawImage(each, ...(along === "width" ? [at, 0] : [0, at]));
    at += each[along] + GAP;
  }
  return whole;
}

const fileName = (session, ending) => `${runNames(session).replaceAll(" ", "-")}-A-to-B.${ending}`;
const timesFor = (least, { height, width }) => Math.ceil(least / Math.min(height, width));
