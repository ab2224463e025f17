// Behind nginx, under `/someapi/`: what operators do to a Socket.IO server, and what clients see of it.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { ask, clients, collect, connected, modes, open, settled, transportOf } from "../lib/clients.js";
import { request, Socket } from "../lib/raw.js";
import { oursOnly, startServer } from "../lib/server.js";
import { next, until } from "../lib/wait.js";
import { startNginx } from "./nginx.js";

const path = "/someapi/socket.io";
const FOREIGN = "https://foreign.example";
const BINARY = { a: Buffer.from([1, 0, 0xff]), list: [Buffer.alloc(0)], text: "é 🦀" };
const LARGE = Buffer.alloc(300_000, 7); // more than nginx keeps in memory of a request

let prefixed;
let stock;
let nginx;
let sockets = [];

before(async () => {
  const heartbeat = ["--ping-interval", 300, "--ping-timeout", 3_000];
  prefixed = await startServer(["--path", path, ...heartbeat]);
  stock = await startServer(heartbeat);
  nginx = await startNginx({ PREFIXED: prefixed.port, STOCK: stock.port });
});
after(async () => {
  assert.equal(await nginx.stop(), 0);
  await prefixed.stop();
  await stock.stop();
});
afterEach(() => {
  sockets.forEach((socket) => socket.disconnect());
  sockets = [];
});

/** A socket to `/chat` behind one of nginx's sites. */
function opened(client, site, options) {
  const socket = open(client, nginx.sites[site], { nsp: "/chat", path, ...options });
  sockets.push(socket);
  return socket;
}

for (const client of [clients.v2, clients.v4]) {
  for (const site of ["kept", "stripped"]) {
    for (const mode of Object.keys(modes)) {
      describe(`${client.name}, prefix ${site}, ${mode}`, () => {
        const connect = (options) => connected(opened(client, site, { mode, ...options }), mode);

        test("connects to /chat with auth", async () => {
          const auth = { token: "a b&c", user: "é" };
          const socket = opened(client, site, { mode, auth });
          assert.deepEqual(await next(socket, "auth"), [auth]);
          await connected(socket, mode);
          const [whoami] = await ask(socket, "whoami");
          const transport = mode === "polling" ? "polling" : "websocket";
          assert.deepEqual(whoami, { id: socket.id, transport, revision: client.revision });
        });

        test("events and acknowledgements carry binary, large too", async () => {
          const socket = await connect();
          const received = collect(socket, "message-back");
          socket.emit("message", "text", BINARY);
          socket.emit("message", LARGE);
          assert.deepEqual(await ask(socket, "message-with-ack", BINARY, LARGE), [BINARY, LARGE]);
          assert.deepEqual(received, [["text", BINARY], [LARGE]]);

          const asked = new Promise((resolve) => {
            socket.once("emit-with-ack", (...args) => {
              args.pop()(BINARY);
              resolve(args);
            });
          });
          socket.emit("emit-with-ack", BINARY, 1);
          assert.deepEqual(await asked, [BINARY, 1], "what the server emitted");
          assert.deepEqual(await next(socket, "emit-with-ack"), [BINARY], "what was acknowledged");
        });

        test("rooms", async () => {
          const [a, b, c] = await Promise.all([connect(), connect(), connect()]);
          await ask(a, "join", "lobby");
          await ask(b, "join", "lobby");
          const received = [a, b, c].map((socket) => collect(socket, "news"));
          a.emit("to", ["lobby"], "news", LARGE);
          await settled(a, b, c);
          assert.deepEqual(received, [[], [[LARGE]], []]);
        });

        test("heartbeats pass", async () => {
          const socket = await connect();
          const event = client.revision === 3 ? "pong" : "ping"; // of the server
          const manager = client.revision === 3 ? socket : socket.io;
          for (let i = 0; i < 2; i++) await next(manager, event);
          await settled(socket);
        });

        test("the server learns that a client has gone", async () => {
          const server = site === "kept" ? prefixed : stock;
          const socket = await connect();
          const [{ id }] = await ask(socket, "whoami");
          socket.io.engine.close();
          await server.entry({ id, event: "disconnect", reason: "transport close" });
        });
      });
    }

    test(`${client.name}, prefix ${site}: nginx is restarted, the client comes back`, async () => {
      const fast = { reconnection: true, reconnectionDelay: 10, reconnectionDelayMax: 50 };
      const socket = await connected(opened(client, site, { mode: "upgrade", ...fast }), "upgrade");
      const left = next(socket, "disconnect");
      await nginx.end();
      assert.equal((await left)[0], "transport close");
      socket.emit("message", "emitted while it was away");
      const back = next(socket, "message-back");
      await nginx.run();
      assert.deepEqual(await back, ["emitted while it was away"]);
      await connected(socket, "upgrade");
    });
  }

  for (const site of ["kept", "stripped", "forwarded"]) {
    test(`${client.name}, ${site}: a page of the public host`, async () => {
      // A browser says so in its POSTs and when it opens a WebSocket.
      const extraHeaders = { origin: nginx.sites[site].url };
      for (const mode of Object.keys(modes)) {
        const socket = await connected(opened(client, site, { mode, extraHeaders }), mode);
        assert.deepEqual(await ask(socket, "message-with-ack", BINARY), [BINARY]);
      }
    });
  }

  describe(`${client.name}, nginx without upgrade headers`, () => {
    test("the upgrade fails, the session stays on polling", async () => {
      const socket = opened(client, "plain", { mode: "upgrade" });
      const failed = new Promise((resolve) => {
        socket.io.on("open", () => socket.io.engine.once("upgradeError", resolve));
      });
      await next(socket, "connect");
      const { id } = socket.io.engine;
      const received = collect(socket, "message-back");
      for (let i = 0; i < 20; i++) socket.emit("message", i, Buffer.from([i]));
      assert.ok((await failed) instanceof Error);
      await until(() => !socket.io.engine.upgrading, "the end of the attempt");
      for (let i = 20; i < 40; i++) socket.emit("message", i, Buffer.from([i]));
      await settled(socket);
      const expected = Array.from({ length: 40 }, (_, i) => [i, Buffer.from([i])]);
      assert.deepEqual(received, expected);
      const [{ transport }] = await ask(socket, "whoami");
      assert.deepEqual([transport, transportOf(socket)], ["polling", "polling"]);
      assert.equal(socket.io.engine.id, id, "the same session");
      assert.ok(socket.connected);
    });

    test("a client that wants WebSocket alone is told that it can't", async () => {
      const socket = opened(client, "plain", { mode: "websocket" });
      await next(socket, "connect_error");
      assert.ok(!socket.connected);
    });
  });
}

