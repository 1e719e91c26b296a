// Colours of classes on the map: hues of Okabe & Ito (2008) and of Paul Tol's "bright" and "muted" schemes (SRON/EPS/TN/09-002),
// their lightness and chroma moved, for either card, until every colour stands out from it by 3:1 and any two of the first
// ten (of all twenty) are at least ΔE2000 8.5 (5) apart to a normal eye and under simulated deuteranopia and protanopia
// (Machado, Oliveira & Fernandes 2009). A class has about the same hue in both themes.

export { theme } from "./theme.js";

const CLASSES = {
  light: [
    "#3673ca", "#c77a1d", "#126b46", "#da3382", "#259cbd", "#835e0f", "#740453", "#5f0dad", "#7e9954", "#3c3932",
    "#124174", "#08834d", "#af62a2", "#a16d31", "#b25df7", "#269b68", "#424ff1", "#ba218a", "#515151", "#8f28ad",
  ],
  dark: [
    "#4b8bff", "#f87112", "#0eb765", "#f6a5c0", "#74d3fe", "#8a5f17", "#ba5da2", "#3559e5", "#ced65f", "#8b8b8b",
    "#359ab7", "#177a3a", "#db0267", "#ebf1a2", "#905583", "#82de84", "#1e7fc0", "#a3583b", "#717171", "#dea8e3",
  ],
};

/** matplotlib's "plasma" (Smith & van der Walt 2015) in eighths; the part of it that either card leaves legible. */
const RAMP = ["#0d0887", "#4c02a1", "#7e03a8", "#aa2395", "#cc4778", "#e66c5c", "#f89540", "#fdc527", "#f0f921"];
const LEGIBLE = { light: [0, 0.62], dark: [0.42, 1] };

/** Points without a class. */
const NONE = { light: "#868f9e", dark: "#6f7a8a" };

/** The colour of class `k` of `count`, as "#rrggbb"; past twenty they come again, unless their order is shown as a ramp. */
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

/** Whether classes are so many ascending numbers that their order says more than their names. */
function isOrdered(values) {
  const numbers = values.map((value) => (String(value).trim() ? Number(value) : NaN));
  return values.length > 10 && numbers.every((number, i) => Number.isFinite(number) && (!i || number > numbers[i - 1]));
}

/** "#rrggbb" as [red, green, blue] of 0…255. */
export const toRgb = (hex) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));

function onRamp(t) {
  const place = t * (RAMP.length - 1);
  const left = Math.min(Math.floor(place), RAMP.length - 2);
  const [a, b] = [toRgb(RAMP[left]), toRgb(RAMP[left + 1])];
  const mixed = a.map((value, i) => Math.round(value + (place - left) * (b[i] - value)));
  return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}
