import { lerp, slerp } from "./algebra.js";
import { colourOf, coloursOf, theme, toRgb } from "./colours.js";
import { contours } from "./contours.js";
import { Lattice } from "./lattice.js";
import { debounce } from "./scheduling.js";
import { MapView } from "./map-view.js";
import * as overlay from "./overlay.js";
import { isSmooth } from "./pixels.js";
import { arrange, drawPoints, extent, medians, NO_CLASS, PointIndex, pointSize, shuffled } from "./points.js";

/** Spare pixels about those of the points, more than a point is wide. */
const MARGIN = 20;
const SHARES = [0.25, 0.5, 0.75, 0.95];

/**
 * Everything that is on a map, drawn when something has changed, once a frame.
 *
 * From back to front: lattice, axes, points, density, rings, names, posterior, way, the shown code, pins.
 */
export class MapCanvas {
  view = new MapView();
  /** The points that are shown, see points.js, and what finds them. */
  points;
  index;
  /** The number in `points` of the point under the cursor, or −1. */
  hovered = -1;

  #canvas; #session; #model; #order; #lattice; #classes; #group = { name: "", values: [] }; #frame; #framed; #style; #colours;
  #names = []; #contours = null; #layer = new OffscreenCanvas(1, 1); #pixels = null; #asked = false; #stale = true;
  #askLattice = debounce(() => { if (this.#session.options.lattice) this.#lattice.show(this.view); }, 120);

