import assert from "node:assert/strict";
import { test } from "node:test";
import { AdaptivePolling, Streaming } from "../dist/index.js";
import { known } from "../dist/lessons.js";
import { Network, OPEN, open } from "./scripted.js";

const SERVER = "http://server.test/socket.io/";
// A session on streaming can only go on to WebSocket.
const OPENED = OPEN.replace(',"streaming"', "");
const QUICK = { transportOptions: { streaming: { probeDelay: 0, probeTimeout: 60, silence: 60 } } };

async function opened(t, options) {
  const network = new Network(t);
  const engine = open(t, [Streaming], options);
  const first = await network.next();
  const stream = first.stream().write(`id: 0\n\ndata: 0${OPENED}\n\n`);
  await engine.event("open");
  return { network, engine, first, stream };
}

/** A session on polling whose upgrade to streaming has begun. */
async function probing(t, options = QUICK) {
  const network = new Network(t);
  const engine = open(t, [AdaptivePolling, Streaming], options);
  (await network.next()).answer("0" + OPEN);
  await engine.event("open");
  const poll = await network.next();
  const probe = await network.next();
  assert.deepEqual([probe.query.transport, probe.query.sid, probe.query["antiphon-offset"]], ["streaming", "S", undefined]);
  return { network, engine, poll, probe };
}

test("as the first transport it opens the session", async (t) => {
  const { engine, first, stream } = await opened(t);
  assert.deepEqual([first.query.transport, first.query.sid], ["streaming", undefined]);
  stream.write("data: 4a\n\nevent: escaped\ndata: 4%25%0A\n\ndata: 6\n\ndata: bAQI=\n\n");
  await engine.until(() => engine.received.length === 3);
  assert.deepEqual(engine.received, ["a", "%\n", Buffer.from([1, 2])]);
});

test("a response that is cut, or ends, is continued with the offset of what has come", async (t) => {
  const { network, engine, stream } = await opened(t);
  stream.write("data: 4a\n\ndata: 6\n\ndata: 4b\n\ndata: 4lost");
  await engine.until(() => engine.received.length === 2);
  stream.cut();
  const second = await network.next();
  assert.deepEqual([second.query.sid, second.query["antiphon-offset"]], ["S", "3"]);
  const next = second.stream().write("id: 3\n\ndata: 4c\n\n");
  await engine.until(() => engine.received.length === 3);
  next.end();
  assert.equal((await network.next()).query["antiphon-offset"], "4");
  assert.deepEqual(engine.received, ["a", "b", "c"]);
});

test("what comes again is dropped; what is missing is an error", async (t) => {
  const { network, engine, stream } = await opened(t);
  stream.write("data: 4a\n\ndata: 4b\n\n");
  await engine.until(() => engine.received.length === 2);
  stream.cut();
  const next = (await network.next()).stream().write("id: 1\n\ndata: 4a\n\ndata: 4b\n\ndata: 4c\n\n");
  await engine.until(() => engine.received.length === 3);
  assert.deepEqual(engine.received, ["a", "b", "c"]);
  next.write("id: 9\n\ndata: 4z\n\n");
  const [error] = await engine.event("error");
  assert.match(error.message, /missing/);
  assert.equal(engine.received.length, 3);
});

test("three responses in a row that brought nothing: it gives up, and says why next time", async (t) => {
  const { network, engine, stream } = await opened(t);
  stream.cut();
  for (let i = 0; i < 3; i++) {
    assert.equal(engine.state, "open");
    (await network.next()).stream().write("id: 1\n\n").end();
  }
  const [error] = await engine.event("error");
  assert.match(error.message, /again and again/);
  assert.equal(known(SERVER).streamingFails, true);
});

test("a response that brought something lets it try again", async (t) => {
  const { network, engine, stream } = await opened(t);
  stream.cut();
  for (let i = 0; i < 8; i++) {
    const next = (await network.next()).stream();
    if (i % 2) next.write(`id: ${engine.received.length + 1}\n\ndata: 4x\n\n`);
    await engine.until(() => engine.received.length === Math.floor((i + 1) / 2));
    next.end();
  }
  assert.equal(engine.state, "open");
});

test("a server that is away is given up, and says nothing of the way", async (t) => {
  const { network, engine, stream } = await opened(t);
  stream.cut();
  for (let i = 0; i < 3; i++) (await network.next()).cut();
  await engine.event("error");
  assert.equal(known(SERVER).streamingFails, undefined);
});

test("silence for too long: the response is lost, and asked for again", async (t) => {
  const { network, first } = await opened(t, QUICK);
  const again = await network.next();
  assert.equal(again.query["antiphon-offset"], "1");
  assert.equal(first.signal.aborted, true);
});

