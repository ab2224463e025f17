// python-socketio, asyncio and threaded: the checks are in the Python files.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { modes } from "../lib/clients.js";
import { startServer } from "../lib/server.js";
import { within } from "../lib/wait.js";

const PYTHON = fileURLToPath(new URL("../.state/venv/bin/python", import.meta.url));

let server;
before(async () => (server = await startServer()));
after(async () => assert.equal(await server.stop(), 0));

for (const script of ["asyncio_client.py", "threaded_client.py"]) {
  describe(`python-socketio, ${script}`, () => {
    for (const mode of Object.keys(modes)) {
      test(mode, async (t) => {
        const { lines, stderr } = await run(script, server.url, mode);
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

async function run(script, ...args) {
  const path = fileURLToPath(new URL(script, import.meta.url));
  const child = spawn(PYTHON, ["-B", path, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  const lines = [];
  createInterface(child.stdout).on("line", (line) => lines.push(JSON.parse(line)));
  let stderr = "";
  child.stderr.on("data", (text) => (stderr += text));
  const ended = new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  try {
    await within(ended, () => `${script} ends\n${stderr}`, 60_000);
  } finally {
    child.kill("SIGKILL");
  }
  return { lines, stderr };
}
