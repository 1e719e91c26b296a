import { button, card, make } from "./dom.js";
import { listenForGestures, listenForMapKeys } from "./gestures.js";
import { HoverCard } from "./hover-card.js";
import { makeLegend } from "./legend.js";
import { makeAxes } from "./map-axes.js";
import { MapCanvas } from "./map-canvas.js";
import { formatCount, formatFixed } from "./numbers.js";
import { debounce, LatestOnly } from "./scheduling.js";

/** The distance from a point within which the cursor is on it, CSS pixels. */
const NEAR = 12;
/** The share of the visible width that an arrow key moves. */
const STEP = 1 / 50;

const LAYERS = [["points", "Points", null], ["lattice", "Lattice", "L"], ["density", "Density", "D"], ["rings", "Rings", "G"]];
const NAMES = {
  points: "Points: the codes of images",
  lattice: "Lattice of decoded images",
  density: "Density: contours containing 25, 50, 75 and 95 % of the points",
  rings: "Rings: 1, 2 and 3 σ of the prior",
};

const USAGE = "Arrow keys move the current code, in larger steps with Shift; plus and minus zoom; F fits all points; Enter selects the nearest point.";

let count = 0;

/** The map of codes with its controls. */
export function mountMap(element, session, model) {
  const axes = makeAxes(model);
  const position = make("p", { class: "hint number map-position", id: `map-position-${++count}` });
  const spoken = make("p", { class: "visually-hidden", role: "status" });
  const canvas = make("canvas", {
    class: "map", tabindex: "0", role: "application", "aria-roledescription": "map", "aria-describedby": position.id,
    "aria-label": `Map of the codes of ${model.manifest.run}. ${USAGE}`,
  });
  const hover = new HoverCard(model);
  const frame = make("div", { class: "map-frame" }, canvas, hover.element);
  const section = card("Map", { class: "map-card" }, axes.map);

  const map = new MapCanvas(canvas, session, model);
  const handlers = makeHandlers(session, model, map, hover);
  const tools = make("div", { class: "row map-tools" }, layerButtons(session), zoomButtons(handlers));
  const group = () => (session.options.group in model.manifest.groups ? session.options.group : 0);
  const legend = model.manifest.groups.length ? [makeLegend(session, model, group)] : [];
  section.append(axes.any, tools, frame, position, ...legend, axes.note, spoken);
  element.append(section);
  canvas.map = { toPixels: (at) => map.view.toPixels(at), toPosition: (pixel) => map.view.toPosition(pixel) };
  listenForGestures(canvas, handlers);
  listenForMapKeys(canvas, handlers);
  followSize(session, canvas, frame, map);
  const describe = describePosition(model, map, position, spoken);
  followPage(session, model, map, group, describe);
}

/** The handlers of gestures and keys. */
function makeHandlers(session, model, map, hover) {
  const { view } = map;
  const commit = debounce(() => session.commit(), 400);
  const pointAt = (pixel) => (session.options.points ? map.index.within(view.toPosition(pixel), NEAR / view.scale) : -1);
  const choose = (i) => session.choosePoint(model, map.points.index[i]);

  const handlers = {
    drag: (pixel) => session.moveTo(view.toPosition(pixel)),
    drop: () => session.commit(),
    click(pixel) {
      const found = pointAt(pixel);
      if (found >= 0) return choose(found);
      session.moveTo(view.toPosition(pixel));
      session.commit();
    },
    pan: (dx, dy) => { view.pan(dx, dy); session.moveFrame(); },
    zoom: (pixel, factor) => { view.zoomAt(pixel, factor); session.moveFrame(); },
    hover(pixel) {
      const found = pixel ? pointAt(pixel) : -1;
      if (found < 0) hover.hide();
      else hover.show(map.points.index[found], map.describe(found), view.toPixels([map.points.x[found], map.points.y[found]]), view);
      if (found === map.hovered) return;
      map.hovered = found;
      map.redraw();
    },
    step(x, y) {
      const step = (STEP * view.width) / view.scale;
      const [fromX, fromY] = model.position();
      const to = [fromX + x * step, fromY + y * step];
      if (view.reveal(to, 20)) session.moveFrame();
      session.moveTo(to);
      commit();
    },
    zoomBy: (factor) => handlers.zoom([view.width / 2, view.height / 2], factor),
    fit: () => map.fit(),
    choose() {
      const found = map.index.nearest(model.position());
      if (found >= 0) choose(found);
    },
    leave: () => handlers.hover(null),
  };
  return handlers;
}