const handshake = { path: `${path}/`, EIO: 4, transport: "polling" };

async function assertAllowed(site, origin) {
  const server = nginx.sites[site];
  const { status, text } = await request(server, { query: handshake, headers: { origin } });
  assert.equal(status, 200, text);
  const socket = await Socket.session(server, { path: handshake.path, headers: { origin } });
  socket.end();
}

async function assertRefused(site, origin) {
  const server = nginx.sites[site];
  const polling = await request(server, { query: handshake, headers: { origin } });
  const socket = await Socket.connect(server, { path: handshake.path, headers: { origin } }).refused;
  for (const { status, text } of [polling, socket]) {
    assert.equal(status, 403, text);
    const { code, hint } = JSON.parse(text);
    assert.equal(code, 4);
    assert.ok(hint.includes(origin), `the hint names the origin: ${hint}`);
  }
}

for (const site of ["kept", "stripped", "forwarded"]) {
  test(`${site}: the origin of the public host may connect`, async () => {
    await assertAllowed(site, nginx.sites[site].url);
  });

  test(`${site}: a foreign origin may not`, { skip: oursOnly }, async () => {
    await assertRefused(site, FOREIGN);
    // Nor a page of the server's own address, which isn't the one that was asked for.
    if (site !== "forwarded") await assertRefused(site, stock.url);
  });
}

test("forwarded: the public host by each of its names", async () => {
  const [, port] = nginx.sites.forwarded.host.split(":");
  for (const name of ["localhost", "127.0.0.1"]) {
    const url = `http://${name}:${port}`;
    const { status, text } = await request({ url }, { query: handshake, headers: { origin: url } });
    assert.equal(status, 200, text);
  }
});

test("nginx complains of nothing but what the tests did to it", async () => {
  const log = await nginx.log("error");
  const lines = log.split("\n").filter((line) => /\[(warn|error|crit|alert|emerg)\]/.test(line));
  const expected = /a client request body is buffered to a temporary file|an upstream response is buffered/;
  assert.deepEqual(lines.filter((line) => !expected.test(line)), []);
});
