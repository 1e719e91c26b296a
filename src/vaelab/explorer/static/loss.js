import { kl } from "./algebra.js";
import { card, make } from "./dom.js";
import { mountKlBars } from "./kl-bars.js";
import { LatestOnly, debounce } from "./scheduling.js";
import { formatFixed, percentile, describeShare } from "./numbers.js";

/** What is said of each term, by what share of the training images lies below it. */
const TERMS = [
  { key: "loss", name: "Loss", than: "more unusual than" },
  { key: "reconstruction", name: "Reconstruction", than: "harder to reconstruct than" },
  { key: "kl", name: "KL", than: "farther from the prior than" },
];

/** −ELBO of the shown code's image in nats, how unusual it is among the training images, and KL of each latent. */
export function mountLoss(element, session, model) {
  const { manifest } = model;
  const panel = card("Reading", { class: "reading" });
  if (session.models.length > 1) panel.setAttribute("aria-label", `Reading, ${manifest.run}`);
  const source = make("p", { class: "hint source", text: " " });
  panel.append(source);
  const sum = mountSum(panel, manifest);
  const ranks = TERMS.map((term) => mountRank(term, manifest.quantiles[term.key]));
  panel.append(make("h3", { text: "Among the training images" }), make("div", { class: "ranks" }, ...ranks.map(({ row }) => row)));
  const bars = mountKlBars(panel, model);
  element.append(panel);

  const show = ({ mean, logVar, reconstruction, kl: whole }, from) => {
    const each = kl(mean, logVar);
    const total = manifest.has_latent_kl ? each.reduce((a, b) => a + b, 0) : whole;
    const values = { reconstruction, kl: total, loss: reconstruction + total };
    panel.classList.remove("stale");
    source.textContent = from;
    sum(values);
    ranks.forEach((rank, i) => rank.show(values[TERMS[i].key]));
    bars({ mean, each });
  };
  update(model, show, () => panel.classList.add("stale"));
}

/** Calls `show` with what the model reads in the image that is shown, and says when it no longer holds. */
function update(model, show, leave) {
  const reader = new LatestOnly(
    async (image) => [await model.encode(image), image],
    ([read, image]) => { if (image === model.image && !isRead(model.origin)) show(read, "Of the decoded image, read again by the model."); },
    (error) => model.fail(error),
  );
  const readAgain = debounce(() => { if (model.image && !isRead(model.origin)) reader.submit(model.image); }, 120);
  model.addEventListener("image", readAgain);
  model.addEventListener("code", () => {
    const { origin } = model;
    if (!isRead(origin)) leave();
    else show(origin, origin.index === undefined ? "Of your own image." : "Of the training image.");
  });
  readAgain();
}

const isRead = (origin) => origin?.reconstruction !== undefined;

/** −ELBO as a bar of two parts with their numbers, and the constant beside them. */
function mountSum(element, { constant, likelihood }) {
  const total = make("strong", { class: "number", text: "…" });
  const parts = ["reconstruction", "kl"].map((key) => ({ key, part: make("div", { class: `part ${key}` }), value: make("dd", { class: "number" }) }));
  const term = (key, text, value) => make("div", { class: key }, make("dt", { text }), value);
  const why = likelihood === "gaussian" ? "a convention of the Gaussian likelihood" : `a convention of the ${likelihood.replaceAll("_", " ")} likelihood`;
  element.append(
    make("p", { class: "total" }, make("abbr", { title: "Negative evidence lower bound: an upper bound of −ln p(x)", text: "−ELBO" }), " ", total, " nats"),
    make("div", { class: "stack", "aria-hidden": "true" }, ...parts.map(({ part }) => part)),
    make("dl", { class: "terms" },
      term("reconstruction", "Reconstruction", parts[0].value),
      term("kl", "KL", parts[1].value),
      constant ? make("div", { class: "constant", title: why }, make("dt", { text: "Constant" }), make("dd", { class: "number", text: formatFixed(constant) }), make("dd", { class: "why", text: why })) : null),
  );
  return (values) => {
    total.textContent = formatFixed(values.loss + constant);
    for (const { key, part, value } of parts) {
      part.style.flexGrow = Math.max(0, values[key]) / Math.max(1e-9, Math.max(0, values.reconstruction) + values.kl);
      value.textContent = formatFixed(values[key]);
    }
  };
}

/** Where one number lies between 0 and 100 % of the training images, as a mark on a line and in words. */
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
