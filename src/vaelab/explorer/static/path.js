import { lerp, slerp } from "./algebra.js";

/** A code of each model, `share` of the way from pin A to pin B. */
export function codesOnPath({ pins: { A, B }, options }, share) {
  const go = options.path === "spherical" ? slerp : lerp;
  return A.map((a, i) => go(a, B[i], share));
}

/** Images of `count` codes evenly on the way, for each model: Uint8Array [count × height × width × channel]. */
export function decodePath(session, count) {
  const codes = Array.from({ length: count }, (_, i) => codesOnPath(session, i / (count - 1)));
  return Promise.all(session.models.map((model, m) => model.decode(Float32Array.from(codes.flatMap((each) => [...each[m]])))));
}
