// A real redis-server for a test of its own.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";

/** A port that nothing listens on. */
export function freePort() {
  return new Promise((done) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => done(port));
    });
  });
}

/** A redis-server of one's own, and its URL. */
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
