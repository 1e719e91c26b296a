import { make } from "./dom.js";

/** Pixels of the pad's canvas along the longer side of the image, about: what a drawing is averaged from. */
const FINE = 384;
/** Points of a stroke closer than this, in model pixels, are one point. */
const CLOSE = 0.1;

/**
 * A pad to draw on with mouse, finger, pen or keyboard: `strokes`, lists of [x, y] in model pixels.
 *
 * Events: "draw" (a stroke has grown), "drawn" (a stroke has ended, or was taken back).
 */
export class Pad extends EventTarget {
  strokes = [];

  #shape; #dark; #grain; #sheet; #pen; #stroke = null; #cursor = null; #frame = 0;

  constructor({ height, width }, { dark, pen }) {
    super();
    this.#shape = { height, width };
    this.#dark = dark;
    this.#pen = Math.round(10 * pen) / 10;
    this.#grain = Math.max(2, Math.round(FINE / Math.max(height, width)));
    const size = { width: width * this.#grain, height: height * this.#grain };
    this.#sheet = Object.assign(document.createElement("canvas"), size);
    this.element = make("canvas", { ...size, class: "pad", tabindex: 0, role: "application", "aria-roledescription": "drawing pad",
      "aria-label": "Drawing pad: draw with the pointer, or move the pen with the arrow keys and lower or lift it with Space" });
    this.#listen();
    this.#show();
  }

  get pen() { return this.#pen; }
  set pen(width) { this.#pen = width; this.#show(); }
  /** Canvas pixels to a model pixel. */
  get grain() { return this.#grain; }
  get isDrawing() { return this.#stroke !== null; }

  /** Replaces what is drawn. */
  show(strokes) { this.strokes = strokes; this.#show(); }

  undo() { this.show(this.strokes.slice(0, -1)); this.#emit("drawn"); }

  /** Strokes, by default those on the pad, as a picture { width, height, data } to be averaged to a model's size. */
  picture(strokes = this.strokes) {
    const { width, height } = this.#sheet;
    const context = this.#sheet.getContext("2d", { willReadFrequently: true });
    this.#draw(context, strokes);
    return { width, height, data: context.getImageData(0, 0, width, height).data };
  }

  #listen() {
    const { element } = this;
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.isPrimary) return;
      element.setPointerCapture(event.pointerId);
      this.#cursor = null;
      this.#lower(this.#position(event));
    });
    element.addEventListener("pointermove", (event) => {
      if (!this.#stroke || !event.isPrimary || !element.hasPointerCapture(event.pointerId)) return;
      const events = event.getCoalescedEvents?.() ?? [];
      for (const each of events.length ? events : [event]) this.#extend(this.#position(each));
    });
    for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, () => this.#lift());
    element.addEventListener("blur", () => { this.#lift(); this.#cursor = null; this.#show(); });
    element.addEventListener("keydown", (event) => this.#press(event));
  }

  /** Arrow keys move the pen (with Shift further), Space lowers and lifts it, Backspace takes a stroke back. */
  #press(event) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!way && event.key !== " " && event.key !== "Backspace") return;
    event.preventDefault();
    event.stopPropagation();
    const { width, height } = this.#shape;
    this.#cursor ??= [width / 2, height / 2];
    if (way) {
      const step = (event.shiftKey ? 4 : 1) * Math.max(height, width) / 28;
      this.#cursor = this.#cursor.map((at, axis) => Math.max(0, Math.min([width, height][axis], at + step * way[axis])));
      if (this.#stroke) this.#extend(this.#cursor);
    } else if (event.key === " ") this.#stroke ? this.#lift() : this.#lower(this.#cursor);
    else if (this.strokes.length && !this.#stroke) this.undo();
    this.#later();
  }

  #position({ clientX, clientY }) {
    const { left, top, width, height } = this.element.getBoundingClientRect();
    return [((clientX - left) / width) * this.#shape.width, ((clientY - top) / height) * this.#shape.height];
  }

  #lower(position) {
    this.#stroke = [position];
    this.strokes = [...this.strokes, this.#stroke];
    this.#later();
  }

  #extend(position) {
    const [x, y] = this.#stroke.at(-1);
    if (Math.hypot(position[0] - x, position[1] - y) < CLOSE) return;
    this.#stroke.push(position);
    this.#later();
  }

  #lift() {
    if (!this.#stroke) return;
    this.#stroke = null;
    this.#show();
    this.#emit("drawn");
  }

  /** Shows a grown stroke with the next frame, however many points come until then. */
  #later() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#show();
      if (this.#stroke) this.#emit("draw");
    });
  }

  #show() {
    const context = this.element.getContext("2d");
    this.#draw(context, this.strokes);
    this.element.toggleAttribute("data-empty", this.strokes.length === 0);
    if (!this.#cursor) return;
    const [x, y] = this.#cursor.map((at) => at * this.#grain);
    context.strokeStyle = "#808080";
    context.lineWidth = this.#stroke ? 4 : 2;
    context.beginPath();
    context.arc(x, y, (this.pen / 2) * this.#grain + 4, 0, 2 * Math.PI);
    context.stroke();
  }

  #draw(context, strokes) {
    const [ground, ink] = this.#dark ? ["#000", "#fff"] : ["#fff", "#000"];
    context.fillStyle = ground;
    context.fillRect(0, 0, context.canvas.width, context.canvas.height);
    Object.assign(context, { strokeStyle: ink, lineWidth: this.pen * this.#grain, lineCap: "round", lineJoin: "round" });
    for (const stroke of strokes) trace(context, stroke.map(([x, y]) => [x * this.#grain, y * this.#grain]));
  }

  #emit(what) { this.dispatchEvent(new Event(what)); }
}

/** Draws a curve that has its corners at the points and passes midway between them. */
function trace(context, points) {
  context.beginPath();
  context.moveTo(...points[0]);
  for (let i = 1; i < points.length - 1; i++) {
    const [[ax, ay], [bx, by]] = [points[i], points[i + 1]];
    context.quadraticCurveTo(ax, ay, (ax + bx) / 2, (ay + by) / 2);
  }
  context.lineTo(...points.at(-1));
  context.stroke();
}
