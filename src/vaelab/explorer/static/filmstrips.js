import { debounce } from "./scheduling.js";
import { sheet } from "./pixels.js";

/** Images in a strip. */
const FRAMES = 9;
/** Milliseconds that a code rests before its strips are drawn, those of one batch, and the smallest number of images in it. */
const [REST, PIECE, LEAST] = [150, 30, 3];

/**
 * Filmstrips of the effect of sliders on the shown code. Only visible strips are drawn, after the code rests, and in small
 * batches, so that the shown image never waits for them.
 */
export class Filmstrips {
  #model; #strips = new Map(); #observer; #turn = 0; #piece = LEAST;

  constructor(model) {
    this.#model = model;
    const draw = debounce(() => this.#draw(), REST);
    model.addEventListener("code", () => {
      this.#turn++;
      draw();
    });
    model.addEventListener("condition", () => { for (const strip of this.#strips.values()) strip.drawn = null; });
    this.#observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) this.#strips.get(target).visible = isIntersecting;
      draw();
    });
  }

  /** Keeps the codes that `codeAt` gives for values from `low` to `high` drawn on `canvas`, each in the middle of its part. */
  add(canvas, [low, high], codeAt) {
    const { manifest: { image: { height, width } }, width: latents } = this.#model;
    Object.assign(canvas, { height, width: FRAMES * (width + 1) - 1 });
    const codes = () => {
      const all = new Float32Array(FRAMES * latents);
      for (let i = 0; i < FRAMES; i++) all.set(codeAt(low + ((high - low) * (i + 0.5)) / FRAMES), i * latents);
      return all;
    };
    this.#strips.set(canvas, { codes, drawn: null, visible: false });
    this.#observer.observe(canvas);
  }

  async #draw() {
    const turn = ++this.#turn;
    try {
      for (const [canvas, strip] of this.#strips) {
        if (!strip.visible) continue;
        const codes = strip.codes();
        if (strip.drawn?.every((value, i) => value === codes[i])) continue;
        const images = await this.#decode(codes, turn);
        if (!images) return;
        canvas.getContext("2d").drawImage(sheet(images, this.#model.manifest.image, FRAMES), 0, 0);
        strip.drawn = codes;
      }
    } catch (error) {
      this.#model.fail(error);
    }
  }

  /** Images of the codes of one strip, as many at once as one piece of work allows; null once another turn has come. */
  async #decode(codes, turn) {
    const { backend, condition, width, pixelCount } = this.#model;
    const images = new Uint8Array(FRAMES * pixelCount);
    for (let done = 0; done < FRAMES;) {
      const count = Math.min(FRAMES - done, this.#piece);
      const start = performance.now();
      images.set(await backend.decode(codes.slice(done * width, (done + count) * width), condition), done * pixelCount);
      this.#piece = Math.min(FRAMES, Math.max(LEAST, Math.round((count * PIECE) / (performance.now() - start))));
      if (turn !== this.#turn) return null;
      done += count;
    }
    return images;
  }
}
