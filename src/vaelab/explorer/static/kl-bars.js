import { make } from "./dom.js";
import { formatFixed } from "./numbers.js";

/** Latents that have a bar of their own; the rest share one, which is as high as their mean. */
const MOST = 32;

/**
 * KL of each latent as bars, the most informative latents first, with the training images' mean as a tick; the arrow keys or the
 * pointer choose the latent that is spelled out. Gives the function that shows { mean, each }.
 */
export function mountKlBars(element, model) {
  const { kl: trainingMean, order } = model.manifest;
  const own = order.slice(0, order.length > MOST ? MOST - 1 : MOST);
  const groups = own.map((latent) => [latent]);
  if (order.length > own.length) groups.push(order.slice(own.length));
  const total = (values, latents) => latents.reduce((sum, latent) => sum + values[latent], 0);
  const each = (values, latents) => total(values, latents) / latents.length;
  const bars = groups.map((latents, i) => makeBar(latents, each(trainingMean, latents), i === 0));
  const list = make("ul", { class: "bars", "aria-label": "KL of each latent, nats; arrow keys go from bar to bar" }, ...bars.map(({ item }) => item));
  const words = make("p", { class: "hint number spelled", text: " " });
  element.append(make("h3", { text: "KL of each latent" }), list, words);

  let shown = null;
  let chosen = null;
  const spell = () => {
    if (!shown) return;
    words.textContent = chosen === null ? `Line: mean of the training images, ${formatFixed(total(trainingMean, order))} nats in all.` : bars[chosen].item.textContent;
  };
  const choose = (index) => {
    if (chosen !== null) bars[chosen].item.classList.remove("chosen");
    if (index !== null) bars[index].item.classList.add("chosen");
    chosen = index;
    spell();
  };
  const at = (event) => { const index = bars.findIndex(({ item }) => item.contains(event.target)); return index < 0 ? null : index; };
  const focused = () => { const index = bars.findIndex(({ item }) => item === document.activeElement); return index < 0 ? null : index; };
  list.addEventListener("pointerover", (event) => choose(at(event)));
  list.addEventListener("pointerleave", () => choose(focused()));
  list.addEventListener("focusin", (event) => choose(at(event)));
  list.addEventListener("focusout", () => choose(null));
  list.addEventListener("keydown", (event) => {
    const from = at(event);
    const last = bars.length - 1;
    const to = { ArrowRight: Math.min(last, from + 1), ArrowLeft: Math.max(0, from - 1), Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    bars[from].item.tabIndex = -1;
    bars[to].item.tabIndex = 0;
    bars[to].item.focus();
  });

  return (reading) => {
    shown = reading;
    const values = groups.map((latents) => each(reading.each, latents));
    const top = Math.max(1e-6, ...values, ...bars.map((bar) => bar.trainingMean));
    bars.forEach((bar, i) => bar.show(values[i], top, reading.mean));
    spell();
  };
}

function makeBar(latents, trainingMean, isFirst) {
  const count = latents.length;
  const [fill, tick] = ["fill", "tick"].map((name) => make("span", { class: name, "aria-hidden": "true" }));
  const words = make("span", { class: "visually-hidden" });
  const item = make("li", { class: count > 1 ? "rest" : null, tabindex: isFirst ? 0 : -1 }, fill, tick, words);
  return {
    item, trainingMean,
    show(value, top, mean) {
      fill.style.height = `${(100 * value) / top}%`;
      tick.style.bottom = `${(100 * trainingMean) / top}%`;
      const name = count === 1 ? `z${latents[0] + 1} = ${formatFixed(mean[latents[0]], 2)}` : `The other ${count} latents`;
      const terms = count === 1
        ? `KL ${formatFixed(value, 2)} nats, training mean ${formatFixed(trainingMean, 2)}`
        : `KL ${formatFixed(count * value)} nats in all, training mean ${formatFixed(count * trainingMean)}; the bar is their mean`;
      words.textContent = `${name}: ${terms}`;
    },
  };
}
