// Colours of classes. Every colour has a contrast of at least 3.7:1 (light) or 5:1 (dark) to the card. Any two of the first ten
// are at least ΔE2000 11 apart, any two of all twenty 7.5, also under simulated deuteranopia and protanopia (Machado, Oliveira
// & Fernandes 2009). A class has about the same hue in both themes.

export { theme } from "./theme.js";

export const CLASSES = {
  light: [
    "#1b5aff", "#da4f05", "#057351", "#b84480", "#228eac", "#723d00", "#810572", "#1402d7", "#4f9358", "#453f44",
    "#8c385f", "#d25a8c", "#bc008f", "#553d24", "#4170a6", "#055f60", "#0e82fb", "#955127", "#4a493f", "#1b4dc8",
  ],
  dark: [
    "#74afff", "#ff4406", "#a9edae", "#f46482", "#55e4ff", "#cfb368", "#ff32b1", "#767cff", "#a7ed1e", "#b8adad",
    "#6d965a", "#609925", "#b8abd2", "#c8b013", "#ff4c5f", "#00f0e4", "#039ba2", "#6f96c8", "#95968d", "#aae1c2",
  ],
};

/** matplotlib's "plasma" (Smith & van der Walt 2015) in eighths, and the part of it that is legible on each card. */
const RAMP = ["#0d0887", "#4c02a1", "#7e03a8", "#aa2395", "#cc4778", "#e66c5c", "#f89540", "#fdc527", "#f0f921"];
const LEGIBLE = { light: [0, 0.62], dark: [0.42, 1] };

/** Points without a class. */
const NONE = { light: "#868f9e", dark: "#6f7a8a" };

/** The colour of class `k` of `count`, as "#rrggbb"; they repeat after twenty, unless their order is shown as a ramp. */
export function colourOf(k, count, theme, ordered = false) {
  if (k >= count) return NONE[theme];
  if (!ordered) return CLASSES[theme][k % CLASSES[theme].length];
  const [from, to] = LEGIBLE[theme];
  return onRamp(from + (to - from) * (count > 1 ? k / (count - 1) : 0));
}

/** The colours of all values of a group, in their order. */
export function coloursOf(values, theme) {
  const ordered = isOrdered(values);
  return values.map((_, k) => colourOf(k, values.length, theme, ordered));
}

/** Whether the names of more than ten classes are ascending numbers. */
function isOrdered(values) {
  const numbers = values.map((value) => (String(value).trim() ? Number(value) : NaN));
  return values.length > 10 && numbers.every((number, i) => Number.isFinite(number) && (!i || number > numbers[i - 1]));
}

/** "#rrggbb" as [red, green, blue], each 0 to 255. */
export const toRgb = (hex) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));

function onRamp(t) {
  const position = t * (RAMP.length - 1);
  const left = Math.min(Math.floor(position), RAMP.length - 2);
  const [a, b] = [toRgb(RAMP[left]), toRgb(RAMP[left + 1])];
  const mixed = a.map((value, i) => Math.round(value + (position - left) * (b[i] - value)));
  return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}
