// docs/parity.md: what works names its test, and each test that is named is there; and so in the head of
// wrong_uses.rs.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const folders = ["crates/antiphon/tests", "tests", "tests/cluster/src"].map((folder) => join(root, folder));

const rows = readFileSync(join(root, "docs/parity.md"), "utf8")
  .split("\n")
  .filter((line) => /^\|.*\| (works|differs|no meaning|lacks) \|/.test(line));

/** References of a row: `file`, or `file › test`. */
function references(row) {
  const quoted = [...row.matchAll(/``\s?(.+?)\s?``|`([^`]+)`/g)].map(([, double, single]) => double ?? single);
  return quoted.map((text) => text.split(" › ")).filter(([file]) => /^[\w./]+\.(rs|js)$/.test(file));
}

const sources = (file) => folders.map((folder) => join(folder, file)).filter((path) => existsSync(path));

test("there is a row for most that Node has", () => assert(rows.length > 80, String(rows.length)));

test("what works names its test", () => {
  const unproven = rows.filter((row) => row.includes("| works |") && references(row).length === 0);
  assert.deepEqual(unproven, []);
});

test("each test that is named is there", () => {
  const missing = [];
  for (const [file, name] of rows.flatMap(references)) {
    const found = sources(file).some((path) => !name || readFileSync(path, "utf8").replaceAll("\\`", "`").includes(name));
    if (!found) missing.push([file, name]);
  }
  assert.deepEqual(missing, []);
});

test("each test of a wrong use is there", () => {
  const head = readFileSync(join(root, "crates/antiphon/tests/wrong_uses.rs"), "utf8");
  const named = [...head.matchAll(/`(\w+\.rs)`: ((?:`\w+`(?:, )?)+)/g)].flatMap(([, file, tests]) =>
    tests.match(/\w+/g).map((name) => [file, name]),
  );
  assert(named.length > 10, String(named.length));
  const missing = named.filter(([file, name]) => !readFileSync(sources(file)[0], "utf8").includes(`fn ${name}(`));
  assert.deepEqual(missing, []);
});
