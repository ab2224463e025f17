// A server of Node in a cluster, for the tests: it does what its clients ask for by the event `do`,
// as the example `cluster_peer` does with ours.
//
// node peer.mjs --broker URL --wire classic|sharded|streams|postgres --name NAME \
//   --client redis|ioredis [--recovery SECONDS]

import { createServer } from "node:http";
import { Cluster, Redis } from "ioredis";
import pg from "pg";
import { createClient, createCluster } from "redis";
import { Server } from "socket.io";
import * as postgresAdapter from "@socket.io/postgres-adapter";
import * as redisAdapter from "@socket.io/redis-adapter";
import * as streamsAdapter from "@socket.io/redis-streams-adapter";

const flags = {};
for (let at = 2; at < process.argv.length; at += 2) flags[process.argv[at].slice(2)] = process.argv[at + 1];

// A URL with several hosts is one of a Redis Cluster.
const nodes = flags.broker.replace(/^redis:\/\//, "").split(",");

async function client() {
  if (nodes.length > 1) return clusterClient();
  if (flags.client === "ioredis") return new Redis(flags.broker);
  const redis = createClient({ url: flags.broker });
  await redis.connect();
  return redis;
}

async function clusterClient() {
  const urls = nodes.map((node) => `redis://${node}`);
  const cluster =
    flags.client === "ioredis"
      ? new Cluster(urls, { shardedSubscribers: true, lazyConnect: true })
      : createCluster({ rootNodes: urls.map((url) => ({ url })) });
  await cluster.connect();
  return cluster;
}

// One connection listens and one publishes: of several that publish one overtakes the other.
const pool = () => new pg.Pool({ connectionString: flags.broker, max: 2 });

const adapters = {
  classic: async () => redisAdapter.createAdapter(await client(), await client()),
  sharded: async () => redisAdapter.createShardedAdapter(await client(), await client()),
  streams: async () => streamsAdapter.createAdapter(await client()),
  postgres: async () => postgresAdapter.createAdapter(pool()),
};
const http = createServer();
const options = { adapter: await adapters[flags.wire]() };
if (flags.recovery) {
  options.connectionStateRecovery = { maxDisconnectionDuration: 1000 * flags.recovery };
}
const io = new Server(http, options);

for (const name of ["/", "/chat"]) {
  const namespace = io.of(name);
  const heard = [];
  namespace.on("note", (value) => heard.push(value));
  namespace.on("who", (asked, answer) => answer({ name: flags.name, asked }));
  namespace.on("connection", (socket) => {
    // Who has come back is from elsewhere, perhaps.
    socket.data.at ??= flags.name;
    socket.on("me", (answer) => {
      answer({ recovered: socket.recovered, at: socket.data.at, rooms: [...socket.rooms] });
    });
    socket.on("do", async (task, answer) => {
      try {
        answer(await run(namespace, task, heard));
      } catch (error) {
        answer({ error: error.message });
      }
    });
  });
}

async function run(namespace, task, heard) {
  const { op, rooms = [], except = [], timeout = 3000, event, arg = null } = task;
  let to = namespace.to(rooms).except(except);
  if (task.local) to = to.local;
  if (task.volatile) to = to.volatile;
  switch (op) {
    case "emit":
      return task.bytes ? to.emit(event, Buffer.from(task.bytes), arg) : to.emit(event, arg), "ok";
    case "ask": {
      const [error, answers] = await new Promise((done) =>
        to.timeout(timeout).emit(event, arg, (error, answers) => done([error, answers])),
      );
      return { answers, isComplete: !error };
    }
    case "fetch":
      return (await to.fetchSockets()).map(({ id, rooms, data, handshake }) => ({
        id,
        rooms: [...rooms],
        at: data.at,
        eio: handshake.query.EIO,
      }));
    case "join":
      return to.socketsJoin(task.join), "ok";
    case "leave":
      return to.socketsLeave(task.join), "ok";
    case "disconnect":
      return to.disconnectSockets(task.close ?? false), "ok";
    case "count":
      return namespace.adapter.serverCount();
    case "note":
      return namespace.serverSideEmit("note", arg), "ok";
    case "who":
      return namespace.serverSideEmitWithAck("who", arg);
    case "heard":
      return heard;
    default:
      throw new Error(`no task ${op}`);
  }
}

http.listen(0, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${http.address().port}`));
