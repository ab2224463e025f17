/**
 * The client's half of Antiphon's delivery: `receive` for events that the server keeps until they are
 * acknowledged, `send` for events that it handles once.
 */

/** What is used of the stock client's socket. */
export interface Socket {
  on(event: string, listener: (...args: any[]) => void): unknown;
  off(event: string, listener: (...args: any[]) => void): unknown;
  emit(event: string, ...args: any[]): unknown;
}

/** How many ids of events are remembered that have been handled. */
const REMEMBERED = 1_000;

/** The ids of a socket's events: those that are handled now, and those that have been. */
const ids = new WeakMap<Socket, { running: Map<string, Promise<unknown>>; handled: Set<string> }>();

/**
 * Calls `handler` once for each event of this name that the server emits with `at_least_once()`, and
 * acknowledges it when the handler has ended. One that throws or is rejected isn't acknowledged: the event
 * comes again, and is handled again.
 *
 * Returns a function that stops this.
 */
export function receive<Args extends any[]>(
  socket: Socket,
  event: string,
  handler: (...args: Args) => unknown,
): () => void {
  let known = ids.get(socket);
  if (!known) ids.set(socket, (known = { running: new Map(), handled: new Set() }));
  const { running, handled } = known;

  const listener = async (...all: any[]): Promise<void> => {
    const acknowledge = all.pop();
    const id = all.pop();
    if (typeof acknowledge !== "function" || typeof id !== "string") {
      throw new TypeError(`"${event}" came without an id: does the server emit it with at_least_once()?`);
    }
    if (!handled.has(id)) {
      // One that comes again meanwhile waits for the first.
      let handling = running.get(id);
      if (!handling) {
        handling = (async () => handler(...(all as Args)))();
        running.set(id, handling);
      }
      try {
        await handling;
      } finally {
        running.delete(id);
      }
      handled.add(id);
      const [oldest] = handled;
      if (handled.size > REMEMBERED) handled.delete(oldest!);
    }
    acknowledge();
  };
  socket.on(event, listener);
  return () => void socket.off(event, listener);
}

/**
 * Emits an event that the server handles once, and waits for its answer. The socket needs the options
 * `retries` and `ackTimeout`, with which the stock client sends it again; the id that is appended stays the
 * same.
 *
 * @throws if no try has been acknowledged.
 */
export function send<Answer = unknown>(socket: Socket, event: string, ...args: unknown[]): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const answered = (error: Error | null, answer: Answer) => (error ? reject(error) : resolve(answer));
    socket.emit(event, ...args, newId(), answered);
  });
}

/** An id that nobody else has. */
function newId(): string {
  const bytes = new Uint8Array(16);
  (globalThis as { crypto?: { getRandomValues(bytes: Uint8Array): void } }).crypto?.getRandomValues(bytes);
  if (bytes.every((byte) => byte === 0)) throw new Error("no source of random numbers: globalThis.crypto is missing");
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
