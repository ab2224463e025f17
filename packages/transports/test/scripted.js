// A scripted network: `fetch` asks a function of the test, and an engine of the stock client uses it.

const { setTimeout, clearTimeout } = globalThis; // not those of a test's made-up time

import { Socket } from "engine.io-client";
import { forget } from "../dist/index.js";

const DEADLINE = 5_000;

/** The promise's value, or an error that says what was waited for. */
function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not in time: ${what()}`)), DEADLINE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export const encoder = new TextEncoder();

/** A response whose body the test writes, ends or cuts. */
export class Stream {
  constructor(signal) {
    this.body = new ReadableStream({ start: (controller) => (this.controller = controller) });
    signal?.addEventListener("abort", () => this.cut());
    this.response = new Response(this.body, {
      headers: { "content-type": "text/event-stream; charset=utf-8" },
    });
  }

  write(text) {
    this.controller.enqueue(encoder.encode(text));
    return this;
  }

  end() {
    this.controller.close();
  }

  cut() {
    try {
      this.controller.error(new TypeError("terminated"));
    } catch {
      // it has ended before
    }
  }
}

/** Requests as they are made; the test takes one after the other, and answers it. */
export class Network {
  requests = [];
  #waiting = [];

  constructor(t) {
    forget();
    const original = globalThis.fetch;
    globalThis.fetch = (url, init) => this.#fetch(new URL(url), init);
    t.after(() => (globalThis.fetch = original));
  }

  #fetch(url, init) {
    return new Promise((resolve, reject) => {
      const request = {
        method: init.method ?? "GET",
        path: url.pathname,
        query: Object.fromEntries(url.searchParams),
        body: init.body,
        headers: new Headers(init.headers),
        signal: init.signal,
        answer: (text, status = 200) => resolve(new Response(text, { status })),
        stream: () => {
          const stream = new Stream(init.signal);
          resolve(stream.response);
          return stream;
        },
        cut: () => reject(new TypeError("fetch failed")),
      };
      init.signal?.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
      this.requests.push(request);
      this.#deliver();
    });
  }

  #deliver() {
    for (const waiting of [...this.#waiting]) {
      const i = this.requests.findIndex(waiting.fits);
      if (i === -1) continue;
      this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
      waiting.resolve(this.requests.splice(i, 1)[0]);
    }
  }

  /** The next request with this method that nobody has taken. */
  next(method = "GET") {
    const taken = new Promise((resolve) => {
      this.#waiting.push({ fits: (request) => request.method === method, resolve });
      this.#deliver();
    });
    return within(taken, () => `a ${method}`);
  }
}

export const OPEN = JSON.stringify({
  sid: "S",
  upgrades: ["websocket", "streaming"],
  pingInterval: 25_000,
  pingTimeout: 20_000,
  maxPayload: 1_000,
});

export function open(t, transports, options = {}) {
  const engine = new Engine(transports, options);
  t.after(() => engine.socket.close());
  return engine;
}

class Engine {
  received = [];
  events = [];
  #waiting = [];

  constructor(transports, options) {
    this.socket = new Socket("http://server.test", { transports, path: "/socket.io", autoUnref: true, ...options });
    this.socket.on("message", (data) => this.received.push(data));
    for (const event of ["open", "message", "upgrade", "upgradeError", "error", "close", "drain"]) {
      this.socket.on(event, (...args) => {
        this.events.push({ event, args });
        this.#waiting = this.#waiting.filter((waiting) => !waiting());
      });
    }
  }

  get state() {
    return this.socket.readyState;
  }

  get transport() {
    return this.socket.transport;
  }

  /** Returns once the engine's events so far make it true. */
  until(condition) {
    if (condition()) return;
    const fulfilled = new Promise((resolve) => {
      this.#waiting.push(() => condition() && (resolve(), true));
    });
    return within(fulfilled, () => `${condition}, after ${JSON.stringify(this.events)}`);
  }

  /** The arguments of the first event of this name. */
  async event(name) {
    const find = () => this.events.find(({ event }) => event === name);
    await this.until(find);
    return find().args;
  }
}
