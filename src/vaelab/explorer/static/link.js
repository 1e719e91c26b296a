// The state of a page as the hash of its address: JSON for what is short, base64 for codes, exact to the last bit.

const VERSION = 1;

function toText(code) {
  const bytes = new Uint8Array(code.buffer, code.byteOffset, code.byteLength);
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function toCode(text, width) {
  const bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
  const code = new Float32Array(bytes.buffer);
  if (code.length !== width || !code.every(Number.isFinite)) throw new Error("another model's code");
  return code;
}

/** "#view=…" for a state { models: [{ key, code, axes }], pins: { A: codes or null, … }, options }. */
export function encodeState({ models, pins, options }) {
  const short = {
    v: VERSION,
    k: models.map(({ key }) => key),
    m: models.map(({ code, axes }) => [toText(code), ...axes]),
    p: Object.entries(pins).flatMap(([name, codes]) => (codes ? [[name, ...codes.map(toText)]] : [])),
    o: options,
  };
  return `#view=${encodeURIComponent(JSON.stringify(short))}`;
}

/** The state in a hash, or null where it is none of ours or of other models than these [{ key, width }]. */
export function decodeState(hash, here) {
  if (!hash.startsWith("#view=")) return null;
  try {
    const { v, k, m, p, o } = JSON.parse(decodeURIComponent(hash.slice(6)));
    const widths = here.map(({ width }) => width);
    if (v !== VERSION || m.length !== here.length || here.some(({ key }, i) => key !== k[i])) return null;
    const models = m.map(([text, ...axes], i) => ({ code: toCode(text, widths[i]), axes: [0, 1].map((way) => Number(axes[way])) }));
    const pins = { A: null, B: null, C: null };
    for (const [name, ...texts] of p) {
      if (Object.hasOwn(pins, name) && texts.length === widths.length) pins[name] = texts.map((text, i) => toCode(text, widths[i]));
    }
    return { models, pins, options: checked(o) };
  } catch {
    return null;
  }
}

/** The options of a link that have the right kinds; a hash is a stranger's input. */
function checked(options) {
  const kinds = { points: "boolean", lattice: "boolean", density: "boolean", rings: "boolean", group: "number" };
  const found = Object.fromEntries(Object.entries(kinds).filter(([key, kind]) => typeof options[key] === kind).map(([key]) => [key, options[key]]));
  if (Array.isArray(options.hidden)) found.hidden = options.hidden.filter(Number.isInteger);
  if (["linear", "spherical"].includes(options.path)) found.path = options.path;
  return found;
}
