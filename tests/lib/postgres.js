// A Postgres of one's own.

import { spawn, spawnSync } from "node:child_process";
import { chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { freePort } from "./port.js";

/** A program of Postgres, which Debian doesn't put into the path. */
function program(name) {
  const versions = "/usr/lib/postgresql";
  const found = existsSync(versions) ? readdirSync(versions).map((it) => join(versions, it, "bin", name)) : [];
  return found.filter(existsSync).sort().at(-1) ?? name;
}

/** Postgres doesn't run as root: then it runs as the user `postgres`. */
function user() {
  if (process.getuid() !== 0) return {};
  const line = readFileSync("/etc/passwd", "utf8").match(/^postgres:[^:]*:(\d+):(\d+):/m);
  return { uid: Number(line[1]), gid: Number(line[2]) };
}

/** On a free port, in a folder of its own: its URL, a pool of connections, and its end. */
export async function startPostgres() {
  const folder = mkdtempSync(join(tmpdir(), "antiphon-postgres-"));
  const as = user();
  if (as.uid) chownSync(folder, as.uid, as.gid);
  const data = join(folder, "data");
  const options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"];
  const made = spawnSync(program("initdb"), [...options, "--pgdata", data], as);
  if (made.status !== 0) throw new Error(`initdb: ${made.stderr}`);
  const port = await freePort();
  const settings = ["-D", data, "-p", String(port), "-h", "127.0.0.1", "-k", "", "-F"];
  const child = spawn(program("postgres"), settings, { stdio: "ignore", ...as });
  process.on("exit", () => child.kill("SIGKILL"));
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
  const client = new pg.Pool({ connectionString: url });
  client.on("error", () => {});
  for (const start = Date.now(); ; ) {
    try {
      await client.query("SELECT 1");
      break;
    } catch (error) {
      if (child.exitCode !== null) throw new Error(`postgres ended: ${child.exitCode}`);
      if (Date.now() - start > 30_000) throw error;
      await new Promise((done) => setTimeout(done, 50));
    }
  }
  return {
    url,
    client,
    async stop() {
      await client.end();
      child.kill("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
