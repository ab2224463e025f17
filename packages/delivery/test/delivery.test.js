// What comes again is handled once and acknowledged each time.

import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { test } from "node:test";
import { receive, send } from "../dist/index.js";

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("an event that comes again is handled once, and acknowledged each time", async () => {
  const socket = new EventEmitter();
  const handled = [];
  let acks = 0;
  receive(socket, "news", (...args) => handled.push(args));
  for (const id of ["a.1", "a.2", "a.1", "a.2"]) socket.emit("news", "text", id, () => acks++);
  await turn();
  assert.deepEqual(handled, [["text"], ["text"]]);
  assert.equal(acks, 4);
});

test("one that comes again while the first is handled waits for it", async () => {
  const socket = new EventEmitter();
  let calls = 0;
  let end;
  const acks = [];
  receive(socket, "slow", () => (calls++, new Promise((resolve) => (end = resolve))));
  socket.emit("slow", "id", () => acks.push(1));
  socket.emit("slow", "id", () => acks.push(2));
  await turn();
  assert.deepEqual([calls, acks], [1, []]);
  end();
  await turn();
  assert.deepEqual([calls, acks.length], [1, 2]);
});

test("one whose handler fails isn't acknowledged, and handled again", async () => {
  const socket = new EventEmitter({ captureRejections: true });
  socket.on("error", () => {});
  let calls = 0;
  let acks = 0;
  receive(socket, "fails", () => {
    if (++calls === 1) throw new Error("no");
  });
  socket.emit("fails", "id", () => acks++);
  await turn();
  assert.deepEqual([calls, acks], [1, 0]);
  socket.emit("fails", "id", () => acks++);
  await turn();
  assert.deepEqual([calls, acks], [2, 1]);
});

test("it can be stopped, and forgets the oldest ids", async () => {
  const socket = new EventEmitter();
  let calls = 0;
  const stop = receive(socket, "news", () => calls++);
  for (let id = 0; id < 1_001; id++) socket.emit("news", String(id), () => {});
  await turn();
  socket.emit("news", "1000", () => {});
  socket.emit("news", "0", () => {});
  await turn();
  assert.equal(calls, 1_002);
  stop();
  socket.emit("news", "x", () => {});
  await turn();
  assert.equal(calls, 1_002);
});

test("what is sent has an id of its own", async () => {
  const socket = new EventEmitter();
  const seen = [];
  socket.on("order", (amount, id, answered) => {
    seen.push(id);
    if (amount < 0) answered(new Error("operation has timed out"));
    else answered(null, amount * 2);
  });
  assert.equal(await send(socket, "order", 2), 4);
  await assert.rejects(send(socket, "order", -1), /timed out/);
  assert.match(seen[0], /^[0-9a-f]{32}$/);
  assert.notEqual(seen[0], seen[1]);
});
