// Runs in the page: a stock socket with the package's transports, and a record of what happens to it.

import { io } from "socket.io-client";
import { transports, withFallback } from "@antiphon/transports";

/** Options of the streaming transport: `?silence=3000`. */
const streaming = Object.fromEntries(
  [...new URLSearchParams(location.search)].map(([name, value]) => [name, Number(value)]),
);
const start = performance.now();
const socket = io({
  transports,
  reconnectionDelay: 100,
  reconnectionDelayMax: 500,
  transportOptions: { streaming },
});
/** Ways, and transports to which an upgrade failed, in order. */
const history = [];
const fallback = withFallback(socket, { timeout: 15_000, onWay: (way) => history.push(way) });
let first;
const received = [];

socket.on("auth", () => (first ??= performance.now() - start));
socket.on("message-back", (i) => received.push(i));
socket.on("flood", (i) => received.push(i));
const watched = new WeakSet();
function watch() {
  const { engine } = socket.io;
  if (watched.has(engine)) return;
  watched.add(engine);
  engine.on("upgradeError", (error) => history.push(`no ${error.transport}`));
}
watch();
socket.io.on("reconnect_attempt", () => queueMicrotask(watch));
// The first answer, on whichever way.
fallback.emitWithAck("message-with-ack", "first").then(
  () => (first ??= performance.now() - start),
  () => {},
);

window.page = {
  history,
  get way() {
    return fallback.way;
  },
  get first() {
    return first;
  },
  /** `count` messages each way, in order; gives those that came back. */
  async messages(count) {
    received.length = 0;
    const began = performance.now();
    for (let i = 0; i < count; i++) socket.emit("message", i);
    while (received.length < count) await new Promise((resolve) => socket.once("message-back", resolve));
    // Whatever would come twice has come before this answer.
    await fallback.emitWithAck("message-with-ack", 0);
    return { received: [...received], milliseconds: performance.now() - began };
  },
  async flood(count) {
    received.length = 0;
    socket.emit("flood", count);
    while (received.length < count) await new Promise((resolve) => socket.once("flood", resolve));
    await fallback.emitWithAck("message-with-ack", 0);
    return [...received];
  },
  /** Calls side by side; gives of each its answer, or the code of its error. */
  calls(count, from = 0) {
    const one = (i) => fallback.emitWithAck("message-with-ack", i).catch((error) => error.code ?? String(error));
    return Promise.all(Array.from({ length: count }, (_, i) => one(from + i)));
  },
};
