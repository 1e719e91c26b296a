// Hundreds of thousands of points: which to draw in which order, their pixels, and which of them is under a cursor.

/** No class: such points are always drawn. */
export const NO_CLASS = 255;

/** The numbers 0 … count − 1 in an order that is always the same, so that no class covers another (Fisher & Yates). */
export function shuffled(count) {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  let state = 1;
  for (let i = count - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((state / 2 ** 32) * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/**
 * The points to draw, one after the other: { x, y, classes, index }, typed arrays [visible points]; `index`: the number
 * each has in the manifest. `hidden`: a Set of classes that are left out.
 */
export function arrange({ x, y }, classes, hidden, order) {
  const index = hidden.size ? order.filter((i) => !hidden.has(classes[i])) : order;
  return { x: take(x, index), y: take(y, index), classes: take(classes, index), index };
}

/** The values at `index`, both typed arrays. */
function take(values, index) {
  const found = new values.constructor(index.length);
  for (let i = 0; i < index.length; i++) found[i] = values[index[i]];
  return found;
}

/** { left, right, bottom, top } of all but the outermost points, 1 in 1000 on each side. */
export function extent({ x, y }) {
  if (!x.length) return { left: -3, right: 3, bottom: -3, top: 3 };
  const ends = (values) => {
    const sorted = values.slice().sort();
    const cut = Math.floor(sorted.length / 1000);
    return [sorted[cut], sorted[sorted.length - 1 - cut]];
  };
  const [[left, right], [bottom, top]] = [ends(x), ends(y)];
  return { left, right, bottom, top };
}

/**
 * Where the name of each class belongs, a Map from class to position, the largest class first: on that one of its points that is
 * nearest their median.
 */
export function medians({ x, y, classes }) {
  const found = new Map();
  for (const [name, of] of [...members(classes)].sort(([, a], [, b]) => b.length - a.length)) {
    const [atX, atY] = [x, y].map((values) => take(values, of).sort()[of.length >> 1]);
    let [best, least] = [of[0], Infinity];
    for (const i of of) {
      const away = (x[i] - atX) ** 2 + (y[i] - atY) ** 2;
      if (away < least) [best, least] = [i, away];
    }
    found.set(name, [x[best], y[best]]);
  }
  return found;
}

/** The numbers of the points of each class that there is, a Map from class to Uint32Array. */
function members(classes) {
  const sizes = new Uint32Array(256);
  for (const each of classes) sizes[each]++;
  const found = [...sizes].map((size) => new Uint32Array(size));
  for (let i = classes.length - 1; i >= 0; i--) found[classes[i]][--sizes[classes[i]]] = i;
  return new Map([...found.entries()].filter(([name, of]) => of.length && name !== NO_CLASS));
}

/** The width of a point in CSS pixels: about a tenth of the frame is ink, until points are 4 pixels wide. */
export function pointSize(count, { width, height, zoom }) {
  return Math.min(4, Math.max(1, Math.sqrt((0.12 * width * height) / Math.max(1, count)) * zoom));
}

/** Pixels of a disc `size` wide: [row, column, coverage of 0…255] from its upper left corner. */
export function disc(size) {
  const [parts, radius] = [8, size / 2];
  const found = [];
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      let inside = 0;
      for (let part = 0; part < parts * parts; part++) {
        const [x, y] = [column + ((part % parts) + 0.5) / parts, row + (Math.floor(part / parts) + 0.5) / parts];
        if (Math.hypot(x - radius, y - radius) <= radius) inside++;
      }
      // Points of one or two pixels are whole pixels.
      const coverage = size < 3 ? 255 : Math.round((255 * inside) / parts ** 2);
      if (coverage) found.push([row, column, coverage]);
    }
  }
  return found;
}

/**
 * Draws points into pixels with a `margin` of spare ones on every side, so that no disc crosses the border.
 *
 * `pixels` is a Uint32Array [(height + 2 margin) × (width + 2 margin)], `colours` a Uint32Array [256] of classes. A point is drawn at
 * [left + x·scale, top − y·scale].
 */
export function drawPoints(pixels, { width, height, margin }, { x, y, classes }, colours, { scale, left, top }, size) {
  pixels.fill(0);
  const row = width + 2 * margin;
  const pieces = disc(size);
  const offsets = Int32Array.from(pieces, ([down, across]) => down * row + across);
  const coverage = Uint8Array.from(pieces, ([, , covered]) => covered);
  const [shiftX, shiftY] = [left - size / 2 + margin + 0.5, top - size / 2 + margin + 0.5];
  const [limitX, limitY] = [width + 2 * margin - size, height + 2 * margin - size];
  for (let i = 0; i < x.length; i++) {
    const px = shiftX + x[i] * scale;
    const py = shiftY - y[i] * scale;
    if (!(px >= 0 && py >= 0 && px < limitX && py < limitY)) continue;
    const start = (py | 0) * row + (px | 0);
    const colour = colours[classes[i]];
    for (let k = 0; k < offsets.length; k++) {
      const at = start + offsets[k];
      pixels[at] = coverage[k] === 255 ? colour : mixed(pixels[at], colour, coverage[k]);
    }
  }
}

/** A pixel of an ImageData with `coverage` of 255 of it painted over in `colour`; bytes are red, green, blue, alpha from the lowest. */
function mixed(pixel, colour, coverage) {
  const below = pixel >>> 24;
  if (!below) return ((colour & 0xffffff) | (coverage << 24)) >>> 0;
  const mix = (shift) => {
    const from = (pixel >>> shift) & 255;
    return (from + ((((colour >>> shift) & 255) - from) * coverage) / 255) << shift;
  };
  return (mix(0) | mix(8) | mix(16) | (Math.max(below, coverage) << 24)) >>> 0;
}

/** Finds the point nearest to a position by a grid of cells that hold a few points each. */
export class PointIndex {
  #x; #y; #side; #left; #bottom; #cell; #starts; #members;

  /** `frame`: about where they lie, see extent. */
  constructor({ x, y }, { left, right, bottom, top } = extent({ x, y })) {
    const side = Math.max(1, Math.min(512, Math.ceil(Math.sqrt(x.length / 2))));
    const cell = Math.max(right - left, top - bottom, 1e-6) / side;
    [this.#x, this.#y, this.#side, this.#left, this.#bottom, this.#cell] = [x, y, side, left, bottom, cell];
    this.#starts = new Uint32Array(side * side + 1);
    this.#members = new Uint32Array(x.length);
    const cells = new Uint32Array(x.length);
    for (let i = 0; i < x.length; i++) this.#starts[(cells[i] = this.#row(y[i]) * side + this.#column(x[i])) + 1]++;
    for (let i = 0; i < side * side; i++) this.#starts[i + 1] += this.#starts[i];
    const next = this.#starts.slice();
    for (let i = 0; i < x.length; i++) this.#members[next[cells[i]]++] = i;
  }

  /** The number of the nearest point within `radius` of a position, −1 where there is none. */
  within([atX, atY], radius) {
    let [best, least] = [-1, radius * radius];
    const [first, last] = [this.#column(atX - radius), this.#column(atX + radius)];
    for (let row = this.#row(atY - radius); row <= this.#row(atY + radius); row++) {
      const end = this.#starts[row * this.#side + last + 1];
      for (let k = this.#starts[row * this.#side + first]; k < end; k++) {
        const i = this.#members[k];
        const distance = (this.#x[i] - atX) ** 2 + (this.#y[i] - atY) ** 2;
        if (distance <= least) [best, least] = [i, distance];
      }
    }
    return best;
  }

  /** The number of the nearest point, −1 where there are no points at all. */
  nearest(position) {
    if (!this.#x.length) return -1;
    for (let radius = this.#cell; radius < 1e30; radius *= 2) {
      const found = this.within(position, radius);
      if (found >= 0) return found;
    }
    return -1;
  }

  #column(x) { return this.#clamp((x - this.#left) / this.#cell); }
  #row(y) { return this.#clamp((y - this.#bottom) / this.#cell); }
  #clamp(value) { return Math.max(0, Math.min(this.#side - 1, Math.floor(value))); }
}
