import { make } from "./dom.js";

/**
 * A control for the condition of decoded codes: a select of classes, or a checkbox for each attribute. It follows the model,
 * because training images have conditions of their own. Null for an unconditional model.
 */
export function makeConditionChooser(model) {
  const about = model.manifest.condition;
  if (!about) return null;
  return about.kind === "label" ? chooseClass(model, about.names) : chooseAttributes(model, about.names);
}

function chooseClass(model, names) {
  const select = make("select", { onchange: () => model.setCondition(names.map((_, i) => Number(i === Number(select.value)))) },
    ...names.map((text, value) => make("option", { value, text })));
  const update = () => { select.value = String(model.condition.indexOf(1)); };
  model.addEventListener("condition", update);
  update();
  return make("label", { class: "condition" }, "Class ", select);
}

function chooseAttributes(model, names) {
  const boxes = names.map((name) => make("input", { type: "checkbox", "aria-label": name,
    onchange: () => model.setCondition(boxes.map(({ checked }) => Number(checked))) }));
  const update = () => boxes.forEach((box, i) => { box.checked = Boolean(model.condition[i]); });
  model.addEventListener("condition", update);
  update();
  const rows = boxes.map((box, i) => make("label", {}, box, ` ${names[i].replaceAll("_", " ")}`));
  return make("details", { class: "condition" }, make("summary", { text: "Attributes" }), make("div", { class: "boxes" }, ...rows));
}
