// Starts a program of `examples/`, as its reader would, on a port of its own.

import { join } from "node:path";
import { io } from "sio4";
import { programs, Server } from "../lib/server.js";
import { next, within } from "../lib/wait.js";

export async function startExample(name, ...args) {
  const server = new Server(join(programs, name), ["0", ...args]);
  await within(server.listening, () => `${name} listens`);
  return server;
}

/** A stock client. Close it. */
export function client(server, options = {}) {
  return io(server.url, { forceNew: true, reconnectionDelay: 50, ...options });
}

/** A stock client that is connected. Close it. */
export async function connected(server, options) {
  const socket = client(server, options);
  await next(socket, "connect");
  return socket;
}
