// Vectors in the space of codes: typed arrays in, typed arrays out.

export function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

export const norm = (a) => Math.sqrt(dot(a, a));

/** a + scale·b, a new array. */
export function plus(a, b, scale = 1) {
  return Float32Array.from(a, (value, i) => value + scale * b[i]);
}

/**
 * Two orthonormal vectors that span the plane of `a` and `b`, the first along `a`; null if they span no plane. Distances on the
 * map are then distances in the plane, and the prior's contours are circles about the origin.
 */
export function plane(a, b) {
  const length = norm(a);
  if (!length) return null;
  const x = Float32Array.from(a, (value) => value / length);
  const rest = plus(b, x, -dot(b, x));
  const height = norm(rest);
  if (height < 1e-4 * norm(b)) return null;
  return { x, y: Float32Array.from(rest, (value) => value / height) };
}

/** `code` moved within the plane to [x, y]; what of it is off the plane stays. */
export function moveWithin({ x, y }, code, [toX, toY]) {
  return plus(plus(code, x, toX - dot(code, x)), y, toY - dot(code, y));
}

export function lerp(a, b, t) {
  return Float32Array.from(a, (value, i) => value + t * (b[i] - value));
}

/** On the arc between the directions of a and b, lengths in proportion (White 2016, 1609.04468); straight where there is no arc. */
export function slerp(a, b, t) {
  const lengths = [norm(a), norm(b)];
  if (!lengths[0] || !lengths[1]) return lerp(a, b, t);
  const cosine = Math.min(1, Math.max(-1, dot(a, b) / (lengths[0] * lengths[1])));
  const angle = Math.acos(cosine);
  if (angle < 1e-4 || Math.PI - angle < 1e-4) return lerp(a, b, t);
  const length = lengths[0] + t * (lengths[1] - lengths[0]);
  const shares = [Math.sin((1 - t) * angle) / Math.sin(angle), Math.sin(t * angle) / Math.sin(angle)];
  return Float32Array.from(a, (value, i) => length * ((shares[0] * value) / lengths[0] + (shares[1] * b[i]) / lengths[1]));
}

/** KL of a diagonal Gaussian to N(0, I), nats, of each latent (Kingma & Welling 2014, 1312.6114, appendix B). */
export function latentKl(mean, logVar) {
  return Float32Array.from(mean, (m, i) => 0.5 * (m * m + Math.exp(logVar[i]) - 1 - logVar[i]));
}

/** Independent samples from N(0, 1) (Box & Muller 1958). */
export function drawNormal(count) {
  return Float32Array.from({ length: count }, () =>
    Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random()),
  );
}