  constructor(canvas, session, model) {
    [this.#canvas, this.#session, this.#model] = [canvas, session, model];
    this.#order = shuffled(model.manifest.count);
    this.#classes = new Uint8Array(model.manifest.count).fill(NO_CLASS);
    this.#lattice = new Lattice(model, () => this.redraw());
    this.arrange();
    this.recolour();
  }

  /** The class of each point [all points] in a group { name, values } of the manifest. */
  setClasses(classes, group) {
    [this.#classes, this.#group] = [classes, group];
    this.arrange();
    this.recolour();
  }

  /** "label: 7", or "" where a point has no class; `i`: its number in `points`. */
  describe(i) {
    const value = this.#group.values[this.points.classes[i]];
    return value === undefined ? "" : `${this.#group.name}: ${value}`;
  }

  /** Lays the points out anew: after the axes, the classes or what is hidden have changed. */
  arrange() {
    const { positions } = this.#model;
    this.points = arrange(positions, this.#classes, new Set(this.#session.options.hidden), this.#order);
    if (this.#framed !== positions) [this.#frame, this.#framed] = [extent(positions), positions];
    this.index = new PointIndex(this.points, this.#frame);
    this.hovered = -1;
    this.#names = [...medians(this.points)].map(([name, place]) => ({ text: shortened(this.#group.values[name]), place }));
    this.#contours = null;
    this.redraw(true);
  }

  /** Takes the page's colours anew: after its theme or the classes have changed. */
  recolour() {
    this.#style = overlay.readStyle(this.#canvas);
    const found = coloursOf(this.#group.values, theme());
    // The plain map of a run without classes is in the page's own colour.
    const none = this.#model.manifest.groups.length ? colourOf(NO_CLASS, 0, theme()) : this.#style.accent;
    this.#colours = Uint32Array.from({ length: 256 }, (_, k) => inPixels(toRgb(found[k] ?? none)));
    this.redraw(true);
  }

  /** All points, the prior's first ring, and the shown code. */
  fit() {
    const { left, right, bottom, top } = this.#frame;
    const [x, y] = this.#model.place();
    const among = (low, high, value) => [Math.min(low, value, -1), Math.max(high, value, 1)];
    const [[l, r], [b, t]] = [among(left, right, x), among(bottom, top, y)];
    this.view.fit({ left: l, right: r, bottom: b, top: t });
    this.moved();
  }

  /** The view has moved. */
  moved() {
    this.redraw(true);
    this.refreshLattice();
  }

  refreshLattice() {
    if (this.#session.options.lattice) this.#askLattice();
    else this.#lattice.clear();
  }

  /** Draws at the next frame; `stale`: the points as well. */
  redraw(stale = false) {
    this.#stale ||= stale;
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.#draw();
    });
  }

  #draw() {
    const { view } = this;
    const ratio = devicePixelRatio;
    const [width, height] = [Math.round(view.width * ratio), Math.round(view.height * ratio)];
    if (this.#canvas.width !== width || this.#canvas.height !== height) Object.assign(this.#canvas, { width, height });
    const context = this.#canvas.getContext("2d");
    const { options } = this.#session;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, view.width, view.height);
    if (options.lattice) this.#drawLattice(context, options.points);
    overlay.drawAxes(context, view, this.#style);
    if (options.points) this.#drawPoints(context, width, height, ratio);
    if (options.density) overlay.drawContours(context, view, this.#style, this.#density());
    if (options.rings && this.#model.manifest.is_normal) overlay.drawRings(context, view, this.#style, this.#names);
    if (options.points || options.density) overlay.drawNames(context, view, this.#style, this.#names);
    overlay.drawAxisNames(context, view, this.#style, this.#axisNames());
    this.#drawCodes(context);
  }

  /** Faint where points lie on it, more so on light paper, on which dark images would swallow them. */
  #drawLattice(context, faint) {
    context.globalAlpha = !faint ? 1 : theme() === "dark" ? 0.5 : 0.32;
    context.imageSmoothingEnabled = isSmooth(this.#model.manifest.image);
    this.#lattice.draw(context, this.view);
    context.globalAlpha = 1;
  }

  #drawPoints(context, width, height, ratio) {
    if (this.#stale || this.#layer.width !== width || this.#layer.height !== height) {
      this.#renderPoints(width, height, ratio);
      this.#stale = false;
    }
    context.drawImage(this.#layer, 0, 0, this.view.width, this.view.height);
  }

  #renderPoints(width, height, ratio) {
    const frame = { width, height, margin: MARGIN };
    if (this.#pixels?.width !== width + 2 * MARGIN || this.#pixels.height !== height + 2 * MARGIN) {
      this.#pixels = new ImageData(width + 2 * MARGIN, height + 2 * MARGIN);
      Object.assign(this.#layer, { width, height });
    }
    const [left, top] = this.view.toPixels([0, 0]).map((value) => value * ratio);
    const size = Math.max(1, Math.round(pointSize(this.points.x.length, this.view) * ratio));
    const pixels = new Uint32Array(this.#pixels.data.buffer);
    drawPoints(pixels, frame, this.points, this.#colours, { scale: this.view.scale * ratio, left, top }, size);
    this.#layer.getContext("2d").putImageData(this.#pixels, -MARGIN, -MARGIN);
  }

  #density() {
    this.#contours ??= contours(this.points, this.#frame, SHARES);
    return this.#contours;
  }

  /** What stands for single codes: the posterior of a picture, the pins and their way, the hovered point, the shown code. */
  #drawCodes(context) {
    const [model, view, style] = [this.#model, this.view, this.#style];
    const { pins, options: { path } } = this.#session;
    const which = this.#session.models.indexOf(model);
    const { mean, logVar } = model.origin ?? {};
    if (logVar) overlay.drawPosterior(context, view, style, model.place(mean), overlay.ellipseOf(model.plane, logVar));
    if (pins.A && pins.B) {
      const go = path === "spherical" ? slerp : lerp;
      const steps = Array.from({ length: 65 }, (_, i) => model.place(go(pins.A[which], pins.B[which], i / 64)));
      overlay.drawPath(context, view, style, steps);
    }
    if (this.hovered >= 0) overlay.drawHover(context, view, style, [this.points.x[this.hovered], this.points.y[this.hovered]]);
    overlay.drawMarker(context, view, style, model.place());
    for (const [name, codes] of Object.entries(pins)) if (codes) overlay.drawPin(context, view, style, name, model.place(codes[which]));
  }

  #axisNames() { return this.#model.axes.map((axis) => shortened(this.#model.manifest.columns[axis].name)); }
}

const shortened = (text) => (text.length > 22 ? `${text.slice(0, 21)}…` : text);

/** [red, green, blue] as one opaque pixel of an ImageData. */
const inPixels = ([red, green, blue]) => new Uint32Array(Uint8Array.of(red, green, blue, 255).buffer)[0];
