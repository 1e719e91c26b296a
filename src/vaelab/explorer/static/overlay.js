// What is drawn over the points, on a 2-D context in CSS pixels. `style`: the page's colours and font, see readStyle.

import { dot } from "./algebra.js";

const TURN = 2 * Math.PI;

/** The page's colours, by their names in style.css, as they are at this moment, and its font. */
export function readStyle(element) {
  const computed = getComputedStyle(element);
  const colour = (name) => computed.getPropertyValue(`--${name}`).trim() || "#888888";
  const names = ["card", "ink", "muted", "line", "accent", "pin-a", "pin-b", "pin-c", "on-pin"];
  return { ...Object.fromEntries(names.map((name) => [name, colour(name)])), font: computed.fontFamily };
}

/** Text with a halo, so that it is legible on anything. */
function write(context, style, text, [x, y], { size = 12, weight = 600, colour = style.ink, align = "center" } = {}) {
  context.font = `${weight} ${size}px ${style.font}`;
  Object.assign(context, { textAlign: align, textBaseline: "middle", lineJoin: "round", lineWidth: 4, strokeStyle: style.card, fillStyle: colour });
  context.strokeText(text, x, y);
  context.fillText(text, x, y);
}

/** A line with a halo. */
function trace(context, style, path, { colour = style.ink, width = 1.5, dash = [] } = {}) {
  context.lineJoin = "round";
  context.setLineDash([]);
  Object.assign(context, { strokeStyle: style.card, lineWidth: width + 2.5, globalAlpha: 0.75 });
  context.stroke(path);
  context.setLineDash(dash);
  Object.assign(context, { strokeStyle: colour, lineWidth: width, globalAlpha: 1 });
  context.stroke(path);
  context.setLineDash([]);
}

/** The lines where either coordinate is nought. */
export function drawAxes(context, view, style) {
  const [x, y] = view.toPixels([0, 0]).map(Math.round);
  context.fillStyle = style.line;
  context.fillRect(0, y, view.width, 1);
  context.fillRect(x, 0, 1, view.height);
}

/** The names of the axes at their ends. */
export function drawAxisNames(context, view, style, [nameX, nameY]) {
  const [x, y] = view.toPixels([0, 0]);
  const inside = (value, size) => Math.min(size - 14, Math.max(14, value));
  write(context, style, `${nameX} →`, [view.width - 8, inside(y, view.height)], { colour: style.muted, align: "right" });
  const room = 10 + context.measureText(nameY).width / 2;
  write(context, style, `${nameY} ↑`, [Math.min(view.width - room, Math.max(room, x)), 12], { colour: style.muted });
}

const DASHES = { 1: [], 2: [6, 4], 3: [2, 4] };

/** The prior's circles of 1, 2 and 3 σ, each named where it is in sight and no other name, { place }, is near. */
export function drawRings(context, view, style, names) {
  const taken = names.map(({ place }) => view.toPixels(place));
  const isFree = (place) => view.holds(place, 20) && taken.every(([x, y]) => Math.hypot(x - view.toPixels(place)[0], y - view.toPixels(place)[1]) > 24);
  const middle = view.toPixels([0, 0]);
  for (const radius of [1, 2, 3]) {
    const path = new Path2D();
    path.arc(...middle, radius * view.scale, 0, TURN);
    trace(context, style, path, { colour: style.muted, width: 1.25, dash: DASHES[radius] });
    const angle = [0.125, 0.375, 0.625, 0.875, 0.25, 0.5, 0.75, 0].find((turn) => isFree(onCircle(radius, turn)));
    if (angle !== undefined) write(context, style, `${radius}σ`, view.toPixels(onCircle(radius, angle)), { colour: style.muted });
  }
}

const onCircle = (radius, turn) => [radius * Math.cos(turn * TURN), radius * Math.sin(turn * TURN)];

/** Lines of equal density, a Map from the share they hold to places [segments × (x, y, x, y)], each named at one of its ends. */
export function drawContours(context, view, style, lines) {
  const names = [];
  for (const [share, places] of lines) {
    const path = new Path2D();
    // The first that is free of upper, lower, left and right end.
    const ends = [];
    for (let i = 0; i < places.length; i += 4) {
      const from = view.toPixels([places[i], places[i + 1]]);
      path.moveTo(...from);
      path.lineTo(...view.toPixels([places[i + 2], places[i + 3]]));
      [-from[1], from[1], -from[0], from[0]].forEach((far, k) => { if (!ends[k] || far > ends[k].far) ends[k] = { far, from }; });
    }
    trace(context, style, path, { width: 1 });
    const end = ends.find(({ from }) => names.every(({ at }) => Math.hypot(at[0] - from[0], at[1] - from[1]) > 20));
    if (end) names.push({ text: `${Math.round(100 * share)} %`, at: end.from });
  }
  for (const { text, at } of names) write(context, style, text, at, { size: 11 });
}

