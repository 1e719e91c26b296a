// Drawing over the points of a map, on a 2-D context in CSS pixels. `style`: the page's colours and font, see readStyle.

import { dot } from "./algebra.js";

const TURN = 2 * Math.PI;
/** The ring of the shown code: its radius, and the room that it needs. */
const [RING, RING_BOX] = [8, 24];
const SHOWN = "shown";

/** The page's present colours, by their names in style.css, and its font. */
export function readStyle() {
  const computed = getComputedStyle(document.documentElement);
  const names = ["card", "ink", "muted", "line", "accent", "pin-a", "pin-b", "pin-c", "on-pin"];
  const colours = Object.fromEntries(names.map((name) => [name, computed.getPropertyValue(`--${name}`).trim()]));
  return { ...colours, font: getComputedStyle(document.body).fontFamily };
}

const fontOf = (style, size = 12, weight = 600) => `${weight} ${size}px ${style.font}`;

/** Text with an outline, so that it is legible on anything. */
function write(context, style, text, [x, y], { size = 12, weight = 600, colour = style.ink, align = "center" } = {}) {
  context.font = fontOf(style, size, weight);
  Object.assign(context, { textAlign: align, textBaseline: "middle", lineJoin: "round", lineWidth: 4, strokeStyle: style.card, fillStyle: colour });
  context.strokeText(text, x, y);
  context.fillText(text, x, y);
}

/** A line with an outline. */
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

/** The width of a text and the room around it. */
function measureText(context, style, text, size, weight) {
  context.font = fontOf(style, size, weight);
  return context.measureText(text).width + 8;
}

// -- axes, rings, density --

/** The lines on which either coordinate is 0. */
export function drawAxes(context, view, style) {
  const [x, y] = view.toPixels([0, 0]).map(Math.round);
  context.fillStyle = style.line;
  context.fillRect(0, y, view.width, 1);
  context.fillRect(x, 0, 1, view.height);
}

/** Boxes of the names of the axes at their ends: { text, x, y, width, height }. */
export function layOutAxisNames(context, view, style, names) {
  const [x, y] = view.toPixels([0, 0]);
  const inside = (value, size, room) => Math.min(size - room, Math.max(room, value));
  return [`${names[0]} →`, `${names[1]} ↑`].map((text, i) => {
    const width = measureText(context, style, text);
    const [atX, atY] = i ? [inside(x, view.width, width / 2 + 4), 12] : [view.width - width / 2 - 4, inside(y, view.height, 14)];
    return { text, x: atX, y: atY, width, height: 18 };
  });
}

export function drawAxisNames(context, style, boxes) {
  for (const { text, x, y } of boxes) write(context, style, text, [x, y], { colour: style.muted });
}

const DASHES = { 1: [], 2: [6, 4], 3: [2, 4] };

/** Half the room that the name of a ring takes, CSS pixels. */
const [RING_NAME_X, RING_NAME_Y] = [14, 10];

