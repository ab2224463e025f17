// The example `dashboard`: values arrive by HTTP and go to those who watch them.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Queue, until } from "../lib/wait.js";
import { connected, startExample } from "./examples.js";

let server;

before(async () => (server = await startExample("dashboard")));
after(() => server.stop());

const report = (metric, value) =>
  fetch(`${server.url}/metrics/${metric}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(value),
  });
const audience = async () => (await fetch(server.url)).json();

async function viewer(options) {
  const socket = await connected(server, options);
  const metrics = new Queue();
  socket.on("metric", (name, value, at) => metrics.push({ name, value, at }));
  return { socket, metrics };
}

for (const transports of [["polling"], ["websocket"]]) {
  test(`a page has the last value at once, and each new one: ${transports}`, async () => {
    const began = Date.now();
    for (const value of [0.1, 0.2]) assert.equal((await report("cpu", value)).status, 202);
    const { socket, metrics } = await viewer({ transports });
    assert.equal(await socket.emitWithAck("watch", ["cpu", "memory"]), 2);
    const first = await metrics.next();
    assert.deepEqual([first.name, first.value], ["cpu", 0.2]);
    assert(first.at >= began && first.at <= Date.now());
    assert.deepEqual(await audience(), { cpu: 1, memory: 1 });
    await report("disk", 5);
    await report("memory", 512);
    assert.equal((await metrics.next()).value, 512); // nothing of the disk
    socket.emit("unwatch", ["memory"]);
    await until(async () => !("memory" in (await audience())), "it watches one");
    socket.close();
    await until(async () => Object.keys(await audience()).length === 0, "nobody watches");
  });
}

test("what isn't a value, and too many metrics, are refused", async () => {
  assert.equal((await report("cpu", "high")).status, 422);
  const { socket } = await viewer();
  const many = Array.from({ length: 101 }, (_, i) => `metric ${i}`);
  assert.equal((await socket.emitWithAck("watch", many)).error.code, "too_many");
  assert.equal((await socket.emitWithAck("watch", 5)).error.code, "invalid_arguments");
  socket.close();
});