/** Names of classes, { text, place }, each at its place unless another is there already. */
export function drawNames(context, view, style, names) {
  const taken = [];
  for (const { text, place } of names) {
    const [x, y] = view.toPixels(place);
    context.font = `700 14px ${style.font}`;
    const half = context.measureText(text).width / 2 + 3;
    if (taken.some((box) => Math.abs(box.x - x) < box.half + half && Math.abs(box.y - y) < 15)) continue;
    taken.push({ x, y, half });
    write(context, style, text, [x, y], { size: 14, weight: 700 });
  }
}

/** The half axes and angle of the 1 σ ellipse of a diagonal Gaussian seen on a plane: covariance P diag(σ²) Pᵀ. */
export function ellipseOf({ x, y }, logVar) {
  const variance = Float32Array.from(logVar, Math.exp);
  const seen = (a, b) => dot(a.map((value, i) => value * b[i]), variance);
  const [xx, xy, yy] = [seen(x, x), seen(x, y), seen(y, y)];
  const [middle, half] = [(xx + yy) / 2, Math.hypot((xx - yy) / 2, xy)];
  return { long: Math.sqrt(middle + half), short: Math.sqrt(Math.max(0, middle - half)), angle: 0.5 * Math.atan2(2 * xy, xx - yy) };
}

/** What a posterior leaves open: 1 σ, and 2 σ fainter. */
export function drawPosterior(context, view, style, place, { long, short, angle }) {
  for (const times of [2, 1]) {
    const path = new Path2D();
    // y points down on the screen, so angles turn the other way.
    path.ellipse(...view.toPixels(place), times * long * view.scale, times * short * view.scale, -angle, 0, TURN);
    context.globalAlpha = times === 1 ? 0.22 : 0.12;
    context.fillStyle = style.accent;
    context.fill(path);
    context.globalAlpha = 1;
    trace(context, style, path, { colour: style.accent, width: times === 1 ? 1.75 : 1, dash: times === 1 ? [] : [4, 3] });
  }
}

/** The way from one pin to the other through `places`. */
export function drawPath(context, view, style, places) {
  const path = new Path2D();
  places.forEach((place, i) => path[i ? "lineTo" : "moveTo"](...view.toPixels(place)));
  trace(context, style, path, { dash: [6, 5] });
}

/** A pin "A", "B" or "C": its letter on a head, its tip at the place. */
export function drawPin(context, view, style, name, place) {
  const [x, y] = view.toPixels(place);
  const head = y - 18;
  const path = new Path2D();
  path.arc(x, head, 10, 0.8 * Math.PI, 2.2 * Math.PI);
  path.lineTo(x, y);
  path.closePath();
  Object.assign(context, { lineJoin: "round", strokeStyle: style.card, lineWidth: 3, fillStyle: style[`pin-${name.toLowerCase()}`] });
  context.stroke(path);
  context.fill(path);
  context.font = `700 12px ${style.font}`;
  Object.assign(context, { textAlign: "center", textBaseline: "middle", fillStyle: style["on-pin"] });
  context.fillText(name, x, head + 0.5);
}

/** A ring of two tones about a point. */
export function drawHover(context, view, style, place) {
  const path = new Path2D();
  path.arc(...view.toPixels(place), 6, 0, TURN);
  trace(context, style, path, { width: 2 });
}

/** Where the shown code is: a ring of two tones with its name; broken, at the frame's edge, where that is out of sight. */
export function drawMarker(context, view, style, place) {
  const away = !view.holds(place);
  const [x, y] = view.toPixels(place).map((value, i) => Math.min((i ? view.height : view.width) - 12, Math.max(12, value)));
  const path = new Path2D();
  path.arc(x, y, 8, 0, TURN);
  Object.assign(context, { strokeStyle: style.card, lineWidth: 7 });
  context.stroke(path);
  context.setLineDash(away ? [5, 4] : []);
  Object.assign(context, { strokeStyle: style.ink, lineWidth: 3 });
  context.stroke(path);
  context.setLineDash([]);
  const right = x < view.width - 60;
  write(context, style, "shown", [right ? x + 15 : x - 15, y], { align: right ? "left" : "right" });
}
