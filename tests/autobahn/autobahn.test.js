// Autobahn's test cases against the protocol crate's WebSocket: the example `websocket_echo`, which is no
// Socket.IO server. CASES=all: those too that compress a thousand large messages.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEcho, isReference } from "../lib/server.js";
import { runPython } from "../lib/python.js";

const CASES = process.env.CASES ?? "quick";
const DEADLINE = { quick: 120_000, all: 1_200_000 }[CASES];

let server;
before(async () => (server = await startEcho()));
after(() => server?.stop());

test("Autobahn", { skip: isReference && "Antiphon only" }, async (t) => {
  const { lines, stderr } = await runPython("autobahn/cases.py", [server.host, CASES], DEADLINE);
  const { selected } = lines.pop() ?? {};
  assert.ok(selected > 300, `it didn't get through its cases:\n${stderr}`);
  assert.equal(lines.length, selected);
  for (const { case: name, passed, said } of lines) {
    await t.test(name, () => assert.ok(passed, said));
  }
});
