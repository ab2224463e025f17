// Proxies without affinity, with the configurations beside this file.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { freePort } from "../lib/port.js";
import { until } from "../lib/wait.js";

// Debian has them in a folder that isn't on the PATH of everyone.
const PATH = [process.env.PATH, "/usr/sbin", "/usr/local/sbin"].join(delimiter);

const commands = {
  haproxy: { config: "haproxy.cfg", args: ["-db", "-f", "haproxy.cfg"] },
  nginx: { config: "nginx.conf", args: ["-p", ".", "-c", "nginx.conf", "-e", "error.log"] },
};

/** Starts `haproxy` or `nginx` in front of three servers. */
export async function startProxy(name, [one, two, three]) {
  const { config, args } = commands[name];
  const folder = mkdtempSync(join(tmpdir(), "antiphon-proxy-"));
  mkdirSync(join(folder, "temp"));
  const port = await freePort();
  const ports = { PORT: port, ONE: one.port, TWO: two.port, THREE: three.port };
  const text = readFileSync(new URL(config, import.meta.url), "utf8");
  writeFileSync(join(folder, config), text.replace(/@([A-Z]+)@/g, (_, word) => ports[word]));
  const options = { cwd: folder, stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, PATH } };
  const child = spawn(name, args, options);
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (stderr += text));
  let ended;
  child.on("error", (error) => (ended = error.message));
  child.on("exit", (code) => (ended = `status ${code}`));
  const kill = () => child.kill("SIGKILL");
  process.on("exit", kill);
  await until(async () => {
    if (ended) throw new Error(`${name} ended: ${ended}\n${stderr}`);
    return accepts(port);
  }, `${name} listens`);
  return {
    url: `http://127.0.0.1:${port}`,
    host: `127.0.0.1:${port}`,
    port,
    async stop() {
      process.off("exit", kill);
      kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" });
    socket.on("connect", () => resolve(true)).on("error", () => resolve(false));
    socket.on("connect", () => socket.destroy());
  });
}
