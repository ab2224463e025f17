// Two servers of Node and two of ours on one Redis, Redis Cluster or Postgres: each feature from each side. Node's
// servers have its own adapters, for Redis one by node-redis and one by ioredis.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Emitter as PostgresEmitter } from "@socket.io/postgres-emitter";
import { Emitter } from "@socket.io/redis-emitter";
import { io as connect } from "sio4";
import { startPostgres } from "../lib/postgres.js";
import { runPython } from "../lib/python.js";
import { startRedis, startRedisCluster } from "../lib/redis.js";
import { Server, examples } from "../lib/server.js";
import { until } from "../lib/wait.js";

const peer = fileURLToPath(new URL("peer.mjs", import.meta.url));

/** Servers by their names: n1 and n2 are Node's, a1 and a2 are ours. */
async function startServers(wire, url) {
  const node = (name, client) =>
    new Server(process.execPath, [peer, "--broker", url, "--wire", wire, "--name", name, "--client", client]);
  const ours = (name) =>
    new Server(join(examples, "cluster_peer"), ["--broker", url, "--wire", wire, "--name", name]);
  const servers = { n1: node("n1", "redis"), n2: node("n2", "ioredis"), a1: ours("a1"), a2: ours("a2") };
  await Promise.all(Object.values(servers).map((server) => server.listening));
  return servers;
}

/** A client of a server, which notes what it gets and answers what it is asked. */
async function join4(server, name, namespace = "/") {
  const client = connect(server.url + namespace, { transports: ["websocket"], forceNew: true });
  client.name = name;
  client.got = [];
  client.onAny((event, ...args) => {
    const answer = typeof args.at(-1) === "function" ? args.pop() : undefined;
    client.got.push([event, ...args]);
    answer?.({ from: name, args });
  });
  await until(() => client.connected, `${name} is connected`);
  client.do = (op, task = {}) => client.timeout(15_000).emitWithAck("do", { op, ...task });
  return client;
}

