// Writes the fixtures of the crate `antiphon-protocol`: what Node's own packages publish.
//
//   node cluster/golden.mjs    # in tests/, with its packages installed
//   GOLDEN=folder node cluster/golden.mjs    # into another folder, to compare
//
// Two servers, the asker and the responder with one client, do the same with each adapter. What was
// published in a step is kept under its name, one line each.

import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Emitter as RedisEmitter } from "@socket.io/redis-emitter";
import { Emitter as PostgresEmitter } from "@socket.io/postgres-emitter";
import { adapters, client, countIds, server, settle } from "./node.js";

const require = createRequire(import.meta.url);
const notepack = require.resolve("notepack.io", {
  paths: [require.resolve("@socket.io/redis-adapter")],
});
const { encode } = require(notepack);

const folder = process.env.GOLDEN
  ? pathToFileURL(`${process.env.GOLDEN}/`)
  : new URL("../../crates/antiphon-protocol/tests/golden/", import.meta.url);

const long = "x".repeat(300);

/** What is done with each adapter. */
function steps({ asker, responder, socket, ack }) {
  const io = asker;
  const main = io.of("/");
  return {
    "emit": () => io.emit("ev", 1, "two"),
    "emit to a room": () => io.to("r1").emit("ev"),
    "emit to a numeric room": () => io.to(7).emit("ev"),
    "emit to an own room": () => io.to(socket.id).emit("ev"),
    "emit to rooms, flags": () =>
      io.to(["r1", "é"]).except("r3").volatile.compress(false).emit("ev", null, true),
    "emit binary": () =>
      io.emit("bin", Buffer.from([1, 2, 3]), { a: [Buffer.from("é")], b: Buffer.alloc(0) }),
    "emit values": () =>
      io.emit("é \"\n", -1, -33, -129, -40000, 1.5, 255, 65536, 2 ** 40, [[], {}], { k: long }),
    "emit many": () => io.emit("many", ...Array(20).keys()),
    "emit in a namespace": () => io.of("/admin").emit("ev"),
    "emit with acks, text": () => ack("text", io.timeout(1000).emitWithAck("ask", "text")),
    "emit with acks, binary": () =>
      ack(Buffer.from([1, 2]), io.to("lobby").timeout(1000).emitWithAck("ask", Buffer.from([9]))),
    "emit with acks, nothing": () => ack(undefined, io.timeout(1000).emitWithAck("ask")),
    "join": () => io.in("r1").except("r2").socketsJoin(["a", "b"]),
    "leave": () => io.socketsLeave("a"),
    "disconnect": () => io.in("nobody").disconnectSockets(true),
    "fetch": () => main.in("lobby").fetchSockets(),
    "fetch binary": () => {
      socket.data = { key: Buffer.from([5]) };
      return main.fetchSockets();
    },
    "fetch nothing": () => main.in("nobody").fetchSockets(),
    "server-side emit": () => io.serverSideEmit("hello", { a: 1 }),
    "server-side emit with acks": () => {
      responder.once("question", (_, answer) => answer("w5"));
      return io.serverSideEmitWithAck("question", 1);
    },
    "server-side emit with acks, nothing": () => {
      responder.once("question", (answer) => answer());
      return io.serverSideEmitWithAck("question");
    },
  };
}

/** What emitters do. */
function emitterSteps(emitter) {
  return {
    "emitter: emit": () => emitter.emit("ev", 1),
    "emitter: emit to rooms": () => emitter.to(["r1", "r2"]).except("r3").volatile.emit("ev"),
    "emitter: emit binary": () => emitter.of("admin").to("r1").emit("ev", Buffer.from([1])),
    "emitter: join": () => emitter.in("r1").socketsJoin("a"),
    "emitter: leave": () => emitter.except("r1").socketsLeave(["a"]),
    "emitter: disconnect": () => emitter.disconnectSockets(true),
    "emitter: server-side emit": () => emitter.serverSideEmit("hello", 1),
  };
}

/** What is done with the classic adapter alone. */
function classicSteps({ asker }, broker) {
  const request = (body) => broker.client().publish("socket.io-request#/#", JSON.stringify(body));
  return {
    "all rooms": () => asker.of("/").adapter.allRooms(),
    "ids": () => request({ requestId: "idsids", type: 0, rooms: ["lobby"] }),
    "ids of none": () => request({ requestId: "idsids", type: 0, rooms: ["nobody"] }),
    "join, one socket": () =>
      request({ uid: "oldold", requestId: "joined", type: 2, sid: "s1", room: "a" }),
  };
}

