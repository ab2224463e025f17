// Three servers of ours behind a proxy that sends each request to the next one: stock clients see
// nothing of it.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { AdaptivePolling, Streaming } from "../../packages/transports/dist/index.js";
import { ask, clients, collect, connected, modes, open, transportOf } from "../lib/clients.js";
import { startRedis } from "../lib/redis.js";
import { Server, examples } from "../lib/server.js";
import { until } from "../lib/wait.js";
import { startProxy } from "./proxies.js";

const WAYS = { one: "listener", two: "axum", three: "per-core" };
const BINARY = { a: Buffer.from([1, 0, 0xff]), list: [Buffer.alloc(0)], text: "é" };
const LARGE = Buffer.alloc(700_000, 7);

function start(redis, name) {
  const args = ["--redis", redis.url, "--serve", WAYS[name], "--name", name];
  return new Server(join(examples, "passing_peer"), args);
}

async function startServers(redis) {
  const servers = Object.keys(WAYS).map((name) => start(redis, name));
  await Promise.all(servers.map((server) => server.listening));
  return servers;
}

/** What each server says of itself, asked by a client of its own. */
function stats(servers) {
  return Promise.all(
    servers.map(async (server) => {
      const client = await connected(open(clients.v4, server));
      const [there] = await ask(client, "where");
      client.close();
      return there;
    }),
  );
}

/** Waits until each of these knows so many. */
async function known(servers, count = servers.length) {
  await until(async () => {
    const all = await stats(servers);
    return all.every((server) => server.servers === count);
  }, `${count} servers know each other`);
}

const passedOn = async (servers) =>
  (await stats(servers)).reduce((sum, server) => sum + server.passedOn, 0);

for (const name of ["haproxy", "nginx"]) {
  describe(`three servers behind ${name} without affinity`, { timeout: 180_000 }, () => {
    let redis, servers, proxy;
    let sockets = [];

    before(async () => {
      redis = await startRedis();
      servers = await startServers(redis);
      await known(servers);
      proxy = await startProxy(name, servers);
    });
    afterEach(() => {
      sockets.forEach((socket) => socket.close());
      sockets = [];
    });
    after(async () => {
      await proxy?.stop();
      await Promise.all((servers ?? []).map((server) => server.stop()));
      await redis?.stop();
    });

    function client(version, options) {
      const socket = open(version, proxy, options);
      socket.losses = collect(socket, "disconnect");
      sockets.push(socket);
      return socket;
    }

    for (const version of Object.values(clients)) {
      for (const mode of Object.keys(modes)) {
        test(`${version.name}, ${mode}`, async () => {
          const before = await passedOn(servers);
          const [one, two] = [client(version, { mode }), client(version, { mode })];
          await Promise.all([one, two].map((socket) => connected(socket, mode)));
          const room = `${version.name} ${mode}`;
          for (const socket of [one, two]) await ask(socket, "join", room);
          const heard = collect(two, "all");
          for (let i = 0; i < 10; i++) {
            assert.deepEqual(await ask(one, "echo", i, "text"), [i, "text"]);
            one.emit("all", room, i);
          }
          await until(() => heard.length === 10, "what the other has said");
          assert.deepEqual(heard.flat(), [...Array(10).keys()]);
          if (!version.isV1) {
            const [echo] = await ask(one, "echo", BINARY);
            assert.deepEqual(echo, BINARY);
            const [large] = await ask(one, "echo", LARGE);
            assert.ok(LARGE.equals(large));
          }
          assert.deepEqual([...one.losses, ...two.losses], []);
          // A WebSocket without polling before it stays where it was opened.
          const hops = (await passedOn(servers)) - before;
          assert.ok(hops > 0 || mode === "websocket", "requests came to other servers");
        });
      }
    }

    test("@antiphon/transports: streaming", async () => {
      const before = await passedOn(servers);
      const socket = client(clients.v4, { transports: [AdaptivePolling, Streaming] });
      await connected(socket, "polling");
      await until(() => transportOf(socket) === "streaming", "the upgrade to streaming");
      await ask(socket, "join", "stream");
      const heard = collect(socket, "all");
      for (let i = 0; i < 10; i++) {
        assert.deepEqual(await ask(socket, "echo", i, BINARY), [i, BINARY]);
        socket.emit("all", "stream", i);
      }
      await until(() => heard.length === 10, "the broadcasts");
      assert.equal(transportOf(socket), "streaming");
      assert.deepEqual(socket.losses, []);
      assert.ok((await passedOn(servers)) > before);
    });

    test("a hundred clients", async () => {
      const all = [];
      for (let i = 0; i < 100; i++) {
        const mode = Object.keys(modes)[i % 3];
        all.push({ mode, socket: client(clients.v4, { mode }) });
      }
      await Promise.all(all.map(({ socket, mode }) => connected(socket, mode)));
      const heard = all.map(({ socket }) => collect(socket, "all"));
      await Promise.all(all.map(({ socket }) => ask(socket, "join", "hundred")));
      await Promise.all(
        all.map(async ({ socket }, i) => {
          assert.deepEqual(await ask(socket, "echo", i), [i]);
          if (i < 10) assert.deepEqual(await ask(socket, "all", "hundred", i), [true]);
        }),
      );
      await until(() => heard.every((events) => events.length === 10), "all broadcasts");
      const expected = [...Array(10).keys()];
      for (const events of heard) assert.deepEqual(events.flat().sort((a, b) => a - b), expected);
      for (const { socket } of all) assert.deepEqual(socket.losses, []);
    });
  });

  describe(`servers behind ${name} come and go`, { timeout: 180_000 }, () => {
    let redis, servers, proxy;
    const sockets = [];

    before(async () => {
      redis = await startRedis();
      servers = await startServers(redis);
      await known(servers);
      proxy = await startProxy(name, servers);
      for (let i = 0; i < 30; i++) {
        const mode = Object.keys(modes)[i % 3];
        const options = { mode, reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 300 };
        const socket = open(clients.v4, proxy, options);
        socket.heard = collect(socket, "all");
        socket.on("connect", () => socket.emit("join", "all"));
        sockets.push(socket);
      }
      await Promise.all(sockets.map((socket) => connected(socket, "polling")));
    });
    after(async () => {
      sockets.forEach((socket) => socket.close());
      await proxy?.stop();
      await Promise.all((servers ?? []).map((server) => server.stop()));
      await redis?.stop();
    });

    /** All clients are there, can ask, and hear what one of them says. */
    async function well(what) {
      await until(() => sockets.every((socket) => socket.connected), `all are back: ${what}`, 30_000);
      await until(
        async () => {
          sockets[0].emit("all", "all", what);
          await new Promise((done) => setTimeout(done, 100));
          return sockets.every((socket) => socket.connected && socket.heard.some(([said]) => said === what));
        },
        `all hear ${what}`,
        30_000,
      );
      for (const socket of sockets) assert.deepEqual(await ask(socket, "echo", what), [what]);
    }

    test("one that is killed", async () => {
      await well("before");
      await servers[0].kill();
      await well("killed");
    });

    test("one that closes in order", async () => {
      assert.equal(await servers[1].stop(), 0);
      await well("closed");
      assert.ok(servers[2].isRunning);
    });
  });
}
