// Runs a script of these tests, which prints lines of JSON, in the Python environment of `./dev`.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { within } from "./wait.js";

const PYTHON = fileURLToPath(new URL("../.state/venv/bin/python", import.meta.url));

/** Gives what the script printed, once it has ended. */
export async function runPython(script, args, deadline) {
  const path = fileURLToPath(new URL(`../${script}`, import.meta.url));
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
    await within(ended, () => `${script} ends\n${stderr}`, deadline);
  } finally {
    child.kill("SIGKILL");
  }
  return { lines, stderr };
}
