/**
 * The part of the plane that a map shows: positions [x, y] to CSS pixels and back. A unit is as long along x as along y, and y
 * points up. Maps that share a `frame` show the same part of the plane at the same scale.
 */
export class MapView {
  /** CSS pixels. */
  width = 1;
  height = 1;
  /** The position in the middle, the units along the shorter side, and those at the last fit. */
  frame;

  constructor(frame = { centre: [0, 0], span: 1, fitted: 1 }) { this.frame = frame; }

  /** CSS pixels to a unit of the plane. */
  get scale() { return Math.min(this.width, this.height) / this.frame.span; }

  /** Magnification relative to the last fit. */
  get zoom() { return this.frame.fitted / this.frame.span; }

  toPixels([x, y]) {
    const { scale, frame: { centre } } = this;
    return [this.width / 2 + (x - centre[0]) * scale, this.height / 2 - (y - centre[1]) * scale];
  }

  toPosition([px, py]) {
    const { scale, frame: { centre } } = this;
    return [centre[0] + (px - this.width / 2) / scale, centre[1] - (py - this.height / 2) / scale];
  }

  /** Whether a position is at least `margin` pixels inside the map. */
  holds(position, margin = 0) {
    const [px, py] = this.toPixels(position);
    return px >= margin && py >= margin && px <= this.width - margin && py <= this.height - margin;
  }

  /** Pans until a position is at least `margin` pixels inside; returns whether it had to. */
  reveal(position, margin) {
    const [px, py] = this.toPixels(position);
    const inside = (value, size) => Math.min(size - margin, Math.max(margin, value));
    const [dx, dy] = [inside(px, this.width) - px, inside(py, this.height) - py];
    this.pan(dx, dy);
    return dx !== 0 || dy !== 0;
  }

  pan(dx, dy) {
    const { scale, frame } = this;
    frame.centre = [frame.centre[0] - dx / scale, frame.centre[1] + dy / scale];
  }

  /** Zooms by `factor`; the position under a pixel stays under it. */
  zoomAt(pixel, factor) {
    const { frame } = this;
    const [x, y] = this.toPosition(pixel);
    frame.span = Math.max(frame.fitted / 400, Math.min(4 * frame.fitted, frame.span / factor));
    const [nowX, nowY] = this.toPosition(pixel);
    frame.centre = [frame.centre[0] + x - nowX, frame.centre[1] + y - nowY];
  }

  /** Shows all of { left, right, bottom, top } with a margin. */
  fit({ left, right, bottom, top }) {
    const scale = 0.92 * Math.min(this.width / Math.max(right - left, 1e-6), this.height / Math.max(top - bottom, 1e-6));
    const span = Math.min(this.width, this.height) / scale;
    Object.assign(this.frame, { centre: [(left + right) / 2, (bottom + top) / 2], span, fitted: span });
  }

  /** Keeps the middle and the units along the shorter side. */
  resize(width, height) { Object.assign(this, { width, height }); }
}
