// A redis-server of one's own.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { freePort } from "./port.js";

/** On a free port, in a folder of its own: its URL, a client, and its end. */
export async function startRedis() {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), "antiphon-redis-"));
  const options = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", folder];
  const child = spawn("redis-server", options.map(String), { stdio: "ignore" });
  process.on("exit", () => child.kill("SIGKILL"));
  const url = `redis://127.0.0.1:${port}`;
  const client = new Redis(url, { lazyConnect: false, retryStrategy: () => 50 });
  client.on("error", () => {});
  await client.ping();
  return {
    url,
    client,
    async stop() {
      client.disconnect();
      child.kill("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
