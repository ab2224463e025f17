// The connection to the server: the stock socket.io-client, plus what a person may want to know of it:
// which transport is in use, when it changed and why, how fast an answer comes, what is going on when none does.

import { io } from "socket.io-client";
import { ShortPolling, transports } from "@antiphon/transports";
import { durationText } from "./dom.js";

/** Ways to connect that a person can force, by the page's `?transport=` or in the connection panel. */
const [AdaptivePolling, Streaming, WebSocket] = transports;
export const WAYS = [
  { id: "auto", label: "Automatic", transports },
  { id: "websocket", label: "WebSocket", transports: [WebSocket] },
  { id: "streaming", label: "Streaming", transports: [Streaming] },
  { id: "polling", label: "Long-polling", transports: [AdaptivePolling] },
  { id: "short-polling", label: "Short polling", transports: [ShortPolling] },
];

const TRANSPORT_NAMES = {
  websocket: "WebSocket",
  streaming: "Streaming",
  polling: "Long-polling",
  "short-polling": "Short polling",
};
export const transportName = (id) => TRANSPORT_NAMES[id] ?? id;
const inSentence = (id) => transportName(id).replace(/^[LS](?=[a-z]+[- ]?)/, (letter) => letter.toLowerCase());
/** What is in use: polls that are answered at once are a way of their own. */
const wayOf = (transport) => (transport.isShort ? "short-polling" : transport.name);

const REASONS = {
  "ping timeout": "the server went silent",
  "transport close": "the server or the network closed it",
  "transport error": "the network failed",
  "io server disconnect": "the server ended it",
  "io client disconnect": "this page asked for it",
  "parse error": "the server sent something unreadable",
};

/** The server said no (or nothing), in words for a person. */
export class Refusal extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }

  static from(error) {
    if (typeof error === "string") return new Refusal("error", error);
    return new Refusal(error.code ?? "error", error.message ?? "The server could not do that.");
  }
}

const LATENCY_EVERY_MS = 5_000;
const TIMELINE_LENGTH = 40;
const COMEBACK_SHOWN_MS = 8_000;

/**
 * Events: `change` when any of `state`, `transport`, `upgradingTo`, `latency`, `timeline` or `comeback` has changed,
 * `refused` (detail: a Refusal) when the server doesn't let this person in.
 */
export class Connection extends EventTarget {
  state = "offline"; // "connecting" | "online" | "reconnecting" | "offline"
  transport = null;
  upgradingTo = null;
  latency = null;
  timeline = []; // { at, kind: "good" | "bad" | "plain", text }, newest first
  lostAt = null; // when the connection was lost, if nobody asked for it
  comeback = null; // after a loss, for a while: { after (ms), recovered, missed (how many), done (no more will come) }

