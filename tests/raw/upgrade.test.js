// The upgrade from polling to WebSocket: docs/protocol.md 10.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Polling, SEPARATOR, Socket } from "../lib/raw.js";
import { startServer } from "../lib/server.js";
import { until } from "../lib/wait.js";

let server;
before(async () => (server = await startServer()));
after(() => server.stop());

const ECHO = { path: "/engine.io/" };

async function echoes(session, text) {
  await session.send(text);
  let packet;
  do packet = await session.next();
  while (packet === "6"); // of an upgrade that was under way
  assert.equal(packet, text);
}

/** A polling session and the WebSocket that probes for it. */
async function probing({ packets = ["2probe"], server: at = server, ...options } = ECHO) {
  const session = await Polling.open(at, options);
  const socket = await Socket.open(at, { ...options, sid: session.sid });
  if (packets.length > 0) {
    socket.send(...packets);
    assert.equal(await socket.next(), "3probe");
  }
  return { session, socket };
}

/** The same, upgraded. */
async function upgraded(options) {
  const { session, socket } = await probing(options);
  const poll = session.get();
  socket.send("5");
  const { status, text } = await poll;
  if (status === 200) assert.equal(text, "6");
  return { session, socket };
}

describe("an upgrade that succeeds", () => {
  test("the held poll is answered with a noop", async () => {
    const { session, socket } = await probing();
    assert.equal((await session.get()).text, "6");
    assert.equal((await session.get()).text, "6", "as is every later one");
    socket.send("5", "4hello");
    assert.equal(await socket.next(), "4hello");
    socket.send(Buffer.from([1, 2]));
    assert.deepEqual(await socket.next(), Buffer.from([1, 2]));
    socket.end();
  });

  test("a poll that was held before the probe is answered too", async () => {
    const session = await Polling.open(server, ECHO);
    const poll = session.get();
    const socket = await Socket.open(server, { ...ECHO, sid: session.sid });
    socket.send("2probe");
    assert.equal(await socket.next(), "3probe");
    assert.equal((await poll).text, "6");
    socket.send("5", "4x");
    assert.equal(await socket.next(), "4x");
    socket.end();
  });

  test("afterwards, polling gets code 3", async () => {
    const { session, socket } = await upgraded();
    socket.send("4x");
    assert.equal(await socket.next(), "4x");
    for (const answer of [await session.get(), await session.post("4x")]) {
      assert.equal(answer.status, 400);
      assert.equal(answer.json.code, 3);
    }
    socket.send("4still here");
    assert.equal(await socket.next(), "4still here");
    socket.end();
  });

  test("afterwards, the end of the WebSocket is the end of the session", async () => {
    const { session, socket } = await upgraded();
    socket.ws.close();
    await socket.close();
    await session.gone();
  });

  test("what is emitted during the probe arrives once and in order", async () => {
    const session = await Polling.open(server);
    await session.send("40");
    await session.upTo('42["auth",{}]');
    const socket = await Socket.open(server, { sid: session.sid });
    await session.send('42["flood",5]');
    socket.send("2probe");
    assert.equal(await socket.next(), "3probe");
    await session.send('42["flood-binary",5]', '42["flood",5]');
    const packets = (await session.get()).text.split(SEPARATOR);
    // The client pauses now: it waits for its poll, and sends `5`.
    socket.send("5", '42["flood",5]', '42["message"]');
    for (;;) {
      const message = await socket.next();
      packets.push(typeof message === "string" ? message : `b${message.toString("base64")}`);
      if (message === '42["message-back"]') break;
    }
    const flood = Array.from({ length: 5 }, (_, i) => `42["flood",${i}]`);
    const placeholders = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}';
    const binary = Array.from({ length: 5 }, (_, i) => [
      `452-["flood",${i},${placeholders}]`,
      `b${Buffer.from([i]).toString("base64")}`,
      `b${Buffer.from([i, 1]).toString("base64")}`,
    ]).flat();
    const expected = [...flood, ...binary, ...flood, ...flood, '42["message-back"]'];
    assert.deepEqual(packets.filter((packet) => packet !== "6"), expected);
    socket.end();
  });
});

