import { make } from "./dom.js";
import { LatestOnly } from "./scheduling.js";

const KINDS = { latent: "Latents", lda: "LDA on classes", pca: "PCA", attribute: "Attributes" };

/** The choice of axes: a select with the maps of the manifest and "Any two …", then two more with all columns. */
export function makeAxes(model) {
  const { maps, columns } = model.manifest;
  const map = make("select", { "aria-label": "Map", onchange: chooseMap },
    ...maps.map(({ name }, i) => make("option", { value: i, text: name })),
    columns.length > 2 ? make("option", { value: "any", text: "Any two …" }) : null);
  const [x, y] = ["across", "up"].map((way) => make("select", { "aria-label": `Axis ${way}`, onchange: chooseAxes }, ...options(columns)));
  const complaint = make("p", { class: "hint complaint", role: "status" });
  const any = make("div", { class: "row any-two" }, make("label", {}, "→ ", x), make("label", {}, "↑ ", y), complaint);
  const note = make("p", { class: "hint map-note" });
  const set = new LatestOnly((axes) => model.setAxes(axes), answer, (error) => model.fail(error));

  function chooseMap() {
    any.hidden = map.value !== "any";
    if (any.hidden) set.submit(maps[map.value].axes);
    describe();
  }

  function chooseAxes() { set.submit([Number(x.value), Number(y.value)]); }

  function answer(found, axes) {
    complaint.textContent = found ? "" : "Both axes have the same direction. Choose another one.";
    if (found && map.value === "any") [x.value, y.value] = axes;
  }

  function describe() {
    note.textContent = maps[map.value]?.note ?? "Dragging keeps the component of the code outside this plane.";
    note.hidden = !note.textContent;
  }

  /** The selects update the model, whose axes a link may have set. */
  function update() {
    const found = maps.findIndex(({ axes }) => axes.join() === model.axes.join());
    if (map.value !== "any" || found < 0) map.value = found < 0 ? "any" : found;
    [x.value, y.value] = model.axes;
    any.hidden = map.value !== "any";
    complaint.textContent = "";
    describe();
  }

  model.addEventListener("axes", update);
  update();
  return { map, any, note };
}

/** All columns, grouped by their kinds. */
function options(columns) {
  return [...new Set(columns.map(({ kind }) => kind))].map((kind) =>
    make("optgroup", { label: KINDS[kind] ?? kind },
      ...columns.flatMap((column, i) => (column.kind === kind ? [make("option", { value: i, text: column.name })] : []))));
}
