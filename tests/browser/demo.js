// The demo as a child process, which can be killed and come back on its port, with a folder of its own.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { freePort } from "../lib/port.js";
import { within } from "../lib/wait.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");

export class Demo {
  /** Where the chat is, from the first start on: `http://localhost:PORT`. */
  url = "";
  /** What it has printed. */
  log = [];
  #port;
  #folder = mkdtempSync(join(tmpdir(), "antiphon-demo-"));
  #child;
  #exited;

  #env;

  /** With what it finds in its environment beside the port and the folder. */
  constructor(env = {}) {
    this.#env = env;
    process.on("exit", () => rmSync(this.#folder, { recursive: true, force: true }));
  }

  async start() {
    const program = join(target, "debug", "antiphon-demo");
    this.#port ??= await freePort();
    const env = { ...process.env, PORT: String(this.#port), DATA: this.#folder, RUST_LOG: "warn", ...this.#env };
    const child = spawn(program, { stdio: ["ignore", "pipe", "inherit"], env });
    this.#child = child;
    const killed = () => child.kill("SIGKILL");
    process.on("exit", killed);
    this.#exited = new Promise((resolve) => {
      child.on("error", (error) => resolve(error.message));
      child.on("close", (code, signal) => resolve(code ?? signal));
    }).finally(() => process.off("exit", killed));
    const lines = createInterface(child.stdout);
    const listening = new Promise((resolve, reject) => {
      lines.on("line", (line) => {
        this.log.push(line);
        const [url, port] = /http:\/\/\S+:(\d+)/.exec(line) ?? [];
        if (url) resolve([url, Number(port)]);
      });
      this.#exited.then((status) => reject(new Error(`${program} ended: ${status}`)));
    });
    [this.url, this.#port] = await within(listening, () => "the demo listens");
  }

  /** Ends it without a goodbye, as a crash would. */
  async kill() {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }

  /** Forgets what it has kept. Not while it runs. */
  forget() {
    rmSync(this.#folder, { recursive: true });
  }

  /** Ends it in order; gives its exit status. */
  stop() {
    this.#child.kill("SIGTERM");
    return within(this.#exited, () => "the demo's end after SIGTERM");
  }
}
