// python-socketio, asyncio and threaded: the checks are in the Python files.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { modes } from "../lib/clients.js";
import { runPython } from "../lib/python.js";
import { startServer } from "../lib/server.js";

const DEADLINE = 60_000;

let server;
before(async () => (server = await startServer()));
after(async () => assert.equal(await server.stop(), 0));

for (const script of ["asyncio_client.py", "threaded_client.py"]) {
  describe(`python-socketio, ${script}`, () => {
    for (const mode of Object.keys(modes)) {
      test(mode, async (t) => {
        const { lines, stderr } = await runPython(`python/${script}`, [server.url, mode], DEADLINE);
        const checks = lines.filter(({ check }) => check);
        assert.ok(checks.length >= 9, `it didn't get through its checks:\n${stderr}`);
        for (const { check, error } of checks) {
          await t.test(check, () => assert.ok(!error, error));
        }
        for (const { left, reasons } of lines.filter(({ left }) => left)) {
          const { reason } = await server.entry({ id: left, event: "disconnect" });
          assert.ok(reasons.includes(reason), `${reason}, not ${reasons}`);
        }
      });
    }
  });
}
