/**
 * What of the plane a map shows: places [x, y] to CSS pixels and back. One unit is as long along x as along y, and y points up.
 */
export class MapView {
  /** CSS pixels. */
  width = 1;
  height = 1;
  /** The place in the middle. */
  centre = [0, 0];
  /** CSS pixels to a unit of the plane; `fitted` is that of the last fit. */
  scale = 1;
  fitted = 1;

  /** How much nearer one is than where everything is seen. */
  get zoom() { return this.scale / this.fitted; }

  toPixels([x, y]) {
    return [this.width / 2 + (x - this.centre[0]) * this.scale, this.height / 2 - (y - this.centre[1]) * this.scale];
  }

  toPlace([px, py]) {
    return [this.centre[0] + (px - this.width / 2) / this.scale, this.centre[1] - (py - this.height / 2) / this.scale];
  }

  /** Whether a place is at least `margin` pixels inside the frame. */
  holds(place, margin = 0) {
    const [px, py] = this.toPixels(place);
    return px >= margin && py >= margin && px <= this.width - margin && py <= this.height - margin;
  }

  /** Pans no farther than it takes to have a place at least `margin` pixels inside; whether it had to. */
  bring(place, margin) {
    const [px, py] = this.toPixels(place);
    const inside = (value, size) => Math.min(size - margin, Math.max(margin, value));
    const [dx, dy] = [inside(px, this.width) - px, inside(py, this.height) - py];
    this.pan(dx, dy);
    return dx !== 0 || dy !== 0;
  }

  pan(dx, dy) {
    this.centre = [this.centre[0] - dx / this.scale, this.centre[1] + dy / this.scale];
  }

  /** Zooms by `factor`; the place under a pixel stays under it. */
  zoomAt(pixel, factor) {
    const [x, y] = this.toPlace(pixel);
    this.scale = Math.min(400 * this.fitted, Math.max(this.fitted / 4, this.scale * factor));
    const [nowX, nowY] = this.toPlace(pixel);
    this.centre = [this.centre[0] + x - nowX, this.centre[1] + y - nowY];
  }

  /** Shows all of { left, right, bottom, top } with some air about it. */
  fit({ left, right, bottom, top }) {
    this.centre = [(left + right) / 2, (bottom + top) / 2];
    const air = 0.92;
    const scale = air * Math.min(this.width / Math.max(right - left, 1e-6), this.height / Math.max(top - bottom, 1e-6));
    this.scale = this.fitted = scale;
  }

  /** The same middle, as much of the plane as before. */
  resize(width, height) {
    const ratio = Math.min(width, height) / Math.min(this.width, this.height);
    Object.assign(this, { width, height, scale: this.scale * ratio, fitted: this.fitted * ratio });
  }
}
