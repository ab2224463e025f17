// Whatever a peer sends: the server goes on, and doesn't panic.

import assert from "node:assert/strict";
import { connect } from "node:net";
import { after, before, test } from "node:test";
import { joined, Polling, request, Socket } from "../lib/raw.js";
import { startServer } from "../lib/server.js";
import { within } from "../lib/wait.js";

let server;
before(async () => (server = await startServer(["--max-payload", "10000"])));
after(async () => {
  assert.doesNotMatch(server.stderr, /panicked/);
  assert.equal(await server.stop(), 0);
});

const SEEDS = [
  '42["message",1,"é🦀",{"a":[null,true]}]',
  '42/chat,12["message-with-ack",{"_placeholder":true,"num":0}]',
  '452-/chat,1["message",{"_placeholder":true,"num":0},[{"_placeholder":true,"num":1}]]',
  '40/chat,{"token":"x"}',
  "41/chat,",
  "43/chat,1[]",
  "461-5[{}]",
  "2probe",
  "bAQIDBA==",
  "6:4hello10:b4AQIDBA==",
  "40/chat?token=1&a=%ff,",
];

const SYNTAX = Buffer.from('{}[]",:-/\x1e0123456789');

/** A generator of numbers below `n`: the same ones each time. */
function generator(seed) {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % n;
  };
}

/** A seed with bytes changed, left out, doubled or put in. */
function garbage(random) {
  const bytes = [...Buffer.from(SEEDS[random(SEEDS.length)])];
  for (let i = random(5); i >= 0; i--) {
    const at = random(bytes.length + 1);
    const change = [
      () => (bytes[at] = random(256)),
      () => bytes.splice(at, 1 + random(3)),
      () => bytes.splice(at, 0, ...bytes.slice(0, random(10))),
      () => bytes.splice(at, 0, SYNTAX[random(SYNTAX.length)]),
    ];
    change[random(change.length)]();
  }
  return Buffer.from(bytes);
}

async function assertHealthy() {
  const { socket } = await joined(server);
  socket.send('42["message","still here"]');
  assert.equal(await socket.next(), '42["message-back","still here"]');
  socket.end();
}

for (const eio of [3, 4]) {
  for (const path of ["/socket.io/", "/engine.io/"]) {
    test(`garbage over WebSocket, revision ${eio}, ${path}`, async () => {
      const random = generator(eio);
      for (let i = 0; i < 100; i++) {
        const socket = await Socket.session(server, { eio, path });
        if (eio === 4) socket.send("40");
        for (let j = 0; j < 5; j++) {
          socket.ws.send(garbage(random), { binary: random(4) === 0 }, () => {});
        }
        socket.end();
      }
      await assertHealthy();
    });

    test(`garbage over polling, revision ${eio}, ${path}`, async () => {
      const random = generator(eio + 10);
      for (let i = 0; i < 60; i++) {
        const session = await Polling.open(server, { eio, path });
        for (let j = 0; j < 3; j++) {
          const isBinary = random(3) === 0;
          const type = isBinary ? "application/octet-stream" : "text/plain";
          await session.post(garbage(random), { "content-type": type }).catch(() => {});
        }
      }
      await assertHealthy();
    });
  }
}

test("garbage in the query", async () => {
  const random = generator(5);
  const texts = ["", "4", "3", "polling", "websocket", "\0", "%", "é", "x".repeat(3_000), "0", "a b"];
  const text = () => texts[random(texts.length)];
  for (let i = 0; i < 100; i++) {
    const query = { EIO: text(), transport: text(), sid: text(), b64: text(), j: text(), t: text() };
    for (const key of Object.keys(query)) if (random(3) === 0) delete query[key];
    const method = ["GET", "POST", "OPTIONS", "PUT"][random(4)];
    const { status } = await request(server, { method, query, body: method === "POST" ? "4" : undefined });
    assert.ok(status < 500 || (status === 500 && method !== "GET"), `${status}`);
  }
  await assertHealthy();
});

const WEBSOCKET_REQUEST = [
  "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1",
  "Host: localhost",
  "Connection: Upgrade",
  "Upgrade: websocket",
  "Sec-WebSocket-Version: 13",
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
  "",
  "",
].join("\r\n");

/** Sends bytes over TCP once the WebSocket is open, and waits until the server ends it. */
async function rawFrames(bytes) {
  const socket = connect(server.port, "127.0.0.1");
  socket.on("error", () => {});
  const closed = new Promise((resolve) => socket.on("close", resolve));
  const received = [];
  await new Promise((resolve) => {
    socket.on("data", (chunk) => {
      received.push(chunk);
      if (Buffer.concat(received).includes('"maxPayload"')) resolve();
    });
    socket.write(WEBSOCKET_REQUEST);
  });
  received.length = 0;
  socket.end(bytes);
  await within(closed, () => "the server closes the connection");
  return Buffer.concat(received);
}

for (const [name, bytes, code] of [
  ["a frame without a mask", [0x81, 0x01, 0x34], 1002],
  ["a reserved opcode", [0x83, 0x80, 0, 0, 0, 0], 1002],
  ["reserved bits", [0xc1, 0x80, 0, 0, 0, 0], 1002],
  ["text that isn't UTF-8", [0x81, 0x82, 0, 0, 0, 0, 0x34, 0xff], 1007],
  ["a continuation of nothing", [0x80, 0x80, 0, 0, 0, 0], 1002],
  ["a ping in fragments", [0x09, 0x80, 0, 0, 0, 0], 1002],
  ["a ping that is too long", [0x89, 0xfe, 0, 126, 0, 0, 0, 0], 1002],
  ["a frame of 2^62 bytes", [0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [1009, 1002]],
]) {
  test(`WebSocket: ${name} is closed with ${[code].flat().join(" or ")}`, async () => {
    const frame = await rawFrames(Buffer.from(bytes));
    assert.equal(frame[0], 0x88, "a close frame");
    assert.ok([code].flat().includes(frame.readUInt16BE(2)), `${frame.readUInt16BE(2)}`);
    await assertHealthy();
  });
}
