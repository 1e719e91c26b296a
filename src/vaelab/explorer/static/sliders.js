import { plus } from "./algebra.js";
import { button, card, make } from "./dom.js";
import { oncePerFrame } from "./scheduling.js";
import { formatFixed, formatCount } from "./numbers.js";
import { Filmstrips } from "./filmstrips.js";

/** Latents are set between these or as far as codes reach, attributes in units where 0 is the mean code without and 1 that with it. */
const [LATENT, ATTRIBUTE] = [[-4, 4], [-1.5, 2.5]];
/** Sliders that are shown before a person asks for the rest. */
const [MOST_LATENTS, MOST_ATTRIBUTES] = [10, 8];

/** Sliders for attributes, where there are any, and for the latents that carry something, most informative first. */
export function mountSliders(element, session, model) {
  const { manifest } = model;
  const strips = new Filmstrips(model);
  const updates = [];
  const section = card("Sliders", { class: "sliders" });
  const build = (row) => (which) => {
    const { element: found, show } = row(session, model, which, strips);
    updates.push(show);
    show();
    return found;
  };
  if (manifest.attributes.length) {
    section.append(part("Attributes and classes", "from the mean code without the attribute to the mean code with it; the rest of the code stays fixed",
      manifest.attributes, MOST_ATTRIBUTES, build(attributeRow), "attributes"));
  }
  const active = manifest.order.slice(0, manifest.active);
  const [title, hint] = manifest.is_quantised
    ? ["Latents, largest variance first", "each strip shows the effect on the current code"]
    : ["Latents, most informative first", "each strip shows the effect on the current code; bar: KL in nats"];
  section.append(part(title, hint, active, MOST_LATENTS, build(latentRow), "active latents"));
  const rest = manifest.latent_dim - manifest.active;
  if (rest) {
    const text = rest === 1 ? "1 more latent is inactive: it carries no information." : `${formatCount(rest)} more latents are inactive: they carry no information.`;
    section.append(make("p", { class: "hint", text }));
  }
  element.append(section);
  model.addEventListener("code", oncePerFrame(() => { for (const show of updates) show(); }));
}

/** A heading, rows for the first few items, and a button that adds the others. */
function part(title, hint, items, most, build, name) {
  const rows = make("div", { class: "rows" }, ...items.slice(0, most).map(build));
  const found = make("div", { class: "part", role: "group", "aria-label": title }, make("h3", {}, title, make("small", { class: "hint", text: hint })), rows);
  if (items.length > most) {
    const more = button(`Show all ${formatCount(items.length)} ${name}`, () => {
      const added = items.slice(most).map(build);
      rows.append(...added);
      added[0].querySelector("input").focus();
      more.remove();
    });
    found.append(more);
  }
  return found;
}

/** From the mean code without an attribute to that with it and beyond, from the shown code in parallel. */
function attributeRow(session, model, attribute, strips) {
  const { name } = attribute;
  const score = `separates ${Math.round(100 * attribute.score)} %`;
  const title = "Balanced accuracy with which this direction separates images with and without the attribute; 50 % is chance";
  const row = makeRow(session, model, strips, {
    range: ATTRIBUTE,
    name,
    label: `${name}, ${score}`,
    facts: [make("small", { class: "hint", text: score, title })],
    value: () => model.amount(attribute),
    codeAt: (amount) => plus(model.code, attribute.direction, amount - model.amount(attribute)),
  });
  const marks = [["0", "without"], ["1", "with"]].map(([where, text]) => make("span", { class: `at at-${where}`, text }));
  row.element.append(make("div", { class: "marks", "aria-hidden": "true" }, ...marks));
  return row;
}

function latentRow(session, model, latent, strips) {
  const { kl, columns, is_quantised: isQuantised } = model.manifest;
  const { low, high } = columns.find((column) => column.latent === latent);
  const name = `z${latent + 1}`;
  const row = {
    range: isQuantised ? [low, high] : [Math.min(LATENT[0], low), Math.max(LATENT[1], high)],
    name,
    label: name,
    facts: [],
    value: () => model.code[latent],
    codeAt: (value) => model.code.map((old, i) => (i === latent ? value : old)),
  };
  if (kl.length) {
    const largest = Math.max(...session.models.flatMap(({ manifest }) => manifest.kl)); // one scale for all runs
    const nats = formatFixed(kl[latent], kl[latent] < 0.1 ? 2 : 1);
    const bar = make("i", {});
    bar.style.width = `${(100 * kl[latent]) / largest}%`;
    row.facts = [make("span", { class: "nats", title: "KL, nats per image" }, bar), make("small", { class: "hint number", text: nats })];
    row.label = `${name}, KL ${nats} nats`;
  }
  return makeRow(session, model, strips, row);
}

/**
 * A slider on a filmstrip of what it does from here: it moves the code live, a whole gesture is one step of undo.
 * `codeAt(value)`: the shown code with that value; `value()`: the shown code's own, which may lie beyond the slider's range.
 */
function makeRow(session, model, strips, { range: [low, high], name, label, facts, value, codeAt }) {
  const input = make("input", { type: "range", min: low, max: high, step: 0.01, "aria-label": label });
  input.addEventListener("input", () => model.setCode(codeAt(input.valueAsNumber)));
  input.addEventListener("change", () => session.commit());
  const film = make("canvas", { class: "film", "aria-hidden": "true" });
  strips.add(film, [low, high], codeAt);
  const number = make("span", { class: "number value", "aria-hidden": "true" });
  const show = () => {
    const now = value();
    if (Math.abs(input.valueAsNumber - now) > 0.005) input.value = now; // what the hand has set stays as it is
    number.textContent = formatFixed(now, 2);
  };
  const element = make("div", { class: "slider" },
    make("div", { class: "name" }, make("strong", { text: name }), ...facts, number), make("div", { class: "reach" }, film, input));
  return { element, show };
}
