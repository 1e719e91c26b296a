/**
 * Work that follows a hand: one piece at a time, then the newest that was asked for meanwhile; nothing ever queues.
 *
 * `work(input)` returns a promise; `done(result, input)` hears of results in the order in which they were asked for.
 */
export class Latest {
  #work; #done; #failed; #busy = false; #next = null;

  constructor(work, done, failed = (error) => { throw error; }) {
    this.#work = work;
    this.#done = done;
    this.#failed = failed;
  }

  ask(input) {
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

/** Calls `work` once nothing has asked for it during `milliseconds`. */
export function settle(work, milliseconds) {
  let timer = 0;
  return (...words) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...words), milliseconds);
  };
}