  constructor(way) {
    super();
    this.way = WAYS.find(({ id }) => id === way) ?? WAYS[0];
    this.socket = io("/chat", {
      autoConnect: false,
      transports: this.way.transports,
      reconnectionDelay: 500,
      reconnectionDelayMax: 5_000,
    });
    this.#listen();
    setInterval(() => document.visibilityState === "visible" && this.#measure(), LATENCY_EVERY_MS);
    window.addEventListener("online", () => this.state === "reconnecting" && this.retry());
  }

  get online() {
    return this.state === "online";
  }

  /** Connects as this person, anew where there is a connection. */
  enter(auth) {
    this.socket.auth = auth;
    this.retry();
  }

  /** Tries at once, whatever the client's own backoff says. */
  retry() {
    this.socket.disconnect();
    this.#set({ state: this.timeline.length ? "reconnecting" : "connecting" });
    this.socket.connect();
  }

  /** Forces a way to connect, from now on. */
  use(id) {
    this.way = WAYS.find((way) => way.id === id) ?? WAYS[0];
    this.#note("plain", `Chosen: ${this.way.label}`);
    this.socket.io.opts.transports = [...this.way.transports];
    this.retry();
  }

  /** Emits an event and waits for its acknowledgement. An answer `{ error }` is thrown as a Refusal. */
  async ask(event, data, { timeout = 10_000 } = {}) {
    if (!this.socket.connected) throw new Refusal("offline", "You are not connected right now.");
    let reply;
    try {
      reply = await this.socket.timeout(timeout).emitWithAck(event, data);
    } catch {
      if (!this.socket.connected) throw new Refusal("offline", "The connection was lost before the server answered.");
      throw new Refusal("no_answer", "The server did not answer in time.");
    }
    if (reply?.error) throw Refusal.from(reply.error);
    return reply;
  }

  /** Emits without an acknowledgement; dropped when not connected. */
  tell(event, data) {
    this.socket.volatile.emit(event, data);
  }

  #listen() {
    const { socket } = this;
    const manager = socket.io;

    manager.on("open", () => this.#opened(manager.engine));
    manager.on("error", (error) => {
      this.#noteFailure(error.message);
      this.#set({ state: "reconnecting" });
    });

    socket.on("connect", () => {
      // Where a connection was lost, what was missed comes now, before anything that we ask for.
      const comeback = this.lostAt && { after: Date.now() - this.lostAt, recovered: socket.recovered, missed: 0, done: false };
      this.#set({ state: "online", comeback, lostAt: null });
      this.#measure();
    });
    socket.on("disconnect", (reason) => {
      if (reason !== "io client disconnect") this.lostAt = Date.now();
      this.comeback = null;
      this.#note(reason === "io client disconnect" ? "plain" : "bad", `Connection ended: ${REASONS[reason] ?? reason}`);
      this.#set({ state: "reconnecting", transport: null, upgradingTo: null, latency: null });
      // The client leaves it to us to come back after the server has ended the connection.
      if (reason === "io server disconnect") setTimeout(() => this.state === "reconnecting" && socket.connect(), 1_000);
    });
    socket.on("connect_error", (error) => {
      if (socket.active) return; // the network: the client goes on trying, and `error` above has told it
      this.#note("bad", `The server refused: ${error.message}`);
      this.#set({ state: "offline" });
      const refusal = Refusal.from({ code: error.data?.code, message: error.data?.message ?? error.message });
      this.dispatchEvent(new CustomEvent("refused", { detail: refusal }));
    });
  }

  #opened(engine) {
    const openedAt = performance.now();
    const since = () => `${Math.round(performance.now() - openedAt)} ms`;
    this.#note("good", `Connected by ${inSentence(wayOf(engine.transport))}`);
    this.#set({ transport: wayOf(engine.transport), upgradingTo: null });

    engine.on("upgrading", (transport) => {
      this.#note("plain", `${transportName(transport.name)} answers; switching over`);
      this.#set({ upgradingTo: transport.name });
    });
    engine.on("upgrade", (transport) => {
      this.#note("good", `Upgraded to ${transportName(transport.name)} after ${since()}`);
      this.#set({ transport: transport.name, upgradingTo: null });
      this.#measure();
    });
    engine.on("upgradeError", (error) => {
      this.#note("bad", `No upgrade (${error.message}); staying on ${inSentence(wayOf(engine.transport))}`);
      this.#set({ upgradingTo: null });
    });
    engine.on("pollWait", (wait) => {
      this.#note("plain", `Requests that wait are cut on this network; asking every ${Math.max(wait, 1_000) / 1_000} s`);
      this.#set({ transport: wayOf(engine.transport) });
    });
  }

  /** What was missed has come, as far as it will. `why` says why the socket is a new one, if it should have been the old one. */
  caughtUp(why) {
    const { comeback } = this;
    if (!comeback) return;
    const { after, recovered, missed } = comeback;
    const count = missed === 1 ? "the message that was" : `${missed} messages that were`;
    if (recovered) this.#note("good", `The same socket again after ${durationText(after)}${missed ? `, with ${count} missed` : ""}`);
    else this.#note("bad", `A new socket after ${durationText(after)}: ${why ?? "the server knows no other"}`);
    this.#set({ comeback: { ...comeback, done: true } });
    const shown = this.comeback;
    setTimeout(() => this.comeback === shown && this.#set({ comeback: null }), recovered ? COMEBACK_SHOWN_MS : 3 * COMEBACK_SHOWN_MS);
  }

  async #measure() {
    if (!this.socket.connected) return;
    const from = performance.now();
    try {
      await this.socket.timeout(LATENCY_EVERY_MS).emitWithAck("latency");
      this.#set({ latency: performance.now() - from });
    } catch {
      this.#set({ latency: null });
    }
  }

  #noteFailure(message) {
    const last = this.timeline[0];
    const times = last?.failures ? last.failures + 1 : 1;
    const text = times === 1 ? `Could not connect: ${message}` : `Could not connect, ${times} times: ${message}`;
    if (times > 1) this.timeline.shift();
    this.#note("bad", text, { failures: times });
  }

  #note(kind, text, more) {
    this.timeline = [{ at: Date.now(), kind, text, ...more }, ...this.timeline].slice(0, TIMELINE_LENGTH);
    this.dispatchEvent(new Event("change"));
  }

  #set(changes) {
    Object.assign(this, changes);
    this.dispatchEvent(new Event("change"));
  }
}
