// Stock clients that come back to another server, of Node or ours, where all have Node's adapter for
// Redis streams: they are the sockets that they were, and have each event once.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { io as connect } from "sio4";
import { startRedis, startRedisCluster } from "../lib/redis.js";
import { Server, examples } from "../lib/server.js";
import { until } from "../lib/wait.js";

const peer = fileURLToPath(new URL("peer.mjs", import.meta.url));

function start(name, url, seconds = 60) {
  const flags = ["--broker", url, "--wire", "streams", "--name", name, "--recovery", `${seconds}`];
  if (name.startsWith("a")) return new Server(join(examples, "cluster_peer"), flags);
  const client = name === "n1" ? "redis" : "ioredis";
  return new Server(process.execPath, [peer, ...flags, "--client", client]);
}

const brokers = { "a Redis": startRedis, "a Redis Cluster": startRedisCluster };
for (const [broker, startBroker] of Object.entries(brokers)) {
  describe(`recovery over servers of Node and ours, by ${broker}`, { timeout: 120_000 }, () => {
    let redis, servers;

    before(async () => {
      redis = await startBroker();
      servers = Object.fromEntries(["n1", "n2", "a1", "a2"].map((name) => [name, start(name, redis.url)]));
      await Promise.all(Object.values(servers).map((server) => server.listening));
    });

    after(async () => {
      await Promise.all(Object.values(servers).map((server) => server.stop()));
      await redis.stop();
    });

    /** A client of a server, which notes the numbers that it gets. */
    async function client(server) {
      const client = connect(server.url, {
        transports: ["websocket"],
        forceNew: true,
        reconnectionDelay: 50,
        randomizationFactor: 0,
      });
      client.numbers = [];
      client.on("n", (number) => client.numbers.push(number));
      client.on("bytes", (bytes) => client.numbers.push([...bytes]));
      client.do = (op, task = {}) => client.timeout(15_000).emitWithAck("do", { op, ...task });
      client.me = () => client.timeout(15_000).emitWithAck("me");
      await until(() => client.connected, "it is connected");
      return client;
    }

    /** Its connection is lost, and the next one is to another server. */
    async function move(client, to, away = async () => {}) {
      const before = client.id;
      client.io.uri = to.url;
      // Not before it is told to.
      client.io.reconnection(false);
      client.io.engine.close();
      await until(() => !client.connected, "it has noticed");
      await away(before);
      client.io.reconnection(true);
      client.connect();
      await until(() => client.connected, "it is back");
      return before;
    }

    let next = 0;

    /** Numbers that a client makes its server emit, one behind the other. */
    async function emit(by, count, task = {}) {
      const numbers = [];
      for (let index = 0; index < count; index++) {
        const number = ++next;
        await by.do("emit", { event: "n", arg: number, ...task });
        numbers.push(number);
      }
      return numbers;
    }

    for (const [from, to] of [
      ["n1", "n2"],
      ["n1", "a1"],
      ["n2", "a2"],
      ["a1", "n1"],
      ["a2", "n2"],
      ["a1", "a2"],
      ["a1", "a1"],
    ]) {
      for (const by of ["n1", "a1", "a2", "n2"]) {
        test(`from ${from} to ${to}, while ${by} emits`, async () => {
          const room = `room ${from} ${to} ${by}`;
          const publisher = await client(servers[by]);
          const mover = await client(servers[from]);
          await publisher.do("join", { rooms: [mover.id], join: [room] });
          const sent = await emit(publisher, 3, { rooms: [room] });
          await until(() => mover.numbers.length === 3, "it has the first");
          const id = await move(mover, servers[to], async (id) => {
            sent.push(...(await emit(publisher, 3, { rooms: [room] })));
            await emit(publisher, 2, { rooms: ["elsewhere"] });
            await emit(publisher, 1, { except: [room] });
            sent.push(...(await emit(publisher, 1, { rooms: [id, "elsewhere"] })));
            await publisher.do("emit", { event: "bytes", bytes: [0, 255, 7], rooms: [room] });
            sent.push([0, 255, 7]);
          });
          assert.equal(mover.recovered, true);
          assert.equal(mover.id, id);
          const me = await mover.me();
          assert.equal(me.recovered, true);
          assert.equal(me.at, from, "its data has come with it");
          assert.ok(me.rooms.includes(room) && me.rooms.includes(id), `${me.rooms}`);
          sent.push(...(await emit(publisher, 2, { rooms: [room] })));
          sent.push(...(await emit(publisher, 1, { rooms: [id] })));
          await until(() => mover.numbers.length >= sent.length, "it has all");
          assert.deepEqual(mover.numbers, sent);
          publisher.disconnect();
          mover.disconnect();
        });
      }
    }

    test("a client goes round all servers, and misses and doubles nothing", async () => {
      const publisher = await client(servers.a1);
      const mover = await client(servers.n1);
      const { id } = mover;
      await publisher.do("join", { rooms: [id], join: ["round"] });
      const sent = await emit(publisher, 1, { rooms: ["round"] });
      await until(() => mover.numbers.length === 1, "it has the first");
      for (const to of ["a1", "n2", "a2", "n1", "a2", "a1", "n1"]) {
        // Node loses or doubles what comes while it lets a client in again: it reads what was missed
        // first, and puts the socket into its rooms later.
        let ends = to.startsWith("n");
        const emits = (async () => {
          while (!ends) sent.push(...(await emit(publisher, 1, { rooms: ["round"] })));
        })();
        await move(mover, servers[to], async () => {
          if (ends) sent.push(...(await emit(publisher, 3, { rooms: ["round"] })));
        });
        ends = true;
        await emits;
        assert.equal(mover.recovered, true, `recovered at ${to}`);
        assert.equal(mover.id, id);
        await until(() => mover.numbers.length >= sent.length, "it has all");
        assert.deepEqual(mover.numbers, sent);
      }
      publisher.disconnect();
      mover.disconnect();
    });

    test("a session is resumed once, and begins anew after that", async () => {
      for (const [from, to] of [["a1", "n1"], ["n1", "a1"]]) {
        const mover = await client(servers[from]);
        await mover.do("emit", { event: "n", arg: 1 });
        await until(() => mover.numbers.length > 0, "it has an event");
        const auth = { pid: mover._pid, offset: mover._lastOffset };
        mover.disconnect();
        // It has been ended on purpose.
        const again = connect(servers[to].url, { transports: ["websocket"], forceNew: true });
        again._pid = auth.pid;
        again._lastOffset = auth.offset;
        await until(() => again.connected, "it is connected");
        assert.equal(again.recovered, false);
        again.disconnect();
      }
    });

    test("whose time is up begins anew", async () => {
      const short = start("a3", redis.url, 1);
      await short.listening;
      for (const [from, to] of [[short, servers.n1], [short, servers.a1], [short, short]]) {
        const mover = await client(from);
        await mover.do("emit", { event: "n", arg: 1, rooms: [mover.id] });
        await until(() => mover.numbers.length > 0, "it has an event");
        await move(mover, to, () => new Promise((done) => setTimeout(done, 1_500)));
        assert.equal(mover.recovered, false);
        mover.disconnect();
      }
      await short.stop();
    });

    test("a server that closes leaves its clients to the others", async () => {
      const leaving = start("a4", redis.url);
      await leaving.listening;
      const publisher = await client(servers.n1);
      const movers = [await client(leaving), await client(leaving)];
      const ids = movers.map(({ id }) => id);
      await publisher.do("join", { rooms: ids, join: ["left"] });
      const sent = await emit(publisher, 1, { rooms: ["left"] });
      await until(() => movers.every(({ numbers }) => numbers.length === 1), "both have it");
      for (const mover of movers) mover.io.reconnection(false);
      await leaving.stop();
      await until(() => movers.every(({ connected }) => !connected), "both have noticed");
      sent.push(...(await emit(publisher, 2, { rooms: ["left"] })));
      for (const [index, to] of [servers.n2, servers.a2].entries()) {
        const mover = movers[index];
        mover.io.uri = to.url;
        mover.connect();
        await until(() => mover.connected, "it is back");
        assert.equal(mover.recovered, true);
        assert.equal(mover.id, ids[index]);
        await until(() => mover.numbers.length >= sent.length, "it has all");
        assert.deepEqual(mover.numbers, sent);
        mover.disconnect();
      }
      publisher.disconnect();
    });
  });
}
