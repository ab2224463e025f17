// The example `upload`: files in pieces, that go on after a lost connection.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { next } from "../lib/wait.js";
import { connected, startExample } from "./examples.js";

const PIECE = 500_000;

let folder;
let server;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "antiphon-upload-"));
  server = await startExample("upload", folder);
});
after(async () => {
  await server.stop();
  await rm(folder, { recursive: true });
});

/** Sends pieces from there on, up to an offset, as the example's head says. */
async function send(socket, file, id, from, to = file.length) {
  for (let received = from; received < to; ) {
    received = await socket.emitWithAck("piece", id, received, file.subarray(received, received + PIECE));
  }
}

for (const transports of [["polling"], ["websocket"]]) {
  test(`a file arrives to the byte, with a cut in the middle: ${transports}`, async () => {
    const file = randomBytes(3_000_001);
    const socket = await connected(server, { transports });
    const { id, received } = await socket.emitWithAck("begin", { name: "../x.bin", size: file.length });
    assert.equal(received, 0);
    await send(socket, file, id, 0, 2 * PIECE);
    const early = await socket.emitWithAck("end", id);
    assert.equal(early.error.code, "incomplete");
    socket.io.engine.close();
    await next(socket, "connect");
    const again = await socket.emitWithAck("begin", { id });
    assert.deepEqual(again, { id, received: 2 * PIECE });
    // A piece whose acknowledgement was lost comes again.
    assert.equal(await socket.emitWithAck("piece", id, 0, file.subarray(0, PIECE)), 2 * PIECE);
    await send(socket, file, id, again.received);
    const stored = await socket.emitWithAck("end", id);
    const sha256 = createHash("sha256").update(file).digest("hex");
    assert.deepEqual(stored, { size: file.length, sha256 });
    assert.deepEqual(await readFile(join(folder, id)), file);
    socket.close();
  });
}

test("too much, and what was never begun, are refused in words", async () => {
  const socket = await connected(server);
  const code = async (...args) => (await socket.emitWithAck(...args)).error.code;
  assert.equal(await code("begin", { name: "a", size: 100_000_001 }), "too_large");
  assert.equal(await code("begin", { id: "nothing" }), "unknown_upload");
  assert.equal(await code("begin", { name: "a", size: -1 }), "invalid_arguments");
  const { id } = await socket.emitWithAck("begin", { name: "a", size: 3 });
  assert.equal(await code("piece", id, 0, Buffer.from("four")), "too_large");
  assert.equal(await code("piece", id, 0, 5), "invalid_arguments");
  socket.close();
});
