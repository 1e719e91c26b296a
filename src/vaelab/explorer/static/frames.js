// Work that follows the frames of the screen.

import { stillness } from "./dom.js";

/** Calls `work` before the next frame, once however often it is asked for. */
export function eachFrame(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      work();
    });
  };
}

/** Milliseconds from one end to the other, and from step to step where the system asks for as little motion as possible. */
const [SWEEP, STEP] = [3000, 500];

/** Calls `advance(share of a sweep)` again and again until the function it returns is called. */
export function keepMoving(advance) {
  if (stillness()) {
    const timer = setInterval(() => advance(0.1), STEP);
    return () => clearInterval(timer);
  }
  let request = 0;
  let last = performance.now();
  const frame = (now) => {
    request = requestAnimationFrame(frame);
    advance(Math.max(0, Math.min(100, now - last)) / SWEEP);
    last = now;
  };
  request = requestAnimationFrame(frame);
  return () => cancelAnimationFrame(request);
}
