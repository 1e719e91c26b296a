import { mountDecoded } from "./decoded.js";
import { make } from "./dom.js";
import { makeHelp } from "./help.js";
import { listenForKeys } from "./keys.js";
import { debounce } from "./scheduling.js";
import { mountMap } from "./map.js";
import { Messages } from "./messages.js";
import { Model } from "./model.js";
import { mountNearest } from "./nearest.js";
import { mountOwnImage } from "./own-image.js";
import { mountMiniPreview } from "./mini-preview.js";
import { mountPins } from "./pins.js";
import { mountLoss } from "./loss.js";
import { Session } from "./session.js";
import { mountSliders } from "./sliders.js";
import { mountToolbar } from "./toolbar.js";

/** Whether the page has an address that can hold a view. A page inside a notebook's cell has none. */
const HAS_ADDRESS = location.protocol !== "about:";

/** Opens the page in `element` on one backend, or on two side by side. */
export async function mount(element, backend) {
  const models = await Promise.all([backend].flat().map((each) => Model.open(each)));
  const page = make("div", { class: "page" });
  const messages = new Messages(page);
  const session = await startSession(models, messages);

  const help = makeHelp(page);
  mountToolbar(page, session, { help, copyLink: HAS_ADDRESS && (() => copyLink(session, messages)) });
  page.append(models.length === 1 ? single(session) : pair(session));
  element.replaceChildren(page);
  mountMiniPreview(page, session, [...page.querySelectorAll(".area-code")].map((area) => area.querySelector("canvas.image")));
  document.title = `${models.map(({ manifest }) => manifest.run).join(" and ")} – vaelab explorer`;

  listenForKeys(session, help);
  if (HAS_ADDRESS) followAddress(session, messages);
  for (const model of models) {
    model.addEventListener("failed", ({ detail }) => messages.failure(detail));
    model.setCode(model.code, model.origin);
  }
  return session;
}

/** A session that starts with the view of a link, else with an image of small loss; its history starts there. */
async function startSession(models, messages) {
  const first = new Session(models);
  if (!(await first.restore(location.hash))) {
    if (location.hash.startsWith("#view=")) messages.note("This link belongs to another run. The default view is shown instead.");
    try {
      for (const model of first.shareImages ? models.slice(0, 1) : models) await first.choosePoint(model, await findBestReconstructed(model));
    } catch (error) {
      messages.failure(error);
    }
  }
  return Object.assign(new Session(models), { pins: first.pins, options: first.options });
}

/** The point with the smallest loss among the first few, so that the page opens with a sharp image. */
async function findBestReconstructed(model) {
  const { backend, manifest, pixelCount } = model;
  const few = Array.from({ length: Math.min(8, manifest.count) }, (_, i) => i);
  const images = await backend.images(few);
  const encoded = await Promise.all(few.map((i) => model.encode(images.slice(i * pixelCount, (i + 1) * pixelCount))));
  const losses = encoded.map(({ reconstruction, kl }) => reconstruction + kl);
  return losses.indexOf(Math.min(...losses));
}

/** The page of one run: the map, the code and its image, the user's image, and pins over the whole width below. */
function single(session) {
  const [model] = session.models;
  const main = make("main", { class: "single" });
  const [map, code, own, pins] = ["map", "code", "own", "pins"].map((name) => make("div", { class: `area area-${name}` }));
  mountMap(map, session, model);
  for (const mountPanel of [mountDecoded, mountLoss, mountSliders]) mountPanel(code, session, model);
  mountOwnImage(own, session);
  mountNearest(own, session, model);
  mountPins(pins, session);
  main.append(map, code, own, pins);
  return main;
}

/** The page of two runs: a column for each, and the shared panels below. */
function pair(session) {
  const main = make("main", { class: "pair" });
  for (const model of session.models) main.append(column(session, model));
  const shared = make("div", { class: "area area-shared" });
  mountOwnImage(shared, session);
  mountPins(shared, session);
  main.append(shared);
  return main;
}

function column(session, model) {
  const { run } = model.manifest;
  const area = make("section", { class: "area area-model", "aria-label": run });
  const code = make("div", { class: "area area-code" });
  area.append(make("h2", { class: "run", text: run }));
  mountMap(area, session, model);
  area.append(code);
  for (const mountPanel of [mountDecoded, mountLoss]) mountPanel(code, session, model);
  mountNearest(area, session, model);
  area.append(folded("Sliders", (inside) => { mountSliders(inside, session, model); labelWithRun(inside, run); }));
  labelWithRun(area, run);
  return area;
}

/** Adds the name of the run to the labels of its cards, for screen readers. */
function labelWithRun(area, run) {
  for (const each of area.querySelectorAll(".card")) each.setAttribute("aria-label", `${each.getAttribute("aria-label")}, ${run}`);
}

/** A section that is built when it is first opened. */
function folded(title, build) {
  const fold = make("details", { class: "fold" }, make("summary", { text: title }));
  fold.addEventListener("toggle", () => build(fold), { once: true });
  return fold;
}

/** Saves the view in the address once it rests, and follows the address when the user changes it. */
function followAddress(session, messages) {
  const saveAddress = debounce(() => history.replaceState(null, "", session.link()), 300);
  for (const name of ["pins", "options"]) session.addEventListener(name, saveAddress);
  for (const model of session.models) for (const name of ["code", "axes"]) model.addEventListener(name, saveAddress);
  addEventListener("hashchange", async ({ newURL }) => {
    const { hash } = new URL(newURL); // saveAddress may have replaced that of the location
    try {
      if (hash && !(await session.restore(hash))) messages.note("This link belongs to another run.");
    } catch (error) {
      messages.failure(error);
    }
  });
}

async function copyLink(session, messages) {
  history.replaceState(null, "", session.link());
  try {
    await navigator.clipboard.writeText(location.href);
    messages.note("Link copied.");
  } catch {
    messages.note("The browser does not allow copying here. Copy the link from the address bar.");
  }
}
