// What the public Socket.IO protocol suite checks (docs/protocol.md 14 to 17), against the conformance server.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { joined, Polling, request, Socket } from "../lib/raw.js";
import { startConformanceServer } from "../lib/server.js";

let server;
before(async () => (server = await startConformanceServer()));
after(() => server.stop());

const ONE = '{"_placeholder":true,"num":0}';
const TWO = '{"_placeholder":true,"num":1}';

describe("engine, under /socket.io/", () => {
  test("handshake, heartbeat and upgrade", async () => {
    const session = await Polling.open(server);
    const { upgrades, pingInterval, pingTimeout, maxPayload } = session.handshake;
    assert.deepEqual([upgrades, pingInterval, pingTimeout, maxPayload], [["websocket"], 300, 200, 1e6]);
    assert.equal((await session.get()).text, "2");
    await session.send("3");
    const socket = await Socket.open(server, { sid: session.sid });
    socket.send("2probe");
    assert.equal(await socket.next(), "3probe");
    socket.send("5", "40");
    assert.match(await socket.next(), /^40\{"sid":"[^"]+"\}$/);
    socket.end();
  });

  test("refusals", async () => {
    for (const query of [{ EIO: 4 }, { EIO: 4, transport: "abc" }, { EIO: 4, transport: "websocket" }]) {
      assert.equal((await request(server, { query })).status, 400);
    }
  });
});

describe("connect", () => {
  for (const [nsp, prefix] of [["the main namespace", ""], ["another one", "/custom,"]]) {
    test(`${nsp}, with and without auth`, async () => {
      for (const auth of ["", '{"token":"123"}']) {
        const socket = await Socket.session(server);
        socket.send(`40${prefix}${auth}`);
        const connect = await socket.next();
        assert.ok(connect.startsWith(`40${prefix}{`), connect);
        assert.deepEqual(Object.keys(JSON.parse(connect.slice(2 + prefix.length))), ["sid"]);
        assert.equal(await socket.next(), `42${prefix}["auth",${auth || "{}"}]`);
        socket.end();
      }
    });
  }

  test("an unknown namespace", async () => {
    const socket = await Socket.session(server);
    socket.send("40/random");
    assert.equal(await socket.next(), '44/random,{"message":"Invalid namespace"}');
    socket.end();
  });

  test("something invalid", async () => {
    const socket = await Socket.session(server);
    socket.send("4abc");
    await socket.close();
  });

  test("nothing at all", async () => {
    const socket = await Socket.session(server);
    await socket.close();
  });
});

test("disconnect leaves the other namespace, and the heartbeat", async () => {
  const { socket } = await joined(server);
  socket.send("40/custom");
  await socket.upTo('42/custom,["auth",{}]');
  socket.send("41");
  socket.answersPings = false;
  assert.equal(await socket.next(), "2");
  socket.send("3", '42/custom,["message","hello"]');
  assert.equal(await socket.next(), '42/custom,["message-back","hello"]');
  socket.end();
});

describe("messages", () => {
  test("text and binary", async () => {
    const { socket } = await joined(server);
    socket.send('42["message",1,"2",{"3":[true]}]');
    assert.equal(await socket.next(), '42["message-back",1,"2",{"3":[true]}]');
    socket.send(`452-["message",${ONE},${TWO}]`, Buffer.from([1, 2, 3]), Buffer.from([4, 5, 6]));
    assert.equal(await socket.next(), `452-["message-back",${ONE},${TWO}]`);
    assert.deepEqual(await socket.next(), Buffer.from([1, 2, 3]));
    assert.deepEqual(await socket.next(), Buffer.from([4, 5, 6]));
    socket.end();
  });

  test("acknowledgements by the server, text and binary", async () => {
    const { socket } = await joined(server);
    socket.send('42456["message-with-ack",1,"2",{"3":[false]}]');
    assert.equal(await socket.next(), '43456[1,"2",{"3":[false]}]');
    socket.send(`452-789["message-with-ack",${ONE},${TWO}]`, Buffer.from([1]), Buffer.from([2]));
    assert.equal(await socket.next(), `462-789[${ONE},${TWO}]`);
    assert.deepEqual(await socket.next(), Buffer.from([1]));
    assert.deepEqual(await socket.next(), Buffer.from([2]));
    socket.end();
  });

  test("acknowledgements by the client, text and binary", async () => {
    const { socket } = await joined(server);
    const asked = async (event) => {
      const packet = await socket.next();
      const [, before, id, args] = /^(4[25](?:\d+-)?)(\d+)(\[.*)$/.exec(packet);
      assert.equal(before + args, event);
      return id;
    };
    socket.send('42["emit-with-ack",1,"2",{"3":[false]}]');
    const id = await asked('42["emit-with-ack",1,"2",{"3":[false]}]');
    socket.send(`43${id}[1,"2",{"3":[true]}]`);
    assert.equal(await socket.next(), '42["emit-with-ack",1,"2",{"3":[true]}]');

    socket.send(`451-["emit-with-ack",${ONE}]`, Buffer.from([1]));
    const second = await asked(`451-["emit-with-ack",${ONE}]`);
    assert.deepEqual(await socket.next(), Buffer.from([1]));
    socket.send(`461-${second}[${ONE}]`, Buffer.from([2]));
    assert.equal(await socket.next(), `451-["emit-with-ack",${ONE}]`);
    assert.deepEqual(await socket.next(), Buffer.from([2]));
    socket.end();
  });

  test("invalid ones close the connection", async () => {
    for (const packet of ['42{}', '42abc["message-with-ack",1,"2",{"3":[false]}]', "4abc"]) {
      const { socket } = await joined(server);
      socket.send(packet);
      await socket.close();
    }
  });
});