/** The prior's circles of 1, 2 and 3 σ, each named at a visible point where it covers none of `boxes` { x, y, width, height }. */
export function drawRings(context, view, style, boxes) {
  const isFree = (position) => {
    const [px, py] = view.toPixels(position);
    return view.holds(position, 20) && boxes.every(({ x, y, width, height }) =>
      Math.abs(x - px) > width / 2 + RING_NAME_X || Math.abs(y - py) > height / 2 + RING_NAME_Y);
  };
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

/** Lines of equal density, a Map from the share they hold to segments [n × (x, y, x, y)], each named at one of its ends. */
export function drawContours(context, view, style, lines) {
  const names = [];
  for (const [share, segments] of lines) {
    const path = new Path2D();
    const ends = []; // upper, lower, left and right end
    for (let i = 0; i < segments.length; i += 4) {
      const from = view.toPixels([segments[i], segments[i + 1]]);
      path.moveTo(...from);
      path.lineTo(...view.toPixels([segments[i + 2], segments[i + 3]]));
      [-from[1], from[1], -from[0], from[0]].forEach((far, k) => { if (!ends[k] || far > ends[k].far) ends[k] = { far, from }; });
    }
    trace(context, style, path, { width: 1 });
    const end = ends.find(({ from }) => names.every(({ at }) => Math.hypot(at[0] - from[0], at[1] - from[1]) > 20));
    if (end) names.push({ text: `${Math.round(100 * share)} %`, at: end.from });
  }
  for (const { text, at } of names) write(context, style, text, at, { size: 11 });
}

// -- names of classes --

/** Names of classes that are legible at once; the others are in the legend and appear when one zooms in. */
const MOST_NAMES = 20;

/** Boxes for the first names of classes { text, position } whose positions are visible; smaller on a small map and for many. */
export function layOutNames(context, view, style, names) {
  const shown = names.filter(({ position }) => view.holds(position)).slice(0, MOST_NAMES);
  const size = shown.length > 10 || view.width < 400 ? 12 : 14;
  return shown.map(({ text, position }) => {
    const [x, y] = view.toPixels(position);
    return { text, size, anchor: [x, y], x, y, width: measureText(context, style, text, size, 700), height: size + 3 };
  });
}

/** Names of classes; one that was moved away from its points is connected to them by a line. */
export function drawNames(context, style, boxes) {
  for (const { x, y, height, anchor } of boxes) {
    if (Math.hypot(x - anchor[0], y - anchor[1]) < height) continue;
    const path = new Path2D();
    path.moveTo(...anchor);
    path.lineTo(x, y);
    trace(context, style, path, { width: 1 });
  }
  for (const { text, size, x, y } of boxes) write(context, style, text, [x, y], { size, weight: 700 });
}

// -- single codes --

/** The semi-axes and angle of the 1 σ ellipse of a diagonal Gaussian in a plane: covariance P diag(σ²) Pᵀ. */
export function ellipseOf({ x, y }, logVar) {
  const variance = Float32Array.from(logVar, Math.exp);
  const project = (a, b) => dot(a.map((value, i) => value * b[i]), variance);
  const [xx, xy, yy] = [project(x, x), project(x, y), project(y, y)];
  const [middle, half] = [(xx + yy) / 2, Math.hypot((xx - yy) / 2, xy)];
  return { long: Math.sqrt(middle + half), short: Math.sqrt(Math.max(0, middle - half)), angle: 0.5 * Math.atan2(2 * xy, xx - yy) };
}

/** The ellipses of a posterior, 1 σ and fainter 2 σ. */
export function drawPosterior(context, view, style, position, { long, short, angle }) {
  for (const times of [2, 1]) {
    const path = new Path2D();
    // y points down on the screen, so angles turn the other way
    path.ellipse(...view.toPixels(position), times * long * view.scale, times * short * view.scale, -angle, 0, TURN);
    context.globalAlpha = times === 1 ? 0.22 : 0.12;
    context.fillStyle = style.accent;
    context.fill(path);
    context.globalAlpha = 1;
    trace(context, style, path, { colour: style.accent, width: times === 1 ? 1.75 : 1, dash: times === 1 ? [] : [4, 3] });
  }
}

/** The path from one pin to the other through `positions`. */
export function drawPath(context, view, style, positions) {
  const path = new Path2D();
  positions.forEach((position, i) => path[i ? "lineTo" : "moveTo"](...view.toPixels(position)));
  trace(context, style, path, { dash: [6, 5] });
}

/** The box of a pin whose tip is at a position. */
export function layOutPin(view, position) {
  const [x, y] = view.toPixels(position);
  return { x, y: y - 14, width: 26, height: 34 };
}

/** A pin "A", "B" or "C" with its tip at a position. */
export function drawPin(context, view, style, name, position) {
  const [x, y] = view.toPixels(position);
  const head = y - 18;
  const path = new Path2D();
  path.arc(x, head, 10, 0.8 * Math.PI, 2.2 * Math.PI);
  path.lineTo(x, y);
  path.closePath();
  Object.assign(context, { lineJoin: "round", strokeStyle: style.card, lineWidth: 3, fillStyle: style[`pin-${name.toLowerCase()}`] });
  context.stroke(path);
  context.fill(path);
  context.font = fontOf(style, 12, 700);
  Object.assign(context, { textAlign: "center", textBaseline: "middle", fillStyle: style["on-pin"] });
  context.fillText(name, x, head + 0.5);
}

/** A ring of two tones around a point. */
export function drawHover(context, view, style, position) {
  const path = new Path2D();
  path.arc(...view.toPixels(position), 6, 0, TURN);
  trace(context, style, path, { width: 2 });
}

/** Boxes of the marker of the shown code, its ring and its name. The marker stays at the edge if its position is not visible. */
export function layOutMarker(context, view, style, position) {
  const [x, y] = view.toPixels(position).map((value, i) => Math.min((i ? view.height : view.width) - 12, Math.max(12, value)));
  const width = measureText(context, style, SHOWN);
  const side = x < view.width - 60 ? 1 : -1;
  return [
    { x, y, width: RING_BOX, height: RING_BOX, isAway: !view.holds(position) },
    { x: x + side * (RING + 3 + width / 2), y, width, height: 18 },
  ];
}

/** The marker of the shown code: a ring of two tones with its name; dashed where its position is not visible. */
export function drawMarker(context, style, [ring, name]) {
  const path = new Path2D();
  path.arc(ring.x, ring.y, RING, 0, TURN);
  Object.assign(context, { strokeStyle: style.card, lineWidth: 7 });
  context.stroke(path);
  context.setLineDash(ring.isAway ? [5, 4] : []);
  Object.assign(context, { strokeStyle: style.ink, lineWidth: 3 });
  context.stroke(path);
  context.setLineDash([]);
  write(context, style, SHOWN, [name.x, name.y]);
}
