// Numbers as the page writes them, the same in every language.

/** "−1,234.5": a true minus sign, no minus zero. */
export function formatFixed(value, digits = 1) {
  const text = Math.abs(value).toFixed(digits);
  const [integer, ...fraction] = text.split(".");
  return (value < 0 && Number(text) !== 0 ? "−" : "") + [formatCount(integer), ...fraction].join(".");
}

/** "60,000". */
export const formatCount = (count) => String(count).replace(/\B(?=(\d{3})+$)/g, ",");

/** Where `value` lies among 101 quantiles (0 %, 1 % … 100 %), in per cent; in the middle of those that equal it. */
export function percentile(quantiles, value) {
  const below = position(quantiles, (each) => each < value, value);
  const upTo = position(quantiles, (each) => each <= value, value);
  return (below + upTo) / 2;
}

function position(quantiles, isBelow, value) {
  const count = quantiles.filter(isBelow).length;
  if (count === 0) return 0;
  if (count === quantiles.length) return 100;
  const [low, high] = [quantiles[count - 1], quantiles[count]];
  return count - 1 + (high > low ? Math.max(0, Math.min(1, (value - low) / (high - low))) : 0);
}

/** A share of the training images in words: "97 %", "almost all". */
export function describeShare(percent) {
  if (percent <= 0) return "none";
  if (percent >= 100) return "all";
  if (percent < 1) return "almost none";
  if (percent > 99) return "almost all";
  return `${Math.round(percent)} %`;
}
