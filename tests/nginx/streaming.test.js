// A stream behind nginx with its stock buffering: the headers of the answer alone let it through.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { io } from "sio4";
import { Streaming, transports } from "../../packages/transports/dist/index.js";
import { isReference, startServer } from "../lib/server.js";
import { until, within } from "../lib/wait.js";
import { startNginx } from "./nginx.js";

const path = "/someapi/socket.io";

let prefixed;
let stock;
let nginx;
const sockets = [];

before(async () => {
  if (isReference) return;
  const flags = ["--transports", "polling,websocket,streaming"];
  prefixed = await startServer(["--path", path, ...flags]);
  stock = await startServer(flags);
  nginx = await startNginx({ PREFIXED: prefixed.port, STOCK: stock.port });
});
after(async () => {
  sockets.forEach((socket) => socket.disconnect());
  await nginx?.stop();
  await prefixed?.stop();
  await stock?.stop();
});

for (const [name, ways, site] of [
  ["as the first transport", [Streaming], "kept"],
  ["as an upgrade, where nginx forbids WebSocket", transports, "plain"],
]) {
  test(`streaming ${name}`, { skip: isReference && "Node has no streaming" }, async () => {
    const socket = io(nginx.sites[site].url, { path, transports: ways, forceNew: true });
    sockets.push(socket);
    const isStreaming = () => socket.io.engine.transport?.name === "streaming" && socket.connected;
    await until(isStreaming, "streaming");
    const received = [];
    socket.on("message-back", (number) => received.push(number));
    for (let i = 0; i < 1_000; i++) socket.emit("message", i);
    await until(() => received.length === 1_000, "1,000 messages");
    assert.deepEqual(received, Array.from({ length: 1_000 }, (_, i) => i));
    const large = "x".repeat(300_000);
    const answer = socket.emitWithAck("message-with-ack", large);
    assert.equal(await within(answer, () => "a large answer"), large);
    assert.ok(isStreaming());
  });
}
