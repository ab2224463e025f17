// Sockets that leave a namespace and come again, and what a middleware may do meanwhile.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { joined, Socket } from "../lib/raw.js";
import { isReference, oursOnly, startServer } from "../lib/server.js";
import { until } from "../lib/wait.js";

let server;
before(async () => (server = await startServer()));
after(() => server.stop());

describe("a namespace that is left and joined again", () => {
  test("the old socket is gone, rooms and all, before the new one is there", async () => {
    const { socket } = await joined(server);
    for (let i = 0; i < 5; i++) {
      socket.send("40/chat,");
      const { sid: id } = JSON.parse((await socket.next()).slice("40/chat,".length));
      assert.equal(await socket.next(), '42/chat,["auth",{}]');
      socket.send('42/chat,1["join","lobby"]');
      assert.equal(await socket.next(), "43/chat,1[]");
      socket.send("41/chat,");
      const { rooms } = await server.entry({ id, event: "disconnecting" });
      assert.deepEqual(rooms, [id, "lobby"]);
      assert.deepEqual((await server.entry({ id, event: "disconnect" })).rooms, []);
    }
    socket.end();
  });

  // Node takes what comes in one batch for a second CONNECT of the socket that leaves.
  test("in one batch too, with both revisions", { skip: oursOnly }, async () => {
    for (const eio of [4, 3]) {
      const socket = await inMain(eio);
      const join = '42/chat,1["join","lobby"]';
      socket.send("40/chat,", join, "41/chat,", "40/chat,", '42/chat,2["rooms"]');
      const packets = [];
      while (!packets.at(-1)?.startsWith("43/chat,2")) packets.push(await socket.next());
      assert.equal(packets.filter((packet) => packet.startsWith("40/chat,")).length, 2);
      const [rooms] = JSON.parse(packets.at(-1).slice("43/chat,2".length));
      assert.equal(rooms.length, 1, "the room of its own id");
      socket.end();
    }
  });

  test("a connection that has left all is closed in time", { skip: oursOnly }, async () => {
    const server = await startServer(["--connect-timeout", 500]);
    for (const eio of [4, 3]) {
      const socket = await inMain(eio, server);
      socket.send("41");
      await socket.close();
    }
    await server.stop();
  });
});

/** A WebSocket of this revision that has joined `/`. */
async function inMain(eio, at = server) {
  const socket = await Socket.session(at, { eio });
  if (eio === 4) socket.send("40");
  assert.match(await socket.next(), /^40/);
  assert.match(await socket.next(), /^42\["auth",/);
  return socket;
}

describe("a namespace whose middleware takes its time", () => {
  for (const eio of [4, 3]) {
    test(`revision ${eio}: a second CONNECT doesn't close the connection`, async () => {
      const socket = await inMain(eio);
      socket.send("40/slow-auth,");
      await until(() => socket.ws.bufferedAmount === 0, "the first is on its way");
      socket.send("40/slow-auth,");
      assert.match(await socket.next(), /^40\/slow-auth,/);
      socket.send('42["message","still here"]');
      const packets = [];
      while (packets.at(-1) !== '42["message-back","still here"]') packets.push(await socket.next());
      assert.ok(packets.some((packet) => packet.startsWith('42/slow-auth,["auth"')));
      if (!isReference) {
        const answers = packets.filter((packet) => packet.startsWith("40/slow-auth,"));
        assert.equal(answers.length, 0, "Node has let both in");
      }
      socket.end();
    });
  }

  test("the rooms that it joins are entered", async () => {
    const socket = await inMain(4);
    socket.send("40/slow-auth,");
    const { sid: id } = JSON.parse((await socket.next()).slice("40/slow-auth,".length));
    assert.equal(await socket.next(), '42/slow-auth,["auth",{}]');
    socket.send('42/slow-auth,1["rooms"]');
    const [rooms] = JSON.parse((await socket.next()).slice("43/slow-auth,1".length));
    assert.deepEqual(rooms.sort(), ["asked", id].sort());
    socket.send('42/slow-auth,["io-to",["asked"],[],"news",1]');
    assert.equal(await socket.next(), '42/slow-auth,["news",1]');
    socket.end();
  });
});
