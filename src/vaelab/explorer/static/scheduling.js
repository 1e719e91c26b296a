// When work runs: newest input only, after a pause, once per frame, or continuously.

import { prefersReducedMotion } from "./dom.js";

/**
 * Runs asynchronous work for one input at a time. While it is busy, only the newest input waits; older ones are dropped.
 *
 * `work(input)` returns a promise; `done(result, input)` receives the results in the order of submission.
 */
export class LatestOnly {
  #work; #done; #failed; #busy = false; #next = null;

  constructor(work, done, failed = (error) => { throw error; }) {
    this.#work = work;
    this.#done = done;
    this.#failed = failed;
  }

  submit(input) {
    this.#next = { input };
    if (!this.#busy) this.#run();
  }

  async #run() {
    this.#busy = true;
    while (this.#next) {
      const { input } = this.#next;
      this.#next = null;
      try {
        const result = await this.#work(input);
        this.#done(result, input);
      } catch (error) {
        this.#failed(error);
      }
    }
    this.#busy = false;
  }
}

/** Returns a function that calls `work` once it has not been called for `milliseconds`. */
export function debounce(work, milliseconds) {
  let timer = 0;
  return (...words) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...words), milliseconds);
  };
}

/** Returns a function that calls `work` before the next frame, once per frame. */
export function oncePerFrame(work) {
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

/** Milliseconds of a sweep from one end to the other, and between steps with reduced motion. */
const [SWEEP, STEP] = [3000, 500];

/** Calls `advance(share of a sweep)` in every frame until the returned function is called. */
export function animate(advance) {
  if (prefersReducedMotion()) {
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
