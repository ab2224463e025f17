// Waiting for conditions, each with a deadline that names what was waited for.

/** Long, since it costs a test that passes nothing, and machines may be slow for a while. */
export const DEADLINE = 30_000;

/** The promise's value, or an error once `ms` have passed. */
export async function within(promise, what, ms = DEADLINE) {
  let timer;
  const deadline = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what()}`)), ms);
  });
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

/** Polls `condition` until it gives something true, and gives that. */
export async function until(condition, what, ms = DEADLINE) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** The arguments of the emitter's next event of this name. */
export function next(emitter, event, ms = DEADLINE) {
  const waiting = new Promise((resolve) => emitter.once(event, (...args) => resolve(args)));
  return within(waiting, () => `the event "${event}"`, ms);
}

/** A queue that one side fills and the other waits at. */
export class Queue {
  #items = [];
  #waiting = [];

  push(item) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(item);
    else this.#items.push(item);
  }

  get length() {
    return this.#items.length;
  }

  async next(what = "the next item", ms = DEADLINE) {
    if (this.#items.length > 0) return this.#items.shift();
    let resolve;
    const waiting = new Promise((done) => this.#waiting.push((resolve = done)));
    try {
      return await within(waiting, () => what, ms);
    } catch (error) {
      this.#waiting.splice(this.#waiting.indexOf(resolve), 1);
      throw error;
    }
  }
}