describe("an upgrade that fails leaves the session on polling", () => {
  for (const [name, packets] of [
    ["nothing but a wrong packet", ["4x"]],
    ["an unknown type", ["abc"]],
    ["a plain ping", ["2"]],
    ["another probe", ["2probe?"]],
    ["binary", [Buffer.from([1])]],
  ]) {
    test(`probe: ${name}`, async () => {
      const { session, socket } = await probing({ ...ECHO, packets: [] });
      socket.send(...packets);
      await socket.close();
      await echoes(session, "4polling goes on");
    });
  }

  test("after the probe: another packet than `5`", async () => {
    const { session, socket } = await probing();
    socket.send("4x");
    await socket.close();
    await echoes(session, "4polling goes on");
  });

  test("the probe ends before `5`, and a second upgrade succeeds", async () => {
    const { session, socket } = await probing();
    socket.ws.close();
    await socket.close();
    await echoes(session, "4polling goes on");
    const second = await Socket.open(server, { ...ECHO, sid: session.sid });
    await until(async () => {
      // The server may still be busy with the end of the first.
      second.send("2probe");
      return (await second.next()) === "3probe";
    }, "the probe is answered");
    second.send("5", "4x");
    assert.equal(await second.next(), "4x");
    second.end();
  });

  test("the probe is cut off", async () => {
    const { session, socket } = await probing();
    socket.ws.terminate();
    await echoes(session, "4polling goes on");
  });

  for (const [name, packets] of [
    ["no probe", []],
    ["no `5`", ["2probe"]],
  ]) {
    test(`upgrade_timeout: ${name}`, async () => {
      const server = await startServer(["--upgrade-timeout", 500]);
      const { session, socket } = await probing({ ...ECHO, server, packets });
      await socket.close();
      await echoes(session, "4polling goes on");
      const poll = session.get();
      await session.send("4held again");
      assert.equal((await poll).text, "4held again");
      await server.stop();
    });
  }
});

describe("a second WebSocket for the session", () => {
  test("during an upgrade: it is closed, the first goes on", async () => {
    const { session, socket } = await probing();
    const second = Socket.connect(server, { ...ECHO, sid: session.sid });
    await second.close();
    socket.send("5", "4x");
    assert.equal(await socket.next(), "4x");
    socket.end();
  });

  test("after an upgrade: it is closed, the first goes on", async () => {
    const { session, socket } = await upgraded();
    const second = Socket.connect(server, { ...ECHO, sid: session.sid });
    await second.close();
    socket.send("4x");
    assert.equal(await socket.next(), "4x");
    socket.end();
  });

  test("of a session that began with WebSocket: it is closed, the first goes on", async () => {
    const server = await startServer(["--upgrade-timeout", 500]);
    const socket = await Socket.session(server, ECHO);
    const second = Socket.connect(server, { ...ECHO, sid: socket.handshake.sid });
    await second.close();
    socket.send("4x");
    assert.equal(await socket.next(), "4x");
    socket.end();
    await server.stop();
  });
});

test("a session that ends takes its probe with it", async () => {
  const { session, socket } = await probing();
  await session.send("1");
  await socket.close();
  await session.gone();
});

test("the heartbeat goes on across the upgrade", async () => {
  const server = await startServer(["--ping-interval", 50, "--ping-timeout", 20_000]);
  const session = await Polling.open(server, ECHO);
  assert.equal((await session.get()).text, "2");
  await session.send("3");
  const socket = await Socket.open(server, { ...ECHO, sid: session.sid });
  socket.answersPings = false;
  socket.send("2probe");
  assert.equal(await socket.next(), "3probe");
  const { text } = await session.get();
  if (text.split(SEPARATOR).includes("2")) socket.send("5", "3");
  else socket.send("5");
  for (let round = 0; round < 2; round++) {
    assert.equal(await socket.next(), "2");
    socket.send("3");
  }
  socket.end();
  await server.stop();
});
