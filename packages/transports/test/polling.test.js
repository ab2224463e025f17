import assert from "node:assert/strict";
import { test } from "node:test";
import { AdaptivePolling, ShortPolling } from "../dist/index.js";
import { known, learn } from "../dist/lessons.js";
import { Network, OPEN, open } from "./scripted.js";

const SERVER = "http://server.test/socket.io/";

async function opened(t, transports = [AdaptivePolling], options) {
  const network = new Network(t);
  const engine = open(t, transports, options);
  const first = await network.next();
  first.answer("0" + OPEN);
  await engine.event("open");
  return { network, engine, first };
}

test("the session is tracked from its first request on", async (t) => {
  const { network, first } = await opened(t);
  assert.equal(first.query["antiphon-offset"], "0");
  assert.equal(first.query.transport, "polling");
  assert.equal(first.query.sid, undefined);
  const second = await network.next();
  assert.deepEqual([second.query.sid, second.query["antiphon-offset"], second.query["antiphon-wait"]], ["S", "1", undefined]);
  assert.notEqual(first.query.t, second.query.t);
});

test("a poll that was cut is asked again with the same offset, and noops aren't counted", async (t) => {
  const { network, engine } = await opened(t);
  (await network.next()).answer("4a\x1e6\x1e4b");
  const third = await network.next();
  assert.equal(third.query["antiphon-offset"], "3");
  third.cut();
  const again = await network.next();
  assert.equal(again.query["antiphon-offset"], "3");
  again.answer("6");
  assert.equal((await network.next()).query["antiphon-offset"], "3");
  assert.deepEqual(engine.received, ["a", "b"]);
  assert.equal(engine.state, "open");
});

test("a poll that was cut while it waited teaches to wait half as long, once the way is known to work", async (t) => {
  const { network, engine } = await opened(t);
  const poll = await network.next();
  setTimeout(() => poll.answer("gateway timeout", 504), 500);
  const again = await network.next();
  const wait = Number(again.query["antiphon-wait"]);
  assert.ok(wait >= 200 && wait < 500, `wait: ${wait}`);
  assert.equal(known(SERVER).pollWait, undefined);
  again.answer("6");
  assert.equal(Number((await network.next()).query["antiphon-wait"]), wait);
  assert.equal(known(SERVER).pollWait, wait);
  assert.equal(engine.transport.isShort, true);
});

test("cut again, it halves again, down to short polling", async (t) => {
  const { network } = await opened(t);
  learn(SERVER, { pollWait: 300 });
  (await network.next()).answer("6");
  const waits = [];
  for (let i = 0; i < 3; i++) {
    const poll = await network.next();
    waits.push(Number(poll.query["antiphon-wait"]));
    setTimeout(() => poll.cut(), 200);
  }
  assert.equal(waits[0], 300);
  assert.ok(waits[1] <= 150 && waits[1] >= 90, String(waits));
  assert.equal(waits[2], 0);
});

test("a server that is away is given up, and teaches nothing", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { network, engine } = await opened(t);
  for (let i = 0; i < 5; i++) {
    (await network.next()).cut();
    await new Promise(setImmediate);
    t.mock.timers.tick(3_000);
  }
  const [error] = await engine.event("error");
  assert.equal(error.message, "poll error");
  assert.equal(known(SERVER).pollWait, undefined);
});

test("an unknown session is an error at once", async (t) => {
  const { network, engine } = await opened(t);
  (await network.next()).answer('{"code":1,"message":"Session ID unknown"}', 400);
  const [error] = await engine.event("error");
  assert.equal(error.description, 400);
});

test("a session that can't be opened isn't tried again", async (t) => {
  const network = new Network(t);
  const engine = open(t, [AdaptivePolling]);
  (await network.next()).cut();
  await engine.event("close");
  assert.equal(network.requests.length, 0);
});

test("the server's close ends the transport", async (t) => {
  const { network, engine } = await opened(t);
  (await network.next()).answer("4a\x1e1\x1e4b");
  const [reason] = await engine.event("close");
  assert.equal(reason, "transport close");
  assert.deepEqual(engine.received, ["a"]);
});

