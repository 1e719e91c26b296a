// Images of a code of every model, and what they are called.

import { make } from "./dom.js";
import { paint } from "./pixels.js";

/** "digits", or "digits and digits-beta". */
export const runNames = (session) => session.models.map(({ manifest }) => manifest.run).join(" and ");

/** A canvas for each model, called `name`, that `show(codes)` fills with the images of a code of each; null hides them. */
export function makeCodeImages(session, name) {
  const canvases = session.models.map(({ manifest }) => {
    const label = session.models.length > 1 ? `${name}, ${manifest.run}` : name;
    return make("canvas", { class: "image", role: "img", "aria-label": label, hidden: true });
  });
  let newest = null;
  const show = (codes) => {
    newest = codes;
    session.models.forEach(async (model, i) => {
      canvases[i].hidden = !codes;
      if (!codes) return;
      try {
        const image = await model.decode(codes[i]);
        if (newest === codes) paint(canvases[i], image, model.manifest.image);
      } catch (error) {
        model.fail(error);
      }
    });
  };
  return { canvases, show };
}

/** A pin's letter in its colour. */
export const pinLetter = (name) => make("b", { class: `letter letter-${name.toLowerCase()}`, text: name });
