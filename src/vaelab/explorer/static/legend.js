import { colourOf, coloursOf, theme } from "./colours.js";
import { button, make } from "./dom.js";
import { NO_CLASS } from "./points.js";

/**
 * The classes of the group that colours the map, as chips that hide and show their points, with a select if there are several
 * groups. `group()` returns the index of the group; there is at least one.
 */
export function makeLegend(session, model, group) {
  const { groups } = model.manifest;
  const choice = make("select", { onchange: () => session.setOptions({ group: Number(choice.value), hidden: [] }) },
    ...groups.map(({ name }, i) => make("option", { value: i, text: name })));
  const chips = make("div", { class: "chips", role: "group", "aria-label": "Classes shown" });
  const all = button("All", () => session.setOptions({ hidden: [] }), { title: "Show all classes" });
  let shown = -1;

  function build() {
    shown = group();
    chips.replaceChildren(...groups[shown].values.map((text, k) => {
      const chip = make("button", { class: "chip", type: "button", title: "Click: hide or show; double-click or Shift-click: only this one" },
        make("span", { class: "swatch" }), make("span", { text }));
      chip.addEventListener("click", (event) => choose(k, event.shiftKey || event.altKey));
      chip.addEventListener("dblclick", () => choose(k, true));
      return chip;
    }));
    recolour();
  }

  function choose(k, alone) {
    const others = groups[shown].values.flatMap((_, i) => (i === k ? [] : [i]));
    const hidden = new Set(session.options.hidden);
    if (alone) {
      const already = !hidden.has(k) && others.every((i) => hidden.has(i));
      session.setOptions({ hidden: already ? [] : others });
    } else {
      if (!hidden.delete(k)) hidden.add(k);
      session.setOptions({ hidden: [...hidden] });
    }
  }

  function update() {
    if (group() !== shown) build();
    choice.value = shown;
    const hidden = new Set(session.options.hidden);
    [...chips.children].forEach((chip, k) => chip.setAttribute("aria-pressed", String(!hidden.has(k))));
    all.hidden = !hidden.size;
  }

  function recolour() {
    const colours = coloursOf(groups[shown].values, theme());
    [...chips.children].forEach((chip, k) => {
      chip.firstChild.style.background = colours[k] ?? colourOf(NO_CLASS, 0, theme());
    });
  }

  session.addEventListener("options", update);
  document.addEventListener("explorer:theme", recolour);
  update();
  return make("div", { class: "row legend" }, groups.length > 1 ? make("label", {}, "Colours ", choice) : null, chips, all);
}
