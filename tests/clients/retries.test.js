// A stock client with `retries` sends an event again that nobody has handled, if the server doesn't
// acknowledge its errors: as with Node, or by the option `error_acks`.

import assert from "node:assert/strict";
import { test } from "node:test";
import { clients, connected, open } from "../lib/clients.js";
import { isReference, oursOnly, startServer } from "../lib/server.js";

const RETRIES = 3;

/** What became of an event that no handler takes, and how often the server has had it. */
async function unhandled(flags) {
  const server = await startServer(isReference ? [] : flags);
  const options = { mode: "websocket", retries: RETRIES, ackTimeout: 200 };
  const socket = open(clients.v4, server, options);
  await connected(socket, "websocket");
  const outcome = await new Promise((resolve) => {
    socket.emit("nobody takes this", (error, answer) => resolve({ error, answer }));
  });
  const seen = await new Promise((resolve, reject) => {
    socket.emit("seen", (error, names) => (error ? reject(error) : resolve(names)));
  });
  socket.disconnect();
  await server.stop();
  return { ...outcome, times: seen.filter((name) => name === "nobody takes this").length };
}

for (const errorAcks of ["none", "lasting"]) {
  test(`an event that nobody takes is sent again, error acks: ${errorAcks}`, async () => {
    const { error, times } = await unhandled(["--error-acks", errorAcks]);
    assert.ok(error, "its emitter is told");
    assert.equal(times, 1 + RETRIES);
  });
}

test("an error acknowledgement counts as delivery", { skip: oursOnly }, async () => {
  const { error, answer, times } = await unhandled([]);
  assert.equal(error, null);
  assert.equal(answer.error.code, "unknown_event");
  assert.equal(times, 1);
});
