// The layout of grey training images of drawings, and user drawings centred in the same way. Lengths are in model pixels.

/** Ink above which a pixel counts as drawn on, and below which it counts as empty. */
const DRAWN = 0.2;
const EMPTY = 0.1;
/** The share of a photograph's contrast that is attributed to shadows and grain of its paper. */
const NOISE = 0.25;

/**
 * The common layout of training images, Uint8Array [images × height × width]: whether the ground is `dark`, and whether they are
 * `centred` ink on an empty ground. Then also the longer `side` of the ink, `x` and `y` of its middle, and the width of the `pen`.
 * `by` says whether that middle is of its "mass" or of its "box".
 */
export function measureLayout(pixels, { height, width }) {
  const dark = mean(pixels) < 127.5;
  const size = height * width;
  const images = Array.from({ length: pixels.length / size }, (_, i) => pixels.subarray(i * size, (i + 1) * size));
  const inks = images.map((image) => Float32Array.from(image, (value) => (dark ? value : 255 - value) / 255));
  const found = inks.map((ink) => measure(ink, height, width)).filter(Boolean);
  const usual = { by: "mass", side: 0.7 * Math.min(height, width), x: width / 2, y: height / 2 };
  const pen = Math.min(height, width) / 12;
  if (!found.length) return { dark, centred: false, ...usual, pen };
  const [byMass, byBox] = ["mass", "box"].map((by) => middle(found.map((each) => each[by]), by));
  const best = byMass.spread <= byBox.spread ? byMass : byBox;
  const emptiness = mean(inks.map((ink) => ink.filter((value) => value < EMPTY).length / size));
  const centred = emptiness > 0.4 && best.spread < 0.08 * Math.min(height, width);
  if (!centred) return { dark, centred, ...usual, pen };
  const { by, x, y } = best;
  return { dark, centred, by, x, y, side: median(found.map((each) => each.side)), pen: median(found.map((each) => each.pen)) };
}

/** The longer side of an image's ink, its box, the middles of its mass and of its box, and the width of its strokes. */
function measure(ink, height, width) {
  let [left, right, top, bottom] = [width, -1, height, -1];
  let [mass, x, y, edges] = [0, 0, 0, 0];
  const at = (row, column) => (row < height && column < width ? ink[row * width + column] : 0);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const value = at(row, column);
      mass += value;
      x += value * (column + 0.5);
      y += value * (row + 0.5);
      edges += Math.hypot(at(row, column + 1) - value, at(row + 1, column) - value);
      if (value < DRAWN) continue;
      [left, right] = [Math.min(left, column), Math.max(right, column)];
      [top, bottom] = [Math.min(top, row), Math.max(bottom, row)];
    }
  }
  if (right < 0) return null;
  // A stroke of length l and width w has the mass l·w and edges of 2·l + 2·w, however soft they are: solved for w.
  const pen = (edges - Math.sqrt(Math.max(0, edges * edges - 16 * mass))) / 4;
  const box = [(left + right + 1) / 2, (top + bottom + 1) / 2];
  const bounds = [left, top, right + 1, bottom + 1];
  return { side: Math.max(right - left, bottom - top) + 1, bounds, mass: [x / mass, y / mass], box, pen };
}

/** The mean of points [x, y], and their root mean square distance from it. */
function middle(points, by) {
  const [x, y] = [0, 1].map((axis) => mean(points.map((point) => point[axis])));
  return { by, x, y, spread: Math.sqrt(mean(points.map((point) => (point[0] - x) ** 2 + (point[1] - y) ** 2))) };
}

/**
 * Strokes, lists of [x, y], moved and scaled to where the ink of the training images is, but nowhere beyond the edges of a frame
 * { width, height }. The width of the pen stays the same.
 */
export function centreStrokes(strokes, pen, { side, by, x, y }, { width, height }) {
  const [left, top, right, bottom] = bounds(strokes.flat());
  const longest = Math.max(right - left, bottom - top);
  const scale = longest > 0 ? Math.min(4, Math.max(0.25, (side - pen) / longest)) : 1;
  const scaled = strokes.map((stroke) => stroke.map(([px, py]) => [scale * px, scale * py]));
  const [fromX, fromY] = by === "mass" ? massOf(scaled, pen) : [(scale * (left + right)) / 2, (scale * (top + bottom)) / 2];
  const dx = keepInside(x - fromX, scale * left - pen / 2, scale * right + pen / 2, width);
  const dy = keepInside(y - fromY, scale * top - pen / 2, scale * bottom + pen / 2, height);
  return scaled.map((stroke) => stroke.map(([px, py]) => [px + dx, py + dy]));
}

/** A shift as near to `wanted` as possible that keeps [low, high] within [0, size]; centred if it does not fit. */
function keepInside(wanted, low, high, size) {
  if (high - low > size) return (size - low - high) / 2;
  return Math.min(size - high, Math.max(-low, wanted));
}

/**
 * A photograph of a drawing, Uint8Array [height × width], laid out as the training images are, or null if there is no ink.
 * `values` have an even ground. The part { left, top, width, height } of them has all of the ink where theirs is.
 */
export function layOutPhotograph(photograph, { height, width }, shape, { dark, side, by, x, y }) {
  const turn = (value) => (dark ? value : 255 - value);
  const ground = median(border(photograph, height, width).map(turn));
  const peak = photograph.reduce((most, value) => Math.max(most, turn(value)), 0);
  if (peak - ground < 32) return null;
  const ink = Float32Array.from(photograph, (value) => Math.max(0, (turn(value) - ground) / (peak - ground) - NOISE) / (1 - NOISE));
  const found = measure(ink, height, width);
  const scale = found.side / side; // pixels of the photograph to one of the model
  const [wide, high] = [shape.width, shape.height].map((length) => Math.max(1, Math.round(scale * length)));
  const [left, top, right, bottom] = found.bounds;
  const start = (middle, target, low, end, length) => -Math.round(keepInside(scale * target - middle, low, end, length));
  const part = {
    left: start(found[by][0], x, left, right, wide), top: start(found[by][1], y, top, bottom, high), width: wide, height: high,
  };
  return { ...part, values: Uint8Array.from(ink, (value) => turn(Math.round(255 * value))) };
}

function border(values, height, width) {
  const inside = (i) => i % width > 0 && i % width < width - 1 && i >= width && i < width * (height - 1);
  return Array.from(values.filter((_, i) => !inside(i)));
}

function bounds(points) {
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

/** The centre of mass of strokes: of their segments, and of the two half discs at the ends. */
function massOf(strokes, pen) {
  let [mass, x, y] = [0, 0, 0];
  const add = (weight, [px, py]) => { mass += weight; x += weight * px; y += weight * py; };
  for (const stroke of strokes) {
    for (const end of [stroke[0], stroke.at(-1)]) add((Math.PI / 8) * pen, end);
    for (let i = 1; i < stroke.length; i++) {
      const [[ax, ay], [bx, by]] = [stroke[i - 1], stroke[i]];
      add(Math.hypot(bx - ax, by - ay), [(ax + bx) / 2, (ay + by) / 2]);
    }
  }
  return [x / mass, y / mass];
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
