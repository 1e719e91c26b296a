import { dot, moveWithin, plus } from "./algebra.js";
import { isSmooth, toImageData } from "./pixels.js";
import { LatestOnly } from "./scheduling.js";

/** Images per request: as many as take about this many milliseconds, within limits, so that the shown image never waits long. */
const PATIENCE = 80;
const [MIN_IMAGES, MAX_IMAGES] = [8, 64];
/** Milliseconds without a move of the code before images are requested. */
const REST = 150;
/** The share of a cell's side that its image fills where points show between the images. */
const FILL_AMONG_POINTS = 0.7;

/**
 * Decoded images at a grid of positions on the map, at a fixed size on the screen: each is the shown code moved there. They
 * are decoded from the middle outwards; older ones stay at their positions until then.
 */
export class Lattice {
  #model; #changed; #wanted = null; #moved = 0; #count = MIN_IMAGES;
  /** Sheets of images, each with its grid; the newest last. */
  #sheets = [];
  #work = new LatestOnly((grid) => this.#decode(grid), () => {}, (error) => this.#model.fail(error));

  /** `changed` is called when there is more to draw. */
  constructor(model, changed) {
    this.#model = model;
    this.#changed = changed;
    model.addEventListener("code", () => { this.#moved = performance.now(); });
  }

  /** Requests the images for a view, unless they are here or on their way; `amongPoints`: with gaps in which points show. */
  show(view, amongPoints) {
    const grid = makeGrid(view, this.#model, amongPoints ? FILL_AMONG_POINTS : 1);
    if (this.#wanted && isSame(grid, this.#wanted)) return;
    // images of another plane would be at wrong positions
    if (this.#sheets.at(-1)?.grid.plane !== grid.plane) this.#sheets = [];
    this.#wanted = grid;
    this.#work.submit(grid);
  }

  /** Drops all images and requests no more. */
  clear() {
    this.#wanted = null;
    this.#sheets = [];
  }

  draw(context, view) {
    for (const { canvas, grid, done } of this.#sheets) {
      const [left, top] = view.toPixels(grid.corner);
      const [width, height] = [grid.stepX * view.scale, grid.stepY * view.scale];
      const gap = (1 - grid.fill) / 2;
      for (const [column, row] of done) {
        context.drawImage(canvas, column * grid.pixelsX, row * grid.pixelsY, grid.pixelsX, grid.pixelsY,
          left + (column + gap) * width, top + (row + gap) * height, grid.fill * width, grid.fill * height);
      }
    }
  }

  async #decode(grid) {
    const { width } = this.#model;
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: grid.columns * grid.pixelsX, height: grid.rows * grid.pixelsY });
    const sheet = { canvas, grid, done: [] };
    this.#sheets = [...this.#sheets.slice(-1), sheet];
    const cells = fromTheMiddle(grid);
    while (cells.length && this.#wanted === grid) {
      if (await this.#waitForRest()) continue;
      const next = cells.splice(0, this.#count);
      const codes = new Float32Array(next.length * width);
      next.forEach((cell, i) => codes.set(moveWithin(grid.plane, grid.code, cellPosition(grid, cell)), i * width));
      const began = performance.now();
      const images = await this.#model.decode(codes);
      const fitting = (next.length * PATIENCE) / (performance.now() - began);
      this.#count = Math.round(Math.min(MAX_IMAGES, Math.max(MIN_IMAGES, fitting)));
      if (this.#wanted !== grid) return;
      paintCells(canvas, grid, next, images, this.#model.manifest.image);
      sheet.done.push(...next);
      this.#changed();
    }
    if (this.#wanted === grid) this.#sheets = this.#sheets.slice(-1);
  }

  /** Waits while the code has just been moved, so that its own image is decoded first; returns whether it waited. */
  async #waitForRest() {
    const left = this.#moved + REST - performance.now();
    if (left <= 0) return false;
    await new Promise((done) => setTimeout(done, left));
    return true;
  }
}

/** A grid of about twenty columns over a view. Images are legible and, if they are small, whole multiples of their size. */
function makeGrid(view, { manifest: { image }, plane, code }, fill) {
  const least = Math.max(28, view.width / 20, isSmooth(image) ? 44 : 0);
  const times = Math.max(1, Math.round(least / image.width));
  const across = (isSmooth(image) ? least : image.width * times) / fill;
  const down = (across * image.height) / image.width;
  const [columns, rows] = [Math.ceil(view.width / across), Math.ceil(view.height / down)];
  const ratio = Math.min(1, (fill * across * devicePixelRatio) / image.width);
  return {
    plane, code, columns, rows, fill,
    stepX: across / view.scale,
    stepY: down / view.scale,
    corner: view.toPosition([(view.width - columns * across) / 2, (view.height - rows * down) / 2]),
    pixelsX: Math.max(1, Math.round(image.width * ratio)),
    pixelsY: Math.max(1, Math.round(image.height * ratio)),
  };
}

/** Whether two grids have the same images; their codes may differ within the plane. */
function isSame(a, b) {
  if (a.plane !== b.plane || a.columns !== b.columns || a.rows !== b.rows || a.stepX !== b.stepX || a.fill !== b.fill) return false;
  if (Math.abs(a.corner[0] - b.corner[0]) + Math.abs(a.corner[1] - b.corner[1]) > a.stepX / 50) return false;
  const difference = plus(a.code, b.code, -1);
  const outside = moveWithin(a.plane, difference, [0, 0]);
  return dot(outside, outside) < 1e-6;
}

function cellPosition({ corner, stepX, stepY }, [column, row]) {
  return [corner[0] + (column + 0.5) * stepX, corner[1] - (row + 0.5) * stepY];
}

function fromTheMiddle({ columns, rows }) {
  const distance = ([column, row]) => (column - (columns - 1) / 2) ** 2 + (row - (rows - 1) / 2) ** 2;
  const cells = Array.from({ length: columns * rows }, (_, i) => [i % columns, Math.floor(i / columns)]);
  return cells.sort((a, b) => distance(a) - distance(b));
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
