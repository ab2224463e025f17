// What a message costs on each transport: requests, bytes beside the payload, time. The figures go to
// target/transport-costs.md; what must hold on every machine is asserted.

import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { io } from "sio4";
import { AdaptivePolling, ShortPolling, Streaming } from "../../packages/transports/dist/index.js";
import { startServer } from "../lib/server.js";
import { within } from "../lib/wait.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
const ROUNDS = 200;
const TEXT = "x".repeat(64);

let server;
const rows = [];
before(async () => {
  server = await startServer(["--transports", "polling,websocket,streaming", "--http-calls"]);
});
after(async () => {
  await server?.stop();
  await mkdir(target, { recursive: true });
  const head = ["| | requests | bytes beside the payload | median, ms |", "|---|---|---|---|"];
  await writeFile(join(target, "transport-costs.md"), [...head, ...rows].join("\n") + "\n");
});

/** Counts what goes to the server and back. */
async function counting(work) {
  const counted = { requests: 0, bytes: 0 };
  const sockets = new Set();
  const proxy = createServer((client) => {
    const upstream = connect(server.port, "127.0.0.1");
    for (const [from, to] of [[client, upstream], [upstream, client]]) {
      sockets.add(from);
      from.setNoDelay();
      from.on("data", (data) => {
        counted.bytes += data.length;
        if (from === client) counted.requests += data.toString("latin1").match(/(GET|POST) \/\S+ HTTP\/1\.1\r\n/g)?.length ?? 0;
        to.write(data);
      });
      from.on("error", () => to.destroy());
      from.on("close", () => to.destroy());
    }
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  try {
    return await work(`http://127.0.0.1:${proxy.address().port}`, counted);
  } finally {
    sockets.forEach((socket) => socket.destroy());
    proxy.close();
  }
}

/** Asks and is answered, one after the other: what each round costs. */
async function measure(name, counted, ask) {
  for (let i = 0; i < 5; i++) await ask();
  const start = { ...counted };
  const times = [];
  for (let i = 0; i < ROUNDS; i++) {
    const began = performance.now();
    assert.equal(await ask(), TEXT);
    times.push(performance.now() - began);
  }
  const requests = (counted.requests - start.requests) / ROUNDS;
  const overhead = (counted.bytes - start.bytes) / ROUNDS - 2 * TEXT.length;
  times.sort((a, b) => a - b);
  rows.push(`| ${name} | ${requests.toFixed(1)} | ${Math.round(overhead)} | ${times[ROUNDS / 2].toFixed(2)} |`);
  return { requests, overhead };
}

const bySocket = (name, transports, options = {}) =>
  counting(async (url, counted) => {
    const socket = io(url, { transports, forceNew: true, ...options });
    try {
      await within(new Promise((resolve) => socket.on("connect", resolve)), () => "the connection");
      const ask = () => within(socket.emitWithAck("message-with-ack", TEXT), () => "the answer");
      return await measure(name, counted, ask);
    } finally {
      socket.disconnect();
    }
  });

test("WebSocket: no request a message", async () => {
  const { requests, overhead } = await bySocket("WebSocket", ["websocket"]);
  assert.equal(requests, 0);
  assert.ok(overhead < 100, `${overhead} bytes`);
});

test("streaming: one request a message upward, none downward", async () => {
  const { requests } = await bySocket("streaming", [Streaming]);
  assert.ok(requests >= 1 && requests < 1.1, `${requests} requests`);
});

test("long-polling: one request each way", async () => {
  const { requests } = await bySocket("long-polling", [AdaptivePolling]);
  assert.ok(requests >= 2 && requests < 2.1, `${requests} requests`);
});

test("short polling: one request upward, and as many downward as it asks", async () => {
  const options = { transportOptions: { polling: { interval: 20 } } };
  const { requests } = await bySocket("short polling every 20 ms", [ShortPolling], options);
  assert.ok(requests >= 2, `${requests} requests`);
});

test("the ordinary API: one request a call", async () => {
  await counting(async (url, counted) => {
    const ask = async () => {
      const body = JSON.stringify([TEXT]);
      const headers = { "content-type": "application/json" };
      const response = await fetch(`${url}/socket.io/call/message-with-ack`, { method: "POST", body, headers });
      return (await response.json())[0];
    };
    const { requests } = await measure("ordinary API", counted, ask);
    assert.equal(requests, 1);
  });
});
