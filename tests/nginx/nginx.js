// A real nginx in a folder of its own, with the configuration beside this file.

import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "../lib/port.js";
import { until, within } from "../lib/wait.js";

const template = new URL("nginx.conf", import.meta.url);
const state = fileURLToPath(new URL("../.state", import.meta.url));
// Debian has it in a folder that isn't on the PATH of everyone.
const PATH = [process.env.PATH, "/usr/sbin", "/usr/local/sbin"].join(delimiter);

/** The sites of nginx.conf. */
const SITES = ["kept", "stripped", "forwarded", "plain"];

/** Starts nginx in front of these ports, for example `{ PREFIXED: 4000, STOCK: 4001 }`. */
export async function startNginx(upstreams) {
  const ports = [];
  for (const _ of SITES) ports.push(await freePort());
  const nginx = new Nginx(ports);
  try {
    await nginx.start(upstreams);
    return nginx;
  } catch (error) {
    await nginx.stop();
    throw error;
  }
}

class Nginx {
  #child;
  #exited;
  #stderr = "";

  constructor(ports) {
    /** By site, what `open` and `request` want of a server: `{ url, host }`. */
    this.sites = {};
    this.ports = {};
    SITES.forEach((site, i) => {
      const host = `127.0.0.1:${ports[i]}`;
      this.sites[site] = { host, url: `http://${host}` };
      this.ports[site.toUpperCase()] = ports[i];
    });
  }

  async start(upstreams) {
    await mkdir(state, { recursive: true });
    this.folder = await mkdtemp(join(state, "nginx-"));
    await mkdir(join(this.folder, "temp"));
    const values = { ...this.ports, ...upstreams };
    const text = await readFile(template, "utf8");
    await writeFile(
      join(this.folder, "nginx.conf"),
      text.replace(/@([A-Z]+)@/g, (_, name) => values[name] ?? fail(`no port for ${name}`)),
    );
    await this.run();
  }

  /** Starts the process; again, after `end`. */
  async run() {
    const options = ["-p", this.folder, "-c", "nginx.conf", "-e", "error.log"];
    const child = spawn("nginx", options, { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, PATH } });
    this.#child = child;
    child.stderr.setEncoding("utf8").on("data", (text) => (this.#stderr += text));
    const killed = () => child.kill("SIGKILL");
    process.on("exit", killed);
    this.#exited = new Promise((resolve) => {
      child.on("error", (error) => resolve(error.message));
      child.on("close", (code, signal) => resolve(code ?? signal));
    }).finally(() => process.off("exit", killed));
    const ended = this.#exited.then((status) => fail(`nginx ended: ${status}\n${this.#stderr}`));
    ended.catch(() => {}); // for when it ends later
    const listening = until(
      async () => (await Promise.all(Object.values(this.ports).map(accepts))).every(Boolean),
      "nginx listens",
    );
    await Promise.race([listening, ended]);
  }

  /** Ends the process at once, with all its connections; gives its status. */
  async end() {
    this.#child.kill("SIGTERM");
    return within(this.#exited, () => "nginx's end after SIGTERM");
  }

  /** What it has logged of these requests, or of errors. */
  async log(name) {
    return readFile(join(this.folder, `${name}.log`), "utf8");
  }

  /** Ends it, and removes its folder. */
  async stop() {
    const status = await this.end();
    await rm(this.folder, { recursive: true });
    return status;
  }
}

function fail(message) {
  throw new Error(message);
}

function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" });
    socket.on("connect", () => resolve(true)).on("error", () => resolve(false));
    socket.on("connect", () => socket.destroy());
  });
}
