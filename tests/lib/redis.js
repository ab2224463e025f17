// A redis-server of one's own, and a Redis Cluster.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { freePort } from "./port.js";
import { until } from "./wait.js";

/** On a free port, in a folder of its own: its URL, a client, and its end. */
export async function startRedis(more = []) {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), "antiphon-redis-"));
  const options = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", folder, ...more];
  const child = spawn("redis-server", options.map(String), { stdio: "ignore" });
  const end = () => child.kill("SIGKILL");
  process.on("exit", end);
  const url = `redis://127.0.0.1:${port}`;
  // It may take longer to start than a request is tried by default: a second.
  const retries = { retryStrategy: () => 50, maxRetriesPerRequest: null };
  const client = new Redis(url, { lazyConnect: false, ...retries });
  client.on("error", () => {});
  const ended = new Promise((_, reject) => {
    child.on("exit", (code) => reject(new Error(`redis-server ended: ${code}`)));
  });
  ended.catch(() => {}); // for when it ends later
  await Promise.race([client.ping(), ended]);
  return {
    url,
    port,
    client,
    async stop() {
      client.disconnect();
      end();
      process.off("exit", end);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A Redis Cluster of so many masters: the URL of all of them, and its end. */
export async function startRedisCluster(masters = 3) {
  const [slots, nodes] = [16384, []];
  for (let number = 0; number < masters; number++) {
    const bus = await freePort();
    const node = await startRedis(["--cluster-enabled", "yes", "--cluster-port", bus]);
    const [first, next] = [number, number + 1].map((at) => Math.floor((at * slots) / masters));
    await node.client.cluster("SET-CONFIG-EPOCH", number + 1);
    await node.client.cluster("ADDSLOTSRANGE", first, next - 1);
    if (number > 0) await nodes[0].client.cluster("MEET", "127.0.0.1", node.port, bus);
    nodes.push(node);
  }
  const isReady = async ({ client }) => {
    const info = await client.cluster("INFO");
    return info.includes("cluster_state:ok") && info.includes(`cluster_known_nodes:${masters}`);
  };
  for (const node of nodes) await until(() => isReady(node), "the Redis Cluster is ready");
  return {
    url: `redis://${nodes.map(({ port }) => `127.0.0.1:${port}`).join(",")}`,
    stop: () => Promise.all(nodes.map((node) => node.stop())),
  };
}
