// The stock clients of every version, behind one way to connect.

import { createRequire } from "node:module";
import { next, until, within } from "./wait.js";

const require = createRequire(import.meta.url);

/**
 * `revision` is Engine.IO's: 3 for Socket.IO 1.x and 2.x, 4 since 3.x.
 * What is odd about 1.x: it takes the session's id for that of every namespace's socket; and over
 * polling it encodes text as UTF-8 twice, so that what isn't ASCII comes back to it unchanged, but
 * can't be read by the server, nor it what the server says.
 */
export const clients = {
  v1: { name: "socket.io-client 1.7.4", revision: 3, isV1: true, io: require("sio1") },
  v2: { name: "socket.io-client 2.3.0", revision: 3, io: require("sio2") },
  v3: { name: "socket.io-client 3.1.3", revision: 4, io: require("sio3") },
  v4: { name: "socket.io-client 4.8.4", revision: 4, io: require("sio4") },
};

/** The newest one with another parser, which the server has to be told of. */
export const msgpack = {
  ...clients.v4,
  name: `${clients.v4.name} with socket.io-msgpack-parser 3.0.2`,
  options: { parser: require("socket.io-msgpack-parser") },
  flags: ["--msgpack"],
};

/** The newest one, which compresses whatever it can, and so does its server. */
export const compressing = {
  ...clients.v4,
  name: `${clients.v4.name}, compressed`,
  options: { perMessageDeflate: { threshold: 0 } },
  flags: ["--compression", 1],
};

export const modes = {
  polling: ["polling"],
  websocket: ["websocket"],
  upgrade: ["polling", "websocket"],
};

/**
 * A socket of `client` to the namespace `nsp`; it connects by itself.
 * A client that `isSealed` speaks TLS, into which a proxy can't look.
 * `auth` goes as the namespace's query where the client knows no auth (1.x, 2.x).
 */
export function open(client, server, { mode = "websocket", nsp = "/", auth, ...options } = {}) {
  const url = client.isSealed ? server.url.replace("http:", "https:") : server.url;
  return client.io(`${url}${nsp}`, {
    transports: modes[mode],
    forceNew: true,
    reconnection: false,
    ...credentials(client, auth),
    ...client.options,
    ...options,
  });
}

/** A socket to another namespace on the connection of `socket`. */
export function also(client, socket, nsp, auth) {
  return socket.io.socket(nsp, credentials(client, auth));
}

function credentials(client, auth) {
  if (!auth) return {};
  return client.revision === 3 ? { query: new URLSearchParams(auth).toString() } : { auth };
}

export function transportOf(socket) {
  return socket.io.engine.transport.name;
}

/** Waits until the socket is connected, and over the transport where its mode ends. */
export async function connected(socket, mode = "websocket") {
  if (!socket.connected) await next(socket, "connect");
  if (mode !== "polling") {
    await until(() => transportOf(socket) === "websocket", "the upgrade to websocket");
  }
  return socket;
}

/** Emits with an acknowledgement, and gives its arguments. */
export function ask(socket, event, ...args) {
  const answered = new Promise((resolve) => {
    socket.emit(event, ...args, (...answers) => resolve(answers));
  });
  return within(answered, () => `the acknowledgement of "${event}"`);
}

/** Records what comes under this event name. */
export function collect(socket, event) {
  const list = [];
  socket.on(event, (...args) => list.push(args));
  return list;
}

/** All that was emitted to the socket so far has come when this returns. */
export async function settled(...sockets) {
  for (const socket of sockets) await ask(socket, "message-with-ack");
}
