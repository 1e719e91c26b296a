import { lerp, slerp } from "./algebra.js";
import { colourOf, coloursOf, theme, toRgb } from "./colours.js";
import { contours } from "./contours.js";
import { separateLabels } from "./labels.js";
import { Lattice } from "./lattice.js";
import { MapView } from "./map-view.js";
import * as overlay from "./overlay.js";
import { isSmooth } from "./pixels.js";
import { arrange, drawPoints, extent, medians, NO_CLASS, PointIndex, pointSize, shuffled } from "./points.js";
import { debounce } from "./scheduling.js";

/** Spare pixels around the layer of points, more than the width of a point. */
const MARGIN = 20;
const SHARES = [0.25, 0.5, 0.75, 0.95];

/**
 * The contents of a map, drawn once per frame after a change.
 *
 * From back to front: axes, points, lattice, density, posterior, path, rings, names of classes, the shown code, pins.
 */
export class MapCanvas {
  view;
  /** The points that are shown, see points.js, and their index. */
  points;
  index;
  /** The number in `points` of the point under the cursor, or −1. */
  hovered = -1;

  #canvas; #session; #model; #order; #lattice; #classes; #group = { name: "", values: [] }; #extent; #measured; #style; #colours;
  #names = []; #contours = null; #layer = new OffscreenCanvas(1, 1); #pixels = null; #scheduled = false; #stale = true;
  #requestLattice = debounce(() => {
    const { lattice, points } = this.#session.options;
    if (lattice) this.#lattice.show(this.view, points);
  }, 120);

  constructor(canvas, session, model) {
    [this.#canvas, this.#session, this.#model] = [canvas, session, model];
    this.view = new MapView(session.frame);
    this.#order = shuffled(model.manifest.count);
    this.#classes = new Uint8Array(model.manifest.count).fill(NO_CLASS);
    this.#lattice = new Lattice(model, () => this.redraw());
    this.arrange();
    this.recolour();
  }

  /** Sets the class of each point [all points] in a group { name, values } of the manifest. */
  setClasses(classes, group) {
    [this.#classes, this.#group] = [classes, group];
    this.arrange();
    this.recolour();
  }

  /** "label: 7", or "" for a point without a class; `i`: its number in `points`. */
  describe(i) {
    const value = this.#group.values[this.points.classes[i]];
    return value === undefined ? "" : `${this.#group.name}: ${value}`;
  }

  /** Arranges the points again after the axes, the classes or the hidden classes have changed. */
  arrange() {
    const { positions } = this.#model;
    this.points = arrange(positions, this.#classes, new Set(this.#session.options.hidden), this.#order);
    if (this.#measured !== positions) [this.#extent, this.#measured] = [extent(positions), positions];
    this.#session.setExtent(this.#model, this.#extent);
    this.index = new PointIndex(this.points, this.#extent);
    this.hovered = -1;
    this.#names = [...medians(this.points)].map(([name, position]) => ({ text: shorten(this.#group.values[name]), position }));
    this.#contours = null;
    this.redraw(true);
  }

  /** Reads the page's colours again after its theme or the classes have changed. */
  recolour() {
    this.#style = overlay.readStyle();
    const found = coloursOf(this.#group.values, theme());
    // the points of a run without classes have the page's own colour
    const none = this.#model.manifest.groups.length ? colourOf(NO_CLASS, 0, theme()) : this.#style.accent;
    this.#colours = Uint32Array.from({ length: 256 }, (_, k) => toPixel(toRgb(found[k] ?? none)));
    this.redraw(true);
  }

  /** Shows all points of all models, the first ring of N(0, I) if one has this prior, and the shown codes. */
  fit() {
    const { left, right, bottom, top } = this.#session.extent;
    const positions = this.#session.models.map((model) => model.position());
    const ring = this.#session.models.some(({ manifest }) => manifest.is_normal) ? [-1, 1] : [];
    const [xs, ys] = [0, 1].map((axis) => [...ring, ...positions.map((position) => position[axis])]);
    this.view.fit({ left: Math.min(left, ...xs), right: Math.max(right, ...xs), bottom: Math.min(bottom, ...ys), top: Math.max(top, ...ys) });
    this.#session.moveFrame();
  }

  refreshLattice() {
    if (this.#session.options.lattice) this.#requestLattice();
    else this.#lattice.clear();
  }

  /** Draws in the next frame; `stale`: the points as well. */
  redraw(stale = false) {
    this.#stale ||= stale;
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
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
    overlay.drawAxes(context, view, this.#style);
    if (options.points) this.#drawPoints(context, width, height, ratio);
    if (options.lattice) this.#drawLattice(context);
    if (options.density) overlay.drawContours(context, view, this.#style, this.#density());
    this.#drawRegions(context);
    this.#drawLabels(context, options);
    this.#drawCodes(context);
  }

  #drawLattice(context) {
    context.imageSmoothingEnabled = isSmooth(this.#model.manifest.image);
    this.#lattice.draw(context, this.view);
  }

  /** Names of classes and of axes, and the rings; the names give way to each other and to the marked codes. */
  #drawLabels(context, options) {
    const [view, style] = [this.view, this.#style];
    const axes = overlay.layOutAxisNames(context, view, style, this.#model.axes.map((axis) => shorten(this.#model.manifest.columns[axis].name)));
    const named = options.points || options.density ? overlay.layOutNames(context, view, style, this.#names) : [];
    const marked = overlay.layOutMarker(context, view, style, this.#model.position());
    const pins = this.#pins().map(([, position]) => overlay.layOutPin(view, position));
    const names = separateLabels(named, [...axes, ...marked, ...pins], view);
    if (options.rings && this.#model.manifest.is_normal) overlay.drawRings(context, view, style, [...names, ...axes, ...marked, ...pins]);
    overlay.drawNames(context, style, names);
    overlay.drawAxisNames(context, style, axes);
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
    this.#contours ??= contours(this.points, this.#extent, SHARES);
    return this.#contours;
  }

  /** The pins of this model, [name, position] each. */
  #pins() {
    const which = this.#session.models.indexOf(this.#model);
    return Object.entries(this.#session.pins).filter(([, codes]) => codes).map(([name, codes]) => [name, this.#model.position(codes[which])]);
  }

  /** The posterior of an image and the path between pins, below the names. */
  #drawRegions(context) {
    const [model, view, style] = [this.#model, this.view, this.#style];
    const { pins, options: { path } } = this.#session;
    const { mean, logVar } = model.origin ?? {};
    if (logVar && !model.manifest.is_quantised) overlay.drawPosterior(context, view, style, model.position(mean), overlay.ellipseOf(model.plane, logVar));
    if (pins.A && pins.B) {
      const which = this.#session.models.indexOf(model);
      const interpolate = path === "spherical" ? slerp : lerp;
      const steps = Array.from({ length: 65 }, (_, i) => model.position(interpolate(pins.A[which], pins.B[which], i / 64)));
      overlay.drawPath(context, view, style, steps);
    }
  }

  /** The marks of single codes: the hovered point, the shown code and the pins. */
  #drawCodes(context) {
    const [view, style] = [this.view, this.#style];
    if (this.hovered >= 0) overlay.drawHover(context, view, style, [this.points.x[this.hovered], this.points.y[this.hovered]]);
    overlay.drawMarker(context, style, overlay.layOutMarker(context, view, style, this.#model.position()));
    for (const [name, position] of this.#pins()) overlay.drawPin(context, view, style, name, position);
  }
}

const shorten = (text) => (text.length > 22 ? `${text.slice(0, 21)}…` : text);

/** [red, green, blue] as one opaque pixel of an ImageData. */
const toPixel = ([red, green, blue]) => new Uint32Array(Uint8Array.of(red, green, blue, 255).buffer)[0];