const brokers = {
  classic: startRedis,
  sharded: startRedis,
  streams: startRedis,
  postgres: startPostgres,
  "classic, Redis Cluster": startRedisCluster,
  "sharded, Redis Cluster": startRedisCluster,
  "streams, Redis Cluster": startRedisCluster,
};
for (const [name, startBroker] of Object.entries(brokers)) {
  const wire = name.split(",")[0];
  describe(`${name}: servers of Node and ours in one cluster`, { timeout: 120_000 }, () => {
    let broker, servers, clients;
    const all = () => Object.values(clients);

    before(async () => {
      broker = await startBroker();
      servers = await startServers(wire, broker.url);
      clients = {};
      for (const [name, server] of Object.entries(servers)) {
        clients[name] = await join4(server, name);
      }
      // Each server hears each other.
      for (const client of all()) {
        await until(async () => (await client.do("count")) === 4, `${client.name} counts 4`);
        await client.do("emit", { event: "warm" });
      }
      await until(() => all().every((client) => client.got.length === 4), "all hear all");
    });

    after(async () => {
      all().forEach((client) => client.disconnect());
      await Promise.all(Object.values(servers).map((server) => server.stop()));
      await broker.stop();
    });

    /** What each client has got of an event, by the clients' names. */
    const got = (event) =>
      Object.fromEntries(all().map(({ name, got }) => [name, got.filter(([name]) => name === event)]));

    /** Everyone has heard all that was said before, whoever said it. */
    async function settle() {
      for (const client of all()) {
        const mark = `mark ${Math.random()}`;
        await client.do("emit", { event: mark });
        await until(() => all().every(({ got }) => got.some(([name]) => name === mark)), mark);
      }
    }

    let next = 0;
    const unique = (what) => `${what} ${++next}`;

    for (const from of ["n1", "n2", "a1", "a2"]) {
      test(`${from} emits to all, with text and binary`, async () => {
        const event = unique("all");
        await clients[from].do("emit", { event, arg: { text: 'ä "q"', list: [1, null, true] } });
        await clients[from].do("emit", { event, bytes: [0, 255, 128], arg: "behind" });
        await until(() => Object.values(got(event)).every((all) => all.length === 2), "both events");
        for (const events of Object.values(got(event))) {
          // Node's clients publish to any node of a Redis Cluster, so that a later event may come earlier.
          if (from.startsWith("n") && name.endsWith("Redis Cluster")) events.sort((a, b) => a.length - b.length);
          const [first, second] = events;
          assert.deepEqual(first, [event, { text: 'ä "q"', list: [1, null, true] }]);
          assert.deepEqual([...second[1]], [0, 255, 128]);
          assert.equal(second[2], "behind");
        }
      });

      test(`${from} puts sockets of all into rooms, emits to them, and takes them out`, async () => {
        const [room, other, event, probe] = ["room", "other", "event", "probe"].map(unique);
        const ids = Object.fromEntries(all().map((client) => [client.name, client.id]));
        await clients[from].do("join", { rooms: [ids.n1, ids.a1], join: [room] });
        await clients[from].do("join", { rooms: [ids.a2, ids.n2], join: [other] });
        // Both kinds of server know by now who is where.
        for (const who of ["n2", "a2"]) {
          await until(async () => {
            const found = await clients[who].do("fetch", { rooms: [room] });
            return found.length === 2 && found.every(({ rooms }) => rooms.includes(room));
          }, `${who} finds them`);
        }
        await settle();
        const emit = (task) => clients[from].do("emit", { event, ...task });
        // A server subscribes to a room when it gets its first member.
        await until(async () => {
          await clients[from].do("emit", { event: probe, rooms: [room] });
          const had = got(probe);
          return had.n1.length > 0 && had.a1.length > 0;
        }, "the room is heard");
        await settle();
        all().forEach((client) => (client.got = []));
        await emit({ rooms: [room], arg: 1 });
        await emit({ rooms: [room, other], arg: 2 });
        await emit({ rooms: [room, other], except: [ids.n1], arg: 3 });
        await emit({ rooms: [ids.a2], arg: 4 });
        await emit({ rooms: [ids.n2], arg: 5 });
        // It is answered when all servers have heard it, so that what follows can't overtake it.
        await clients[from].do("ask", { event, except: [room], arg: 6 });
        // Over a Redis Cluster what Node's clients publish next may come earlier.
        const heard = () => Object.values(got(event)).reduce((sum, all) => sum + all.length, 0);
        await until(() => heard() >= 13, "all of it");
        await clients[from].do("leave", { rooms: [room], join: [room] });
        await until(async () => (await clients[from].do("fetch", { rooms: [room] })).length === 0, "the room is empty");
        await emit({ rooms: [room], arg: 7 });
        await settle();
        const args = Object.entries(got(event)).map(([name, all]) => [name, all.map(([, arg]) => arg).sort()]);
        assert.deepEqual(Object.fromEntries(args), {
          n1: [1, 2],
          n2: [2, 3, 5, 6],
          a1: [1, 2, 3],
          a2: [2, 3, 4, 6],
        });
      });

      test(`${from} knows the sockets of all, with their data and handshake`, async () => {
        const found = await clients[from].do("fetch");
        const known = Object.fromEntries(found.map(({ id, at, eio }) => [id, `${at} ${eio}`]));
        assert.deepEqual(known, Object.fromEntries(all().map(({ id, name }) => [id, `${name} 4`])));
      });

      test(`${from} asks the sockets of all, and gets each one's answer`, async () => {
        const event = unique("ask");
        const { answers, isComplete } = await clients[from].do("ask", { event, arg: "what?" });
        assert.equal(isComplete, true);
        const names = answers.map(({ from, args }) => [from, ...args]).sort();
        assert.deepEqual(names, ["a1", "a2", "n1", "n2"].map((name) => [name, "what?"]));
      });

      test(`${from} emits to local sockets alone`, async () => {
        const event = unique("local");
        await clients[from].do("emit", { event, local: true });
        await settle();
        const names = Object.entries(got(event)).flatMap(([name, all]) => all.map(() => name));
        assert.deepEqual(names, [from]);
      });

      test(`${from} talks to the other servers`, async () => {
        const note = unique("note");
        await clients[from].do("note", { arg: { note } });
        for (const client of all()) {
          const has = async () => (await client.do("heard")).some((heard) => heard.note === note);
          if (client.name === from) assert.equal(await has(), false);
          else await until(has, `${client.name} hears it`);
        }
        const answers = await clients[from].do("who", { arg: note });
        const expected = ["a1", "a2", "n1", "n2"].filter((name) => name !== from);
        assert.deepEqual(
          answers.sort((a, b) => (a.name < b.name ? -1 : 1)),
          expected.map((name) => ({ name, asked: note })),
        );
      });

      test(`${from} disconnects sockets of others`, async () => {
        for (const [at, close] of [["n1", false], ["a1", true], ["a2", false], ["n2", true]]) {
          const guest = await join4(servers[at], "guest");
          let reason;
          guest.on("disconnect", (why) => (reason = why));
          await clients[from].do("disconnect", { rooms: [guest.id], close });
          await until(() => reason, `the guest of ${at} is disconnected`);
          assert.equal(reason, "io server disconnect");
          guest.disconnect();
        }
      });
    }

    test("namespaces are apart", async () => {
      const guests = [await join4(servers.n1, "n1", "/chat"), await join4(servers.a1, "a1", "/chat")];
      for (const guest of guests) {
        await until(async () => (await guest.do("count")) === 4, "the namespace is on all");
        await guest.do("emit", { event: "chat" });
      }
      await until(() => guests.every(({ got }) => got.length === 2), "both hear both");
      await settle();
      assert.ok(Object.values(got("chat")).every((all) => all.length === 0));
      guests.forEach((guest) => guest.disconnect());
    });
  });
}

