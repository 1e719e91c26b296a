import { make } from "./dom.js";
import { formatFixed } from "./numbers.js";

/** Latents with a bar of their own; the others share one bar, which shows their mean. */
const MAX_BARS = 32;

/**
 * Bars of the KL of each latent, the most informative first, with the mean of the training images as a tick. The arrow keys or the
 * pointer choose a latent, whose numbers appear below. Returns a function that shows { mean, each }. Runs share one scale.
 */
export function mountKlBars(element, session, model) {
  const { kl: trainingMean, order, has_latent_kl: isKl } = model.manifest;
  const own = order.slice(0, order.length > MAX_BARS ? MAX_BARS - 1 : MAX_BARS);
  const groups = own.map((latent) => [latent]);
  if (order.length > own.length) groups.push(order.slice(own.length));
  const total = (values, latents) => latents.reduce((sum, latent) => sum + values[latent], 0);
  const average = (values, latents) => total(values, latents) / latents.length;
  const bars = groups.map((latents, i) => makeBar(latents, average(trainingMean, latents), i === 0));
  const list = make("ul", { class: "bars", "aria-label": "KL of each latent, nats; arrow keys go from bar to bar" }, ...bars.map(({ item }) => item));
  const words = make("p", { class: "hint number details", text: " " });
  // for other posteriors and priors, these do not add up to the KL
  element.append(make("h3", { text: isKl ? "KL of each latent" : "KL of each latent’s marginal to N(0, 1)" }), list, words);

  let shown = null;
  let chosen = null;
  const describe = () => {
    if (!shown) return;
    words.textContent = chosen === null ? `Line: mean of the training images, ${formatFixed(total(trainingMean, order))} nats in total.` : bars[chosen].item.textContent;
  };
  const choose = (index) => {
    if (chosen !== null) bars[chosen].item.classList.remove("chosen");
    if (index !== null) bars[index].item.classList.add("chosen");
    chosen = index;
    describe();
  };
  const indexOf = (isWanted) => { const index = bars.findIndex(({ item }) => isWanted(item)); return index < 0 ? null : index; };
  const at = (event) => indexOf((item) => item.contains(event.target));
  list.addEventListener("pointerover", (event) => choose(at(event)));
  list.addEventListener("pointerleave", () => choose(indexOf((item) => item === document.activeElement)));
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

  const update = () => {
    if (!shown) return;
    bars.forEach((bar, i) => bar.show(average(shown.each, groups[i]), session.maximum("kl"), shown.mean));
    describe();
  };
  session.addEventListener("maximum", update);
  return (encoded) => {
    shown = encoded;
    const values = groups.map((latents) => average(encoded.each, latents));
    session.setMaximum("kl", model, Math.max(...values, ...bars.map((bar) => bar.trainingMean)));
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
        : `KL ${formatFixed(count * value)} nats in total, training mean ${formatFixed(count * trainingMean)}; the bar is their mean`;
      words.textContent = `${name}: ${terms}`;
    },
  };
}
