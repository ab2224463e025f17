// Stock clients with parsers of one's own do all that others do, against a server with the same.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ask, clients, collect, connected, modes, open, settled } from "../lib/clients.js";
import { cbor } from "../lib/cbor.js";
import { plain } from "../lib/parsers.js";
import { oursOnly, startServer } from "../lib/server.js";
import { next, until, within } from "../lib/wait.js";
import { suite } from "./suite.js";

suite({
  ...clients.v4,
  name: `${clients.v4.name} with a parser in CBOR`,
  options: { parser: cbor },
  flags: ["--cbor"],
});

describe("JSON.stringify of the packet", () => {
  const client = { ...clients.v4, options: { parser: plain } };
  let server;

  before(async () => (server = await startServer(["--plain"])));
  after(async () => assert.equal(await server.stop(), 0, "SIGTERM ends the server in order"));

  for (const mode of Object.keys(modes)) {
    test(`events, acknowledgements both ways and namespaces, ${mode}`, async () => {
      const auth = { token: "é" };
      const socket = open(client, server, { mode, auth });
      const [greeted] = await Promise.all([next(socket, "auth"), connected(socket, mode)]);
      assert.deepEqual(greeted, [auth]);
      const args = [1, "2", { three: [null, true, "\u2028🦀"] }, -1.5];
      assert.deepEqual(await ask(socket, "message-with-ack", ...args), args);
      socket.emit("message", ...args);
      assert.deepEqual(await next(socket, "message-back"), args);
      socket.once("emit-with-ack", (value, answer) => answer(value, 2));
      socket.emit("emit-with-ack", 1);
      await next(socket, "emit-with-ack");
      assert.deepEqual(await next(socket, "emit-with-ack"), [1, 2]);
      const custom = socket.io.socket("/custom");
      assert.deepEqual(await ask(await connected(custom, mode), "add", 1, 2), [3]);
      const unknown = socket.io.socket("/unknown");
      const [error] = await next(unknown, "connect_error");
      assert.equal(error.message, "Invalid namespace");
      custom.disconnect();
      await settled(socket);
      socket.disconnect();
    });
  }

  test("a broadcast reaches all, each in its transport", async () => {
    const sockets = await Promise.all(
      Object.keys(modes).map((mode) => connected(open(client, server, { mode }), mode)),
    );
    await Promise.all(sockets.map((socket) => ask(socket, "join", "room")));
    const heard = sockets.map((socket) => collect(socket, "news"));
    for (const number of [1, 2, 3]) sockets[0].emit("io-to", ["room"], [], "news", number);
    await settled(...sockets);
    await until(() => heard.every((list) => list.length === 3), "three events for each");
    for (const list of heard) assert.deepEqual(list, [[1], [2], [3]]);
    sockets.forEach((socket) => socket.disconnect());
  });

  for (const [what, packet] of [
    ["no JSON", "{"],
    ["an unknown type", '{"type":9,"nsp":"/","data":["a"]}'],
    ["an event without a name", '{"type":2,"nsp":"/","data":[]}'],
    ["a packet of the standard parser", '2["a"]'],
  ]) {
    test(`${what} closes the connection`, async () => {
      const socket = await connected(open(client, server));
      const { id } = socket;
      const left = next(socket, "disconnect");
      socket.io.engine.write(packet);
      assert.equal((await left)[0], "transport close");
      const { reason } = await server.entry({ id, event: "disconnect" });
      assert.equal(reason, "forced close");
    });
  }

  test("what it can't write is an error of the emit, and what comes behind it arrives", { skip: oursOnly }, async () => {
    const socket = await connected(open(client, server));
    const heard = collect(socket, "flood");
    socket.emit("flood-binary", 1);
    socket.emit("flood", 1);
    await settled(socket);
    assert.deepEqual(heard, [[0]]);
    await until(() => /packet dropped: the parser can't write it/.test(server.stderr), "the log");
    socket.disconnect();
  });

  test("a client with the standard parser is closed", { skip: oursOnly }, async () => {
    const socket = open(clients.v4, server);
    const lost = new Promise((resolve) => socket.io.on("close", resolve));
    assert.equal(await within(lost, () => "the close"), "transport close");
    socket.disconnect();
  });
});