describe("Node's emitter", { timeout: 60_000 }, () => {
  test("emits, joins, leaves and disconnects on servers of both kinds", async () => {
    const redis = await startRedis();
    const servers = await startServers("classic", redis.url);
    const clients = {};
    for (const [name, server] of Object.entries(servers)) clients[name] = await join4(server, name);
    const all = Object.values(clients);
    const emitter = new Emitter(redis.client);
    const heard = (event) => all.filter(({ got }) => got.some(([name]) => name === event));
    await until(() => {
      emitter.emit("all", 1, Buffer.from([7]));
      return heard("all").length === 4;
    }, "all hear it");
    const { n1, a1, a2 } = clients;
    emitter.in([n1.id, a1.id]).socketsJoin("room");
    emitter.to("room").emit("room");
    await until(() => heard("room").length === 2, "both in the room hear it");
    emitter.in("room").socketsLeave("room");
    emitter.to("room").emit("gone");
    emitter.in([a2.id]).disconnectSockets();
    await until(() => !a2.connected, "it is disconnected");
    emitter.serverSideEmit("note", "from outside");
    for (const client of [n1, a1]) {
      await until(async () => (await client.do("heard")).includes("from outside"), "servers hear it");
    }
    assert.deepEqual(heard("gone"), []);
    assert.deepEqual([...a1.got.find(([name]) => name === "all")[2]], [7]);
    all.forEach((client) => client.disconnect());
    await Promise.all(Object.values(servers).map((server) => server.stop()));
    await redis.stop();
  });
});

describe("an emitter of PyPI", { timeout: 60_000 }, () => {
  test("emits to all, to a room and to a namespace on servers of both kinds", async () => {
    const redis = await startRedis();
    const servers = await startServers("classic", redis.url);
    const [clients, guests] = [{}, {}];
    for (const [name, server] of Object.entries(servers)) {
      clients[name] = await join4(server, name);
      guests[name] = await join4(server, name, "/chat");
    }
    const { n1, a1 } = clients;
    const all = Object.values(clients);
    await until(async () => (await n1.do("count")) === 4, "all are there");
    await a1.do("join", { rooms: [n1.id, a1.id], join: ["room"] });
    await until(async () => (await n1.do("fetch", { rooms: ["room"] })).length === 2, "both are in the room");
    await runPython("cluster/emitter.py", [redis.url], 20_000);
    await until(() => Object.values(guests).every(({ got }) => got.length === 1), "the other namespace hears it");
    for (const { got } of Object.values(guests)) {
      assert.deepEqual(got, [["chat", "to the other namespace"]]);
    }
    await until(() => all.every(({ got }) => got.length > 0), "all hear it");
    const first = ["all", 1, { text: "ä", list: [null, true, 2.5] }];
    for (const { name, got } of all) {
      const isIn = name === "n1" || name === "a1";
      assert.deepEqual(got, isIn ? [first, ["room", "to the room"]] : [first], name);
    }
    [...all, ...Object.values(guests)].forEach((client) => client.disconnect());
    await Promise.all(Object.values(servers).map((server) => server.stop()));
    await redis.stop();
  });
});

describe("Node's emitter for Postgres", { timeout: 60_000 }, () => {
  // Servers of Node 0.5.0 ignore what it sends, since it doesn't name the namespace.
  test("emits, joins, leaves and disconnects on servers of ours", async () => {
    const postgres = await startPostgres();
    const servers = await startServers("postgres", postgres.url);
    const clients = {};
    for (const name of ["a1", "a2"]) clients[name] = await join4(servers[name], name);
    const { a1, a2 } = clients;
    const heard = (event) => [a1, a2].filter(({ got }) => got.some(([name]) => name === event));
    const emitter = new PostgresEmitter(postgres.client);
    await until(() => {
      emitter.emit("all", 1, Buffer.from([7]), "x".repeat(9_000));
      return heard("all").length === 2;
    }, "all hear it");
    assert.deepEqual([...a1.got.find(([name]) => name === "all")[2]], [7]);
    await emitter.in(a1.id).socketsJoin("room");
    await until(async () => (await a2.do("fetch", { rooms: ["room"] })).length === 1, "it has joined");
    emitter.to("room").emit("room");
    await until(() => heard("room").length === 1, "the room hears it");
    emitter.serverSideEmit("note", "from outside");
    for (const client of [a1, a2]) {
      await until(async () => (await client.do("heard")).includes("from outside"), "servers hear it");
    }
    emitter.in(a2.id).disconnectSockets();
    await until(() => !a2.connected, "it is disconnected");
    assert.deepEqual(heard("room"), [a1]);
    a1.disconnect();
    await Promise.all(Object.values(servers).map((server) => server.stop()));
    await postgres.stop();
  });
});
