import { latentKl } from "./algebra.js";
import { card, make } from "./dom.js";
import { mountKlBars } from "./kl-bars.js";
import { describeShare, formatFixed, percentile } from "./numbers.js";
import { debounce, LatestOnly } from "./scheduling.js";

/** The terms that are ranked among the training images, and the words for the share below. */
const TERMS = [
  { key: "loss", name: "Sum", than: "more unusual than" },
  { key: "reconstruction", name: "Reconstruction", than: "harder to reconstruct than" },
  { key: "kl", name: "KL", than: "farther from the prior than" },
];

/** The loss of the shown image in nats, its rank among the training images, and the KL of each latent. */
export function mountLoss(element, session, model) {
  const { manifest } = model;
  const panel = card("Loss", { class: "loss" });
  const source = make("p", { class: "hint source", text: " " });
  panel.append(source);
  const showTerms = mountTerms(panel, session, model);
  const ranked = TERMS.filter(({ key }) => manifest.quantiles[key][0] < manifest.quantiles[key].at(-1)); // no rank among equal numbers
  const ranks = ranked.map((term) => mountRank(term, manifest.quantiles[term.key]));
  panel.append(make("h3", { text: "Compared with the training images" }), make("div", { class: "ranks" }, ...ranks.map(({ row }) => row)));
  const showBars = manifest.kl.length ? mountKlBars(panel, session, model) : () => {};
  element.append(panel);

  const show = ({ mean, logVar, reconstruction, kl }, from) => {
    const values = { reconstruction, kl, loss: reconstruction + kl };
    panel.classList.remove("stale");
    source.textContent = from;
    showTerms(values);
    ranks.forEach((rank, i) => rank.show(values[ranked[i].key]));
    showBars({ mean, each: latentKl(mean, logVar) });
  };
  followImage(model, show, () => panel.classList.add("stale"));
}

/** Calls `show` with the encoding of the shown image, and `leave` once it no longer belongs to the shown code. */
function followImage(model, show, leave) {
  const encoder = new LatestOnly(
    async (image) => [await model.encode(image), image],
    ([encoded, image]) => { if (image === model.image && !isEncoded(model.origin)) show(encoded, "For the decoded image, encoded again."); },
    (error) => model.fail(error),
  );
  const encodeAgain = debounce(() => { if (model.image && !isEncoded(model.origin)) encoder.submit(model.image); }, 120);
  model.addEventListener("image", encodeAgain);
  model.addEventListener("code", () => {
    const { origin } = model;
    if (!isEncoded(origin)) leave();
    else show(origin, origin.index === undefined ? "For your own image." : "For the training image.");
  });
  encodeAgain();
}

const isEncoded = (origin) => origin?.reconstruction !== undefined;

/** Reconstruction + KL as a bar of two parts with their numbers, and −ELBO with the likelihood's constant below them. */
function mountTerms(element, session, model) {
  const { constant, likelihood } = model.manifest;
  const total = make("strong", { class: "number", text: "…" });
  const parts = ["reconstruction", "kl"].map((key) => ({ key, part: make("div", { class: `part ${key}` }), value: make("dd", { class: "number" }) }));
  const rest = make("div", { class: "rest" });
  const term = (key, text, value) => make("div", { class: key }, make("dt", { text }), value);
  const elbo = make("span", { class: "number", text: "…" });
  const name = likelihood === "gaussian" ? "Gaussian" : likelihood.replaceAll("_", " ");
  const why = constant ? ` nats, with the ${name} likelihood’s constant ${formatFixed(constant)}` : " nats: the likelihood has no constant";
  element.append(
    make("p", { class: "total" }, "Reconstruction + KL ", total, " nats"),
    make("div", { class: "stack", "aria-hidden": "true" }, ...parts.map(({ part }) => part), rest),
    make("dl", { class: "terms" }, term("reconstruction", "Reconstruction", parts[0].value), term("kl", "KL", parts[1].value)),
    make("p", { class: "hint elbo" }, make("abbr", { title: "Negative evidence lower bound: an upper bound of −ln p(x)", text: "−ELBO" }), " ", elbo, why),
  );
  const sizes = { reconstruction: 0, kl: 0 };
  const scale = () => {
    const whole = session.maximum("loss"); // of all runs, so that their bars can be compared
    for (const { key, part } of parts) part.style.flexGrow = sizes[key] / whole;
    rest.style.flexGrow = Math.max(0, 1 - (sizes.reconstruction + sizes.kl) / whole);
  };
  session.addEventListener("maximum", scale);
  return (values) => {
    total.textContent = formatFixed(values.loss);
    elbo.textContent = formatFixed(values.loss + constant);
    for (const { key, value } of parts) {
      sizes[key] = Math.max(0, values[key]);
      value.textContent = formatFixed(values[key]);
    }
    session.setMaximum("loss", model, sizes.reconstruction + sizes.kl);
  };
}

/** The rank of a number between 0 and 100 % of the training images, as a mark on a line and in words. */
function mountRank({ name, than }, quantiles) {
  const mark = make("span", { class: "mark" });
  const words = make("span", { class: "words" });
  const row = make("div", { class: "rank" }, make("span", { class: "name", text: name }), make("span", { class: "scale", "aria-hidden": "true" }, mark), words);
  return {
    row,
    show(value) {
      const percent = percentile(quantiles, value);
      mark.style.left = `${percent}%`;
      words.textContent = `${than} ${describeShare(percent)}`;
    },
  };
}
