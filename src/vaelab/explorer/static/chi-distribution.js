// The χ distribution: the length of a sample from N(0, I) in d dimensions.

/**
 * The share of such samples that are shorter than `length`: the regularised incomplete gamma function P(d/2, length²/2), by its
 * series (Abramowitz & Stegun 1964, 6.5.29). Unlike Wilson and Hilferty's cube root it is exact for few latents too.
 */
export function chiCdf(length, d) {
  const [a, x] = [d / 2, length ** 2 / 2];
  if (x === 0) return 0;
  if (x > a + 12 * Math.sqrt(a) + 40) return 1; // to double precision
  let [term, sum] = [1 / a, 1 / a];
  for (let n = 1; term > 1e-16 * sum; n++) sum += term *= x / (a + n);
  return Math.min(1, sum * Math.exp(a * Math.log(x) - x - logGamma(d)));
}

/** ln Γ(d/2) for whole d, from Γ(1/2) = √π or Γ(1) = 1 upwards. */
function logGamma(d) {
  let sum = d % 2 ? Math.log(Math.PI) / 2 : 0;
  for (let a = d % 2 ? 0.5 : 1; a < d / 2; a++) sum += Math.log(a);
  return sum;
}

/** The length below which a `share` of the prior's samples lies, by bisection. */
export function chiQuantile(share, d) {
  let [low, high] = [0, Math.sqrt(d) + 6];
  for (let i = 0; i < 50; i++) {
    const middle = (low + high) / 2;
    if (chiCdf(middle, d) < share) low = middle;
    else high = middle;
  }
  return high;
}