test("short polling: says its interval, and asks for an answer at once", async (t) => {
  const { network, engine, first } = await opened(t, [ShortPolling], {
    transportOptions: { polling: { interval: 20 } },
  });
  assert.deepEqual([first.query["antiphon-offset"], first.query["antiphon-interval"]], ["0", "20"]);
  for (let i = 0; i < 3; i++) {
    const poll = await network.next();
    assert.deepEqual([poll.query["antiphon-offset"], poll.query["antiphon-wait"]], [String(i + 1), "0"]);
    poll.answer(`4${i}`);
  }
  await engine.until(() => engine.received.length === 3);
  assert.equal(engine.transport.isShort, true);
});

test("short polling: comes no more seldom than the server sends heartbeats", async (t) => {
  const network = new Network(t);
  const transportOptions = { polling: { interval: 3_600_000 } };
  const engine = open(t, [ShortPolling], { transportOptions });
  const handshake = { ...JSON.parse(OPEN), pingInterval: 10 };
  (await network.next()).answer("0" + JSON.stringify(handshake));
  await engine.event("open");
  for (let i = 0; i < 3; i++) (await network.next()).answer("6");
});

test("names of the application in the query are left alone, and its own are nobody else's", async (t) => {
  const query = { offset: "a", wait: "b", interval: "c", post: "d", t: "e" };
  const { network, engine, first } = await opened(t, [ShortPolling], { query, timestampRequests: false });
  const poll = await network.next();
  engine.socket.send("x");
  const post = await network.next("POST");
  post.answer("ok");
  await engine.event("drain");
  engine.socket.send("y");
  const next = await network.next("POST");
  for (const request of [first, poll, post, next]) {
    const own = Object.keys(request.query).filter((name) => name.startsWith("antiphon-"));
    assert.ok(own.length > 0);
    for (const name of Object.keys(query)) assert.equal(request.query[name], query[name]);
  }
  // A repetition by the browser is known by it, and nothing else is.
  assert.notEqual(post.query["antiphon-post"], next.query["antiphon-post"]);
});

test("one POST at a time, each within what the server takes", async (t) => {
  const { network, engine } = await opened(t);
  const texts = Array.from({ length: 50 }, (_, i) => `${i}:`.padEnd(90, "é"));
  texts.forEach((text) => engine.socket.send(text));
  const sent = [];
  while (sent.length < texts.length) {
    const post = await network.next("POST");
    assert.equal(network.requests.filter(({ method }) => method === "POST").length, 0);
    assert.ok(Buffer.byteLength(post.body) <= 1_000, `${Buffer.byteLength(post.body)} bytes`);
    sent.push(...post.body.split("\x1e").map((packet) => packet.slice(1)));
    post.answer("ok");
  }
  assert.deepEqual(sent, texts);
});

test("pausing waits for the poll, which is asked again if it was cut", async (t) => {
  const { network, engine } = await opened(t);
  const poll = await network.next();
  let isPaused = false;
  const paused = new Promise((resolve) => engine.transport.pause(() => resolve((isPaused = true))));
  poll.cut();
  const again = await network.next();
  assert.equal(again.query["antiphon-offset"], "1");
  assert.equal(isPaused, false);
  again.answer("4last");
  await paused;
  assert.deepEqual(engine.received, ["last"]);
  assert.equal(network.requests.length, 0);
});

test("closing says goodbye before it lets go of the poll", async (t) => {
  const { network, engine } = await opened(t);
  const poll = await network.next();
  engine.socket.close();
  const goodbye = await network.next("POST");
  assert.equal(goodbye.body, "1");
  assert.equal(poll.signal.aborted, false);
  const aborted = new Promise((resolve) => poll.signal.addEventListener("abort", resolve));
  goodbye.answer("ok");
  await aborted;
});

test("extra headers go with each request", async (t) => {
  const { network, first, engine } = await opened(t, [AdaptivePolling], { extraHeaders: { "x-key": "k" } });
  engine.socket.send("x");
  assert.equal(first.headers.get("x-key"), "k");
  assert.equal((await network.next()).headers.get("x-key"), "k");
  assert.equal((await network.next("POST")).headers.get("x-key"), "k");
});
