// Three servers of ours with recovery behind a proxy that sends each request to the next one, of which
// some are killed, end and come again: stock clients stay the sockets that they are, and get each
// event once and in order.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ask, clients, collect, connected, modes, open } from "../lib/clients.js";
import { startRedis } from "../lib/redis.js";
import { Server, examples } from "../lib/server.js";
import { until } from "../lib/wait.js";
import { startProxy } from "./proxies.js";

describe("clients of servers that come and go", { timeout: 180_000 }, () => {
  let redis, servers, proxy, publisher;
  const wanderers = [];

  const start = (name) =>
    new Server(join(examples, "passing_peer"), [
      ...["--redis", redis.url, "--serve", "listener", "--name", name, "--recovery", "60"],
    ]);

  before(async () => {
    redis = await startRedis();
    servers = ["one", "two", "three"].map(start);
    await Promise.all(servers.map((server) => server.listening));
    publisher = await connected(open(clients.v4, servers[2], { mode: "websocket" }));
    await until(async () => (await ask(publisher, "where"))[0].servers === 3, "they know each other");
    proxy = await startProxy("haproxy", servers);
    for (let i = 0; i < 12; i++) {
      const mode = Object.keys(modes)[i % 3];
      const options = { mode, reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 300 };
      const socket = open(clients.v4, proxy, options);
      socket.heard = collect(socket, "all");
      socket.connects = [];
      socket.on("connect", () => socket.connects.push([socket.id, socket.recovered]));
      wanderers.push(socket);
    }
    await Promise.all(wanderers.map((socket) => connected(socket, "polling")));
    await Promise.all(wanderers.map((socket) => ask(socket, "join", "all")));
  });

  after(async () => {
    [...wanderers, publisher].forEach((socket) => socket?.close());
    await proxy?.stop();
    await Promise.all((servers ?? []).map((server) => server.stop()));
    await redis?.stop();
  });

  let emitted = 0;
  const emit = () => ask(publisher, "all", "all", emitted++);

  /** Emits until this has been done and a client has come back for it; then all have all of it. */
  async function through(what, work) {
    const before = wanderers.map(({ connects }) => connects.length);
    const moved = () => wanderers.filter(({ connects }, i) => connects.length > before[i]);
    let ends = false;
    const emits = (async () => {
      while (!ends) {
        await emit();
        await new Promise((done) => setTimeout(done, 5));
      }
    })();
    await work();
    await until(() => moved().length > 0, `clients have moved: ${what}`);
    await until(() => wanderers.every(({ connected }) => connected), `all are there: ${what}`, 30_000);
    ends = true;
    await emits;
    const all = [...Array(emitted).keys()];
    await until(() => wanderers.every(({ heard }) => heard.length >= all.length), `all came: ${what}`);
    // The offset is an argument behind the others.
    for (const { heard } of wanderers) assert.deepEqual(heard.map(([number]) => number), all);
    for (const { connects } of wanderers) {
      const ids = new Set(connects.map(([id]) => id));
      assert.equal(ids.size, 1, "it is the socket that it was");
      assert.ok(connects.slice(1).every(([, recovered]) => recovered));
    }
  }

  test("one that is killed", () => through("killed", () => servers[0].kill()));

  test("one that ends in order", () =>
    through("ended", async () => assert.equal(await servers[1].stop(), 0)));

  test("connections that break", async () => {
    await through("broken", async () => wanderers.forEach((socket) => socket.io.engine.close()));
  });
});
