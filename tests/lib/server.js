// Starts the server under test: Antiphon's (`server/`), on axum or on a runtime for each core
// (SERVER=per-core), or the reference (SERVER=reference).

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { freePort } from "./port.js";
import { until, within } from "./wait.js";

const tests = fileURLToPath(new URL("..", import.meta.url));
const target = process.env.CARGO_TARGET_DIR ?? join(tests, "..", "target");
/** Where cargo puts programs, and examples. */
export const programs = join(target, "debug");
export const examples = join(programs, "examples");

export const isReference = process.env.SERVER === "reference";

/** For `test(name, { skip: oursOnly }, ..)`: what the reference doesn't do. */
export const oursOnly = isReference && "Antiphon only";

/** The flags of the conformance server, for the reference. */
const CONFORMANCE = [
  ...["--ping-interval", "300", "--ping-timeout", "200", "--max-payload", "1000000"],
  ...["--connect-timeout", "1000", "--cors", "*"],
];

const STOP_DEADLINE = 15_000;

const running = new Set();
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));
process.on("SIGTERM", () => process.exit(1));
process.on("SIGINT", () => process.exit(1));

// A failed test may leave servers and clients behind; they must not keep its file from ending.
after(() => setTimeout(() => process.exit(), STOP_DEADLINE + 1_000).unref());

export class Server {
  port = 0;
  /** What the server logged of sockets that left, see README.md. */
  log = [];
  #child;
  #exited;
  #stderr = "";

  constructor(command, args) {
    this.#child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
    running.add(this.#child);
    this.#child.stderr.setEncoding("utf8").on("data", (text) => (this.#stderr += text));
    const lines = createInterface(this.#child.stdout);
    this.listening = new Promise((resolve, reject) => {
      lines.on("line", (line) => {
        const listening = /^listening on \S+:(\d+)$/.exec(line);
        if (line.startsWith("{")) this.log.push(JSON.parse(line));
        else if (listening) resolve((this.port = Number(listening[1])));
      });
      this.#child.on("error", reject);
      this.#child.on("exit", (code) => reject(new Error(`${command} ended: ${code}\n${this.#stderr}`)));
    });
    this.#exited = new Promise((resolve) => {
      this.#child.on("close", (code, signal) => {
        running.delete(this.#child);
        resolve(code ?? signal);
      });
    });
  }

  get host() {
    return `127.0.0.1:${this.port}`;
  }

  get url() {
    return `http://${this.host}`;
  }

  get stderr() {
    return this.#stderr;
  }

  get isRunning() {
    return running.has(this.#child);
  }

  /** The first entry of the log that has all of these. */
  entry(wanted) {
    const fits = (entry) => Object.entries(wanted).every(([key, value]) => entry[key] === value);
    return until(() => this.log.find(fits), `the log entry ${JSON.stringify(wanted)}`);
  }

  get pid() {
    return this.#child.pid;
  }

  /** SIGKILL: the server ends at once. */
  async kill() {
    this.#child.kill("SIGKILL");
    await within(this.#exited, () => "the server's end after SIGKILL", STOP_DEADLINE);
  }

  /** SIGTERM: closes the server in order; gives the exit status. */
  async stop() {
    if (!this.isRunning) return undefined;
    this.#child.kill("SIGTERM");
    try {
      return await within(this.#exited, () => "the server's end after SIGTERM", STOP_DEADLINE);
    } finally {
      this.#child.kill("SIGKILL");
    }
  }
}

async function start(program, referenceFlags, flags, port, wrapper = []) {
  const command = isReference ? process.execPath : join(programs, program);
  const script = isReference ? [join(tests, "reference", "server.js")] : [];
  const own = isReference ? referenceFlags : [];
  // It may be killed and come back on it.
  port ??= await freePort();
  const line = [...wrapper, command, ...script, String(port), ...own, ...flags.map(String)];
  const server = new Server(line[0], line.slice(1));
  await within(server.listening, () => `${program} listens`);
  return server;
}

/** Starts the server under test with these flags, by a wrapper's command if there is one. */
export function startServer(flags = [], { port, wrapper } = {}) {
  const serving = process.env.SERVER === "per-core" ? ["--per-core"] : [];
  return start("e2e_server", [], [...serving, ...flags], port, wrapper);
}

/** Starts the conformance server: 300/200 ms. */
export function startConformanceServer() {
  return start("conformance", CONFORMANCE, []);
}

/** Starts the WebSocket echo, which speaks no Engine.IO. There is none of the reference. */
export async function startEcho() {
  if (isReference) return undefined;
  const server = new Server(join(examples, "websocket_echo"), ["0"]);
  await within(server.listening, () => "websocket_echo listens");
  return server;
}

/** The socket was closed for breaking a rule of Socket.IO. */
export async function assertViolation(server, id) {
  const { reason } = await server.entry({ id, event: "disconnect" });
  // Node means to say `forced server close`, but closing the engine says `forced close` first,
  // unless that has to wait for a poll.
  const expected = isReference ? /^forced (server )?close$/ : /^forced server close$/;
  assert.match(reason, expected);
}
