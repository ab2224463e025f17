// Two servers of Node in one process, connected by an adapter of Node's, with ids that are the same
// each time.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { Server } from "socket.io";
import { io as connect } from "sio4";
import * as classic from "@socket.io/redis-adapter";
import * as postgres from "@socket.io/postgres-adapter";
import * as streams from "@socket.io/redis-streams-adapter";
import { Postgres, Redis } from "./brokers.js";

const require = createRequire(import.meta.url);

/** Names of servers and requests are counted, and so are those of sockets. */
export function countIds() {
  const crypto = require("crypto");
  const random = crypto.randomBytes;
  let ids = 0;
  crypto.randomBytes = (size, then) => {
    if (then || (size !== 6 && size !== 8)) return random(size, then);
    return Buffer.alloc(size, ++ids);
  };
  let sockets = 0;
  require("../node_modules/socket.io/dist/contrib/base64id.js").base64id.generateId = () =>
    `socket${String(++sockets).padStart(14, "0")}`;
}

/** A client of the package that `REDIS` names: `redis` or `ioredis`. */
const redis = (broker) => (process.env.REDIS === "ioredis" ? broker.ioredis() : broker.client());

/** The adapters: what each makes of a broker. */
export const adapters = {
  classic: {
    broker: () => new Redis(),
    factory: (broker, options) => classic.createAdapter(redis(broker), redis(broker), options),
  },
  sharded: {
    broker: () => new Redis(),
    factory: (broker, options) =>
      classic.createShardedAdapter(redis(broker), redis(broker), options),
  },
  streams: {
    broker: () => new Redis(),
    factory: (broker, options) => streams.createAdapter(redis(broker), options),
  },
  postgres: {
    broker: () => new Postgres(),
    factory: (broker, options) => postgres.createAdapter(broker.pool(), options),
  },
};

/** A server with the adapter. */
export function server(adapter, broker, { namespaces = ["/"], options, ...rest } = {}) {
  const io = new Server({ adapter: adapters[adapter].factory(broker, options), ...rest });
  for (const namespace of namespaces) io.of(namespace);
  return io;
}

/** A client of it, and the socket that it has there. `prepare` gets it before it is connected. */
export async function client(io, options = {}, prepare = () => {}) {
  const http = createServer();
  io.attach(http);
  await new Promise((done) => http.listen(0, "127.0.0.1", done));
  const url = `http://127.0.0.1:${http.address().port}`;
  const connected = new Promise((done) => io.once("connection", done));
  const client = connect(url, { transports: ["websocket"], ...options });
  prepare(client);
  const socket = await connected;
  await until(() => client.connected);
  return { client, socket };
}

/**
 * Waits for what is going on to have happened: all of it is in this process, which looks at its sockets
 * in each of these turns. The time alone says nothing if the process doesn't run meanwhile.
 */
export async function settle() {
  for (let turn = 0; turn < 30; turn++) await new Promise((done) => setTimeout(done, 1));
}

async function until(condition) {
  while (!condition()) await new Promise((done) => setTimeout(done, 5));
}
