import { dot, moveWithin, plus } from "./algebra.js";
import { LatestOnly } from "./scheduling.js";
import { isSmooth, toImageData } from "./pixels.js";

/** Images that come at once: as many as take about this many milliseconds, so that a live image never waits long. */
const PATIENCE = 80;
const [LEAST, MOST] = [8, 64];
/** How long a hand must rest before images are asked for, milliseconds. */
const REST = 150;

/**
 * Decoded images of places in a grid over what a map shows, of a fixed size on the screen: each is the shown code moved there.
 * They come from the middle outwards; older ones stay at their places until then.
 */
export class Lattice {
  #model; #changed; #wanted = null; #moved = 0; #each = LEAST;
  /** Sheets of images, each with its grid; the newest last. */
  #sheets = [];
  #work = new LatestOnly((grid) => this.#fill(grid), () => {}, (error) => this.#model.fail(error));

  /** `changed` hears that there is more to draw. */
  constructor(model, changed) {
    this.#model = model;
    this.#changed = changed;
    model.addEventListener("code", () => { this.#moved = performance.now(); });
  }

  /** Asks for what this view shows, unless that is here or on its way. */
  show(view) {
    const grid = makeGrid(view, this.#model);
    if (this.#wanted && isSame(grid, this.#wanted)) return;
    // Images of another plane would lie at wrong places.
    if (this.#sheets.at(-1)?.grid.plane !== grid.plane) this.#sheets = [];
    this.#wanted = grid;
    this.#work.submit(grid);
  }

  /** Forgets all images and asks for no more. */
  clear() {
    this.#wanted = null;
    this.#sheets = [];
  }

  draw(context, view) {
    for (const { canvas, grid } of this.#sheets) {
      const [left, top] = view.toPixels(grid.corner);
      const [width, height] = [grid.columns * grid.stepX * view.scale, grid.rows * grid.stepY * view.scale];
      context.drawImage(canvas, left, top, width, height);
    }
  }

  async #fill(grid) {
    const { width } = this.#model;
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: grid.columns * grid.pixelsX, height: grid.rows * grid.pixelsY });
    this.#sheets = [...this.#sheets.slice(-1), { canvas, grid }];
    const cells = fromTheMiddle(grid);
    while (cells.length && this.#wanted === grid) {
      if (await this.#restless()) continue;
      const some = cells.splice(0, this.#each);
      const codes = new Float32Array(some.length * width);
      some.forEach((cell, i) => codes.set(moveWithin(grid.plane, grid.code, placeOf(grid, cell)), i * width));
      const began = performance.now();
      const images = await this.#model.decode(codes);
      const fitting = (some.length * PATIENCE) / (performance.now() - began);
      this.#each = Math.round(Math.min(MOST, Math.max(LEAST, fitting)));
      if (this.#wanted !== grid) return;
      paintCells(canvas, grid, some, images, this.#model.manifest.image);
      this.#changed();
    }
    if (this.#wanted === grid) this.#sheets = this.#sheets.slice(-1);
  }

  /** Whether a hand has just moved the code: then its own image goes first. */
  async #restless() {
    const left = this.#moved + REST - performance.now();
    if (left <= 0) return false;
    await new Promise((done) => setTimeout(done, left));
    return true;
  }
}

/** A grid over a view: about twenty columns, images no smaller than legible and, where they are small, whole multiples of their size. */
function makeGrid(view, { manifest: { image }, plane, code }) {
  const least = Math.max(28, view.width / 20, isSmooth(image) ? 44 : 0);
  const times = Math.max(1, Math.round(least / image.width));
  const across = isSmooth(image) ? least : image.width * times;
  const down = (across * image.height) / image.width;
  const [columns, rows] = [Math.ceil(view.width / across), Math.ceil(view.height / down)];
  const ratio = Math.min(1, (across * devicePixelRatio) / image.width);
  return {
    plane, code, columns, rows,
    stepX: across / view.scale,
    stepY: down / view.scale,
    corner: view.toPlace([(view.width - columns * across) / 2, (view.height - rows * down) / 2]),
    pixelsX: Math.max(1, Math.round(image.width * ratio)),
    pixelsY: Math.max(1, Math.round(image.height * ratio)),
  };
}

/** Whether two grids hold the same images: codes may differ within the plane. */
function isSame(a, b) {
  if (a.plane !== b.plane || a.columns !== b.columns || a.rows !== b.rows || a.stepX !== b.stepX) return false;
  if (Math.abs(a.corner[0] - b.corner[0]) + Math.abs(a.corner[1] - b.corner[1]) > a.stepX / 50) return false;
  const apart = plus(a.code, b.code, -1);
  const off = moveWithin(a.plane, apart, [0, 0]);
  return dot(off, off) < 1e-6;
}

function placeOf({ corner, stepX, stepY }, [column, row]) {
  return [corner[0] + (column + 0.5) * stepX, corner[1] - (row + 0.5) * stepY];
}

function fromTheMiddle({ columns, rows }) {
  const away = ([column, row]) => (column - (columns - 1) / 2) ** 2 + (row - (rows - 1) / 2) ** 2;
  const cells = Array.from({ length: columns * rows }, (_, i) => [i % columns, Math.floor(i / columns)]);
  return cells.sort((a, b) => away(a) - away(b));
}

function paintCells(canvas, { pixelsX, pixelsY }, cells, images, shape) {
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  const one = new OffscreenCanvas(shape.width, shape.height);
  cells.forEach(([column, row], i) => {
    one.getContext("2d").putImageData(toImageData(images, shape, i * shape.height * shape.width * shape.channels), 0, 0);
    context.drawImage(one, column * pixelsX, row * pixelsY, pixelsX, pixelsY);
  });
}