function layerButtons(session) {
  const layers = LAYERS.filter(([layer]) => layer !== "rings" || session.models.some(({ manifest }) => manifest.is_normal));
  const buttons = layers.map(([layer, text, key]) =>
    button(text, () => session.setOptions({ [layer]: !session.options[layer] }), { title: NAMES[layer] + (key ? ` (${key})` : ""), "aria-keyshortcuts": key }));
  const update = () => buttons.forEach((each, i) => each.setAttribute("aria-pressed", String(session.options[layers[i][0]])));
  session.addEventListener("options", update);
  update();
  return make("div", { class: "row", role: "group", "aria-label": "Layers of the map" }, ...buttons);
}

function zoomButtons(handlers) {
  return make("div", { class: "row", role: "group", "aria-label": "Zoom" },
    button("−", () => handlers.zoomBy(0.8), { "aria-label": "Zoom out", title: "Zoom out (−, on the map)" }),
    button("+", () => handlers.zoomBy(1.25), { "aria-label": "Zoom in", title: "Zoom in (+, on the map)" }),
    button("Fit", () => handlers.fit(), { title: "Show everything (F, on the map)" }));
}

/** Keeps the canvas at the resolution of the screen, and fits the map once its size is known. */
function followSize(session, canvas, frame, map) {
  let fitted = false;
  new ResizeObserver(() => {
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width || !height) return;
    map.view.resize(width, height);
    if (!fitted) map.fit();
    fitted = true;
    session.moveFrame();
  }).observe(frame);
  const watch = () => matchMedia(`(resolution: ${devicePixelRatio}dppx)`).addEventListener("change", () => { session.moveFrame(); watch(); }, { once: true });
  watch();
}

/** Keeps the map up to date with the model, the options and the theme. */
function followPage(session, model, map, group, describe) {
  let [shown, hidden] = [-1, session.options.hidden.join()];
  const colour = new LatestOnly(
    (index) => model.group(index),
    (classes, index) => { map.setClasses(classes, model.manifest.groups[index]); describe(); },
    (error) => model.fail(error),
  );
  const update = () => {
    if (model.manifest.groups.length && group() !== shown) colour.submit(shown = group());
    if (hidden !== session.options.hidden.join()) map.arrange();
    hidden = session.options.hidden.join();
    map.redraw();
    map.refreshLattice();
  };
  session.addEventListener("options", update);
  session.addEventListener("pins", () => map.redraw());
  session.addEventListener("frame", () => { map.redraw(true); map.refreshLattice(); });
  model.addEventListener("axes", () => { map.arrange(); map.fit(); });
  model.addEventListener("code", () => { map.redraw(); map.refreshLattice(); });
  document.addEventListener("explorer:theme", () => map.recolour());
  update();
}

/** Describes the position of the shown code, for screen readers once it rests; returns a function that updates the text. */
function describePosition(model, map, element, spoken) {
  const describe = () => {
    const [x, y] = model.position();
    const [first, second] = model.axes.map((axis) => model.manifest.columns[axis].name);
    const nearest = map.index.nearest([x, y]);
    const image = nearest < 0 ? [] : [`nearest: #${formatCount(map.points.index[nearest])}`, map.describe(nearest)];
    return [`${first} ${formatFixed(x, 2)}`, `${second} ${formatFixed(y, 2)}`, ...image].filter(Boolean).join(" · ");
  };
  const speak = debounce(() => { spoken.textContent = describe(); }, 700);
  const show = () => { element.textContent = describe(); };
  for (const name of ["code", "axes"]) model.addEventListener(name, () => { show(); speak(); });
  show();
  return show;
}
