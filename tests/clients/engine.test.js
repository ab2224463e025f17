// engine.io-client 3 and 6 against the echo at /engine.io/.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { modes } from "../lib/clients.js";
import { tcpProxy } from "../lib/proxy.js";
import { startServer } from "../lib/server.js";
import { next, Queue, until } from "../lib/wait.js";

const require = createRequire(import.meta.url);
const CLIENTS = [
  ["engine.io-client 3", require("eio3")],
  ["engine.io-client 6", (url, options) => new (require("eio6").Socket)(url, options)],
];

let server;
before(async () => (server = await startServer()));
after(async () => assert.equal(await server.stop(), 0));

/** What came, with the client's binary types as Buffers. */
function received(socket) {
  const messages = new Queue();
  socket.on("message", (data) => messages.push(typeof data === "string" ? data : Buffer.from(data)));
  return messages;
}

for (const [name, connect] of CLIENTS) {
  for (const [mode, transports] of Object.entries(modes)) {
    describe(`${name}, ${mode}`, () => {
      const opening = (options) => connect(server.url, { path: "/engine.io", transports, ...options });
      const opened = async (options) => {
        const socket = opening(options);
        await next(socket, "open");
        if (mode === "upgrade") {
          await until(() => socket.transport.name === "websocket", "the upgrade");
        }
        return socket;
      };

      test("text and binary come back", async () => {
        const socket = await opened();
        const messages = received(socket);
        const sent = ["hello", "é🦀", "4:2", Buffer.from([0, 1, 30, 255]), "x".repeat(100_000)];
        for (const message of sent) socket.send(message);
        for (const message of sent) assert.deepEqual(await messages.next(), message);
        socket.close();
      });

      test("base64 is used where the client asks for it", async () => {
        const socket = await opened({ forceBase64: true });
        const messages = received(socket);
        for (const message of ["a", Buffer.from([1, 2, 3])]) {
          socket.send(message);
          assert.deepEqual(await messages.next(), message);
        }
        socket.close();
      });

      test("1,000 messages keep their order, also across the upgrade", async () => {
        const proxy = await tcpProxy(server.port, { webSocketDelay: 3 });
        const socket = connect(proxy.url, { path: "/engine.io", transports });
        const messages = received(socket);
        await next(socket, "open");
        for (let i = 0; i < 1_000; i++) {
          socket.send(`${i}`);
          if (i % 10 === 0) await new Promise(setImmediate);
        }
        for (let i = 0; i < 1_000; i++) assert.equal(await messages.next(), `${i}`);
        if (mode === "upgrade") {
          await until(() => socket.transport.name === "websocket", "the upgrade");
        }
        socket.close();
        await proxy.close();
      });

      test("heartbeats keep the session; without them it is closed", async () => {
        const server = await startServer(["--ping-interval", 100, "--ping-timeout", 1_000]);
        const socket = connect(server.url, { path: "/engine.io", transports });
        const messages = received(socket);
        await next(socket, "open");
        const isOld = name.endsWith("3");
        for (let round = 0; round < 3; round++) await next(socket, isOld ? "pong" : "ping");
        socket.send("still here");
        assert.equal(await messages.next(), "still here");

        // A client that has fallen silent.
        const closed = next(socket, "close");
        for (const method of ["sendPacket", "_sendPacket", "ping"]) socket[method] = () => {};
        await closed;
        await server.stop();
      });
    });
  }
}