test("no event stream: an error at once", async (t) => {
  const network = new Network(t);
  const engine = open(t, [Streaming]);
  (await network.next()).answer("<html>", 200);
  const [error] = await engine.event("error");
  assert.equal(error.description, "not an event stream");
});

test("an upgrade: probe, answer, pause of the polling, takeover with a new offset", async (t) => {
  const { network, engine, poll, probe } = await probing(t);
  const stream = probe.stream().write(":\n\n");
  const ask = await network.next("POST");
  assert.deepEqual([ask.body, ask.query.transport], ["2probe", "streaming"]);
  stream.write("data: 3probe\n\n"); // before the POST is answered
  ask.answer("ok");
  poll.answer("4a");
  const take = await network.next("POST");
  assert.equal(take.body, "5");
  engine.socket.send("up");
  take.answer("ok");
  stream.write("id: 0\n\ndata: 4b\n\n");
  await engine.until(() => engine.received.length === 2);
  assert.deepEqual(engine.received, ["a", "b"]);
  assert.equal(engine.transport.name, "streaming");
  assert.equal((await network.next("POST")).body, "4up");
  stream.cut();
  const again = await network.next();
  assert.deepEqual([again.query.transport, again.query["antiphon-offset"]], ["streaming", "1"]);
});

test("a stream that is cut during the takeover is asked for again after it", async (t) => {
  const { network, engine, poll, probe } = await probing(t);
  const stream = probe.stream().write(":\n\n");
  (await network.next("POST")).answer("ok");
  stream.write("data: 3probe\n\n");
  poll.answer("6");
  const take = await network.next("POST");
  stream.cut();
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(network.requests.length, 0, "no request before the takeover is known");
  take.answer("ok");
  const again = await network.next();
  assert.equal(again.query["antiphon-offset"], "0");
  again.stream().write("id: 0\n\ndata: 4b\n\n");
  await engine.until(() => engine.received.length === 1);
});

test("a proxy that holds responses back: the probe fails, the session stays on polling, and it isn't tried again", async (t) => {
  for (const begins of [false, true]) {
    const { engine, probe, poll, network } = await probing(t);
    if (begins) {
      probe.stream().write(":\n\n");
      (await network.next("POST")).answer("ok");
    }
    const [error] = await engine.event("upgradeError");
    assert.match(error.message, /held back/);
    assert.equal(probe.signal.aborted, true);
    poll.answer("4a");
    await engine.until(() => engine.received.length === 1);
    assert.equal(engine.transport.name, "polling");
    assert.equal(known(SERVER).streamingFails, true);
    assert.ok(!network.requests.some(({ body }) => body === "1"), "no goodbye");
    engine.socket.close();
  }
});

test("a probe that is refused leaves the session alone, and teaches nothing", async (t) => {
  const { engine, probe } = await probing(t);
  probe.answer('{"code":0,"message":"Transport unknown"}', 400);
  await engine.event("upgradeError");
  assert.equal(engine.state, "open");
  assert.equal(known(SERVER).streamingFails, undefined);
});

test("if polls can't wait, a stream isn't tried", async (t) => {
  const { learn } = await import("../dist/lessons.js");
  const network = new Network(t);
  const engine = open(t, [AdaptivePolling, Streaming], QUICK);
  learn(SERVER, { pollWait: 500 });
  (await network.next()).answer("0" + OPEN);
  const [error] = await engine.event("upgradeError");
  assert.match(error.message, /has failed on this way/);
  assert.ok(network.requests.every(({ query }) => query.transport === "polling"));
});

test("pausing waits until the server has ended the response", async (t) => {
  const { network, engine, stream } = await opened(t);
  let isPaused = false;
  const paused = new Promise((resolve) => engine.transport.pause(() => resolve((isPaused = true))));
  stream.write("data: 4a\n\n");
  await engine.until(() => engine.received.length === 1);
  stream.cut();
  const again = (await network.next()).stream().write("id: 2\n\ndata: 4b\n\n");
  await engine.until(() => engine.received.length === 2);
  assert.equal(isPaused, false);
  again.end();
  await paused;
  assert.equal(network.requests.length, 0);
});

test("closing says goodbye and lets go of the stream", async (t) => {
  const { network, engine, first } = await opened(t);
  engine.socket.close();
  const goodbye = await network.next("POST");
  assert.deepEqual([goodbye.body, goodbye.query.transport], ["1", "streaming"]);
  assert.equal(first.signal.aborted, true);
});
