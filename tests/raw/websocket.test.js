// Sessions over WebSocket, revision 4: docs/protocol.md 3, 8, 9 and 11.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { joined, Socket } from "../lib/raw.js";
import { oursOnly, startServer } from "../lib/server.js";

let server;
before(async () => (server = await startServer(["--max-payload", "100000"])));
after(() => server.stop());

const ECHO = { path: "/engine.io/" };

test("the handshake offers no upgrades, and no compression", async () => {
  const socket = await Socket.session(server);
  assert.match(socket.handshake.sid, /^[A-Za-z0-9_-]{20}$/);
  assert.deepEqual(socket.handshake.upgrades, []);
  assert.equal(socket.handshake.maxPayload, 100_000);
  assert.equal(socket.ws.extensions, "");
  socket.end();
});

test("text and binary come back unchanged; binary has no byte of type", async () => {
  const socket = await Socket.session(server, ECHO);
  const messages = ["4", "4é🦀\0", Buffer.from([1, 2, 3]), Buffer.alloc(0), Buffer.alloc(70_000, 4)];
  socket.send(...messages);
  for (const message of messages) assert.deepEqual(await socket.next(), message);
  socket.end();
});

test("text frames with base64 are always taken", async () => {
  const socket = await Socket.session(server, ECHO);
  socket.send("bAQID");
  assert.deepEqual(await socket.next(), Buffer.from([1, 2, 3]));
  socket.end();
});

test("`b64=1`: binary comes as text", async () => {
  const socket = await Socket.session(server, { ...ECHO, b64: 1 });
  socket.send(Buffer.from([1, 2, 3, 4]), "bAQID");
  assert.equal(await socket.next(), "bAQIDBA==");
  assert.equal(await socket.next(), "bAQID");
  socket.end();
});

test("messages in fragments, with a ping of WebSocket between them", async () => {
  const socket = await Socket.session(server, ECHO);
  const ponged = new Promise((resolve) => socket.ws.on("pong", resolve));
  socket.ws.send("4he", { fin: false });
  socket.ws.ping("x");
  socket.ws.send("l", { fin: false });
  socket.ws.send("lo", { fin: true });
  assert.equal(await socket.next(), "4hello");
  assert.equal(`${await ponged}`, "x");
  socket.end();
});

test("a message of exactly the limit is taken, a longer one is closed with 1009", async () => {
  const { socket, id } = await joined(server);
  const padding = (length) => `42["message","${"x".repeat(length - '42["message",""]'.length)}"]`;
  socket.send(padding(100_000));
  assert.equal((await socket.next()).length, 100_000 + "-back".length);
  socket.send(padding(100_001));
  assert.equal(await socket.close(), 1009);
  await server.entry({ id, event: "disconnect" });
});

test("a message that grows too long by fragments is closed with 1009", async () => {
  const socket = await Socket.session(server, ECHO);
  socket.ws.send("4", { fin: false });
  for (let i = 0; i < 5; i++) socket.ws.send("x".repeat(30_000), { fin: false });
  assert.equal(await socket.close(), 1009);
});

for (const [name, packet] of [
  ["an unknown type", "abc"],
  ["an empty frame", ""],
  ["a type without meaning here", "9x"],
]) {
  test(`${name} closes the connection`, async () => {
    const { socket, id } = await joined(server);
    socket.send(packet);
    await socket.close();
    await server.entry({ id, event: "disconnect", reason: "parse error" });
  });
}

test("packets that mean nothing to a server are ignored, or close the connection", async () => {
  for (const packet of ["0{}", "5", "6"]) {
    const socket = await Socket.session(server, ECHO);
    socket.send(packet, "4x");
    const echoed = await Promise.race([socket.next().catch(() => {}), socket.closed]);
    assert.ok(echoed === "4x" || typeof echoed === "number", `${packet}: ${echoed}`);
    socket.end();
  }
});

test("the client's close frame: `transport close`", async () => {
  const { socket, id } = await joined(server);
  socket.ws.close(1000);
  assert.equal(await socket.close(), 1000);
  await server.entry({ id, event: "disconnect", reason: "transport close" });
});

test("the client's `1`: `transport close`", { skip: oursOnly }, async () => {
  const { socket, id } = await joined(server);
  socket.send("1");
  await socket.close();
  await server.entry({ id, event: "disconnect", reason: "transport close" });
});

test("the server's close: DISCONNECT, then a close frame", async () => {
  const { socket } = await joined(server);
  socket.send('42["message",1]', '42["close-me"]');
  assert.equal(await socket.next(), '42["message-back",1]');
  assert.equal(await socket.next(), "41");
  assert.ok([1000, 1005].includes(await socket.close()));
});

describe("heartbeat", () => {
  test("the server pings; pongs keep the session", async () => {
    const server = await startServer(["--ping-interval", 50, "--ping-timeout", 20_000]);
    const { socket } = await joined(server);
    socket.answersPings = false;
    for (let round = 0; round < 4; round++) {
      assert.equal(await socket.next(), "2");
      socket.send("3");
    }
    socket.end();
    await server.stop();
  });

  test("no pong: the connection is closed", async () => {
    const server = await startServer(["--ping-interval", 50, "--ping-timeout", 100]);
    const { socket, id } = await joined(server);
    socket.answersPings = false;
    assert.equal(await socket.next(), "2");
    await socket.close();
    await server.entry({ id, event: "disconnect", reason: "ping timeout" });
    assert.equal(socket.messages.length, 0, "no second ping before a pong");
    await server.stop();
  });

  test("a message while a pong is awaited gives it its time again, once", async () => {
    // The message has to come in time, and the end is to be seen soon: also on a busy machine.
    const timeout = 2_500;
    const server = await startServer(["--ping-interval", 50, "--ping-timeout", timeout]);
    const { socket } = await joined(server);
    socket.answersPings = false;
    assert.equal(await socket.next(), "2");
    const pinged = performance.now();
    const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    await wait(timeout * 0.6);
    socket.send('42["message",1]');
    assert.equal(await socket.next(), '42["message-back",1]');
    const talking = setInterval(() => socket.send('42["message",2]'), 50);
    await socket.close();
    clearInterval(talking);
    const passed = performance.now() - pinged;
    assert.ok(passed > timeout * 1.5 && passed < timeout * 5, `closed after ${passed} ms`);
    await server.stop();
  });

  test("the client's ping is the wrong direction", async () => {
    const { socket, id } = await joined(server);
    socket.send("2");
    await socket.close();
    await server.entry({ id, event: "disconnect", reason: "transport error" });
  });

  test("a pong too many is tolerated", async () => {
    const { socket } = await joined(server);
    socket.send("3", "3", '42["message"]');
    assert.equal(await socket.next(), '42["message-back"]');
    socket.end();
  });
});

test("a client that reads nothing is closed, not stored up for", { skip: oursOnly }, async () => {
  const { socket, id } = await joined(server);
  socket.ws.pause();
  const ended = server.entry({ id, event: "disconnect" });
  let isOpen = true;
  ended.finally(() => (isOpen = false)).catch(() => {});
  // Large ones, since an emit of a debug build may take some 20 us and a million small ones are due.
  const message = `42["message","${"x".repeat(90_000)}"]`;
  while (isOpen) {
    await new Promise((sent) => socket.ws.send(message, () => setImmediate(sent)));
  }
  await ended;
  socket.end();
});