/** What the emitters of PyPI publish, from their source: lists that are empty are texts. */
function pypiSteps(broker) {
  const publish = (channel, ...message) => broker.client().publish(channel, encode(message));
  return {
    "socket.io-emitter of PyPI": () =>
      publish("socket.io#/#", "emitter", { data: ["ev", 1], type: 2, nsp: "/" }, { flags: "", rooms: "" }),
    "socket.io-emitter of PyPI, room": () =>
      publish("socket.io#/#r1#", "emitter", { data: ["ev"], type: 2, nsp: "/" }, { flags: "", rooms: ["r1"] }),
  };
}

async function run(broker, steps) {
  const fixtures = [];
  for (const [name, step] of Object.entries(steps)) {
    broker.record.length = 0;
    await step();
    await settle();
    fixtures.push(...written(name, broker));
  }
  return fixtures;
}

/** What was published since the record was empty. */
function written(name, broker) {
  return broker.record.map((entry) => JSON.stringify({ name, ...readable(entry) }));
}

/** Bytes as text if they are JSON, and else in hexadecimal digits. */
function readable({ payload, ...rest }) {
  if (!payload) return rest;
  const isText = payload[0] === 0x7b;
  return { ...rest, ...(isText ? { text: payload.toString() } : { hex: payload.toString("hex") }) };
}

async function cluster(adapter, options) {
  const broker = adapters[adapter].broker();
  const namespaces = ["/", "/admin"];
  const rest = options ?? {};
  const [asker, responder] = [1, 2].map(() => server(adapter, broker, { namespaces, ...rest }));
  const { client: peer, socket } = await client(responder);
  socket.handshake = { headers: { host: "a" }, auth: {} };
  socket.data = { name: "é" };
  socket.join("lobby");
  await settle();
  const ack = async (answer, asked) => {
    peer.once("ask", (...args) => args.pop()(...(answer === undefined ? [] : [answer])));
    await asked;
  };
  return { broker, peer, asker, responder, socket, ack };
}

function write(name, fixtures) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(new URL(`${name}.json`, folder), `[\n${fixtures.join(",\n")}\n]\n`);
}

/** What is done with the adapter for sharded channels alone. */
async function privateSteps() {
  const it = await cluster("sharded", { options: { subscriptionMode: "dynamic-private" } });
  return run(it.broker, {
    "emit to an own room, dynamic-private": () => it.asker.to(it.socket.id).emit("ev"),
  });
}

/** A socket that may be recovered leaves its session behind. */
async function sessionSteps() {
  const recovery = { connectionStateRecovery: { skipMiddlewares: true } };
  const it = await cluster("streams", recovery);
  const { broker, socket } = it;
  const leave = (data) => () => {
    socket.data = data;
    socket.conn.close();
  };
  return run(broker, {
    "emit with recovery": () => it.asker.emit("ev", 1),
    "session": leave({ name: "é", key: Buffer.from([5]) }),
  });
}

/** What is done with the adapter for Postgres alone. */
function postgresSteps({ asker }) {
  return {
    "emit, large": () => asker.emit("ev", "x".repeat(8000)),
    "close": () => asker.of("/").adapter.close(),
  };
}

async function classic() {
  const it = await cluster("classic");
  const { broker } = it;
  write("classic", [
    ...(await run(broker, steps(it))),
    ...(await run(broker, classicSteps(it, broker))),
    ...(await run(broker, emitterSteps(new RedisEmitter(broker.client())))),
    ...(await run(broker, pypiSteps(broker))),
  ]);
}

async function sharded() {
  const it = await cluster("sharded");
  write("sharded", [...(await run(it.broker, steps(it))), ...(await privateSteps())]);
}

async function streams() {
  const it = await cluster("streams");
  write("streams", [...(await run(it.broker, steps(it))), ...(await sessionSteps())]);
}

async function postgres() {
  const it = await cluster("postgres");
  const { broker } = it;
  const emitter = new PostgresEmitter(broker.pool());
  write("postgres", [
    ...written("start", broker),
    ...(await run(broker, steps(it))),
    ...(await run(broker, emitterSteps(emitter))),
    ...(await run(broker, postgresSteps(it))),
  ]);
}

const all = { classic, sharded, streams, postgres };
if (process.argv[2]) {
  countIds();
  await all[process.argv[2]]();
} else {
  // A process each, so that ids are counted from the beginning.
  for (const name of Object.keys(all)) {
    execFileSync(process.execPath, [fileURLToPath(import.meta.url), name], { stdio: "inherit" });
  }
}
process.exit(0);
