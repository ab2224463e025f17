// A log in a file on a disk that is full, and has space again. The file system is a real one, which lets the server's files
// grow to 3,000 KiB only (RLIMIT_FSIZE), until the test lifts that.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ask, clients, connected, open } from "../lib/clients.js";
import { oursOnly, startServer } from "../lib/server.js";
import { next, until } from "../lib/wait.js";

const client = clients.v4;
const KIB = 3_000;
const wrapper = ["bash", "-c", 'trap "" XFSZ; ulimit -S -f "$0"; exec "$@"', String(KIB)];
const FULL = "the log can't be stored";
const NOT_DELIVERED = "events aren't delivered";

let folder;
before(() => (folder = mkdtempSync(join(tmpdir(), "antiphon-"))));
after(() => rmSync(folder, { recursive: true }));

const lines = (server, text) => server.stderr.split("\n").filter((line) => line.includes(text)).length;

/** Emits 40 KB each time, until the server says this. What comes back is counted. */
async function fill(server, filler, said) {
  const rows = { sent: 0, back: 0 };
  filler.on("message-back", () => rows.back++);
  await until(async () => {
    filler.emit("message", "x".repeat(40_000));
    rows.sent++;
    await ask(filler, "message-with-ack");
    return server.stderr.includes(said);
  }, "a full disk");
  return rows;
}

/** Storing goes on: what is emitted to one that is away outlives a kill. */
async function assertStores(server, flags, subject, teller) {
  const numbers = [];
  let isBehind = false;
  subject.on("n", (number) => (number > 0 ? numbers.push(number) : (isBehind = true)));
  await until(async () => {
    teller.emit("io-to", ["room"], [], "n", 0);
    await ask(teller, "message-with-ack");
    return isBehind;
  }, "an event behind the hole");
  const { id } = subject;
  const lost = next(subject, "disconnect");
  subject.io.engine.close();
  await lost;
  for (let number = 1; number <= 5; number++) teller.emit("io-to", ["room"], [], "n", number);
  await ask(teller, "message-with-ack");
  // By default what is delivered is stored some ms later, or some more on a busy machine.
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  await server.kill();
  const again = await startServer(flags, { port: server.port });
  subject.connect();
  await connected(subject);
  assert.equal(subject.recovered, true, again.stderr);
  assert.equal(subject.id, id);
  await until(() => numbers.length === 5, "what was missed");
  assert.deepEqual(numbers, [1, 2, 3, 4, 5]);
  subject.disconnect();
  teller.disconnect();
  await again.stop();
}

for (const mode of ["--durable-later", "--durable"]) {
  const storesFirst = mode === "--durable";
  const name = storesFirst ? "what can't be stored isn't delivered" : "delivery goes on";
  test(`a full disk: ${name}; the server lives on, says so seldom, and stores again`, { skip: oursOnly }, async () => {
    const flags = [mode, join(folder, `${mode}.redb`)];
    const server = await startServer(flags, { wrapper });
    const subject = await connected(open(client, server));
    await ask(subject, "join", "room");
    const teller = await connected(open(client, server));
    const began = Date.now();
    const rows = await fill(server, teller, storesFirst ? NOT_DELIVERED : FULL);
    const before = { ...rows };
    for (let i = 0; i < 50; i++) teller.emit("message", "x".repeat(40_000));
    // Acknowledgements keep their place behind what is lost, too.
    await ask(teller, "message-with-ack");
    if (storesFirst) {
      assert.ok(before.back < before.sent, "the last one wasn't delivered");
      assert.equal(rows.back, before.back, "nothing is delivered that isn't stored");
    } else {
      assert.equal(rows.back, before.sent + 50, "all is delivered");
      assert.equal(lines(server, NOT_DELIVERED), 0);
    }
    const most = 1 + Math.ceil((Date.now() - began) / 10_000);
    for (const text of [FULL, NOT_DELIVERED]) assert.ok(lines(server, text) <= most, server.stderr);
    execFileSync("prlimit", ["--pid", String(server.pid), "--fsize=unlimited"]);
    await assertStores(server, flags, subject, teller);
  });
}
