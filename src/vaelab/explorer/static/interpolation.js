import { button, make } from "./dom.js";
import { paint } from "./pixels.js";
import { Player } from "./player.js";
import { saveGif, saveStrip } from "./interpolation-files.js";
import { pinLetter } from "./code-images.js";
import { decodePath } from "./path.js";

/** Images in the strip; in one direction of an animation, with the milliseconds of each. */
const [FRAMES, MOMENTS, DELAY] = [11, 16, 80];

/** The way from A to B: a strip of what lies between, played on the shown code, saved as a picture or an animation. */
export function makeInterpolation(session) {
  const strip = makeStrip(session, (share) => player.jump(share));
  const player = new Player(session, strip.mark);
  const saving = (work) => () => work().catch((error) => session.models[0].fail(error));
  const tools = make("div", { class: "beside" }, pathButtons(session), player.button,
    button("Save strip", saving(() => saveStrip(session, FRAMES)), { title: "Save the strip as a PNG" }),
    button("Save GIF", saving(() => saveGif(session, MOMENTS, DELAY)), { title: "Save the interpolation from A to B and back as an animated GIF" }));
  const hint = "Spherical rotates from A to B and interpolates the norm, so it stays in the typical region of the prior; the straight line passes closer to the centre.";
  return make("div", { class: "between", role: "group", "aria-label": "Between A and B" },
    make("header", { class: "row" }, make("h3", {}, "From ", pinLetter("A"), " to ", pinLetter("B")), tools), strip.element, make("p", { class: "hint", text: hint }));
}

/** A row of images for each model, every image a button; `choose(share)` hears where on the way it is. */
function makeStrip(session, choose) {
  const several = session.models.length > 1;
  const rows = session.models.map(({ manifest }) => Array.from({ length: FRAMES }, (_, i) => {
    const share = i / (FRAMES - 1);
    const label = `${Math.round(100 * share)} % of the way from A to B${several ? `, ${manifest.run}` : ""}`;
    return make("button", { type: "button", class: "frame", "aria-label": label, onclick: () => choose(share) }, make("canvas", { class: "image" }));
  }));
  const element = make("div", { class: "films" }, ...rows.flatMap((row, m) => [
    ...(several ? [make("p", { class: "hint", text: session.models[m].manifest.run })] : []), make("div", { class: "strip" }, ...row)]));

  let shown = {};
  const show = async () => {
    const { pins: { A, B }, options: { path } } = session;
    if (!A || !B || (shown.A === A && shown.B === B && shown.path === path)) return;
    const wanted = shown = { A, B, path };
    const images = await decodePath(session, FRAMES);
    if (wanted !== shown) return;
    session.models.forEach(({ manifest, pixelCount }, m) =>
      rows[m].forEach((frame, i) => paint(frame.firstChild, images[m], manifest.image, i * pixelCount)));
  };
  const update = () => show().catch((error) => {
    shown = {};
    session.models[0].fail(error);
  });
  session.addEventListener("pins", update);
  session.addEventListener("options", update);
  update();

  /** Marks the images nearest to `share` of the way; none where it is null. */
  const mark = (share) => {
    const now = share === null ? -1 : Math.round(share * (FRAMES - 1));
    for (const row of rows) for (const [i, frame] of row.entries()) frame.ariaCurrent = i === now ? "true" : null;
  };
  return { element, mark };
}

function pathButtons(session) {
  const paths = { linear: "Linear", spherical: "Spherical" };
  const choices = Object.entries(paths).map(([path, text]) => [path, button(text, () => session.setOptions({ path }))]);
  const show = () => { for (const [path, each] of choices) each.setAttribute("aria-pressed", String(session.options.path === path)); };
  session.addEventListener("options", show);
  show();
  return make("div", { class: "choice", role: "group", "aria-label": "Path" }, ...choices.map(([, each]) => each));
}
