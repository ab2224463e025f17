// The documents say where things are: every file, link and anchor that they name is there.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { test } from "node:test";

const root = resolve(import.meta.dirname, "../..");
const listed = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "*.md"], { cwd: root, encoding: "utf8" });
const documents = listed.split("\n").filter((file) => file && existsSync(join(root, file)));

/** A document without its blocks of code. */
function prose(file) {
  return readFileSync(join(root, file), "utf8").replace(/^```[\s\S]*?^```/gm, "");
}

/** The anchors of a document's headings, as GitHub makes them. */
function anchors(file) {
  const headings = prose(file).matchAll(/^#+ (.*)$/gm);
  return new Set([...headings].map(([, heading]) => heading
    .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-")));
}

test("each link between documents leads to a file, and to a heading of it", () => {
  const broken = [];
  for (const file of documents) {
    for (const [, link] of prose(file).matchAll(/\]\(([^)\s]+)\)/g)) {
      // Others are of the web, or paths of Rust.
      if (/^[a-z]+:/.test(link) || link.includes("::")) continue;
      const [path, anchor] = link.split("#");
      const target = path ? join(dirname(file), path) : file;
      const isThere = existsSync(join(root, target));
      if (!isThere || (anchor && target.endsWith(".md") && !anchors(target).has(anchor))) {
        broken.push(`${file}: ${link}`);
      }
    }
  }
  assert.deepEqual(broken, []);
});

test("each file that ARCHITECTURE.md names is there", () => {
  const missing = [];
  for (const [, path] of prose("ARCHITECTURE.md").matchAll(/`([\w/-]+(?:\.rs|\.sql|\/))`/g)) {
    const [first, ...rest] = path.split("/");
    const isOfCrate = ["protocol", "cluster", "redis", "nats", "postgres"].includes(first);
    const file = isOfCrate ? `crates/antiphon-${first}/src/${rest.join("/")}` : `crates/antiphon/src/${path}`;
    if (!existsSync(join(root, file)) && !existsSync(join(root, path))) missing.push(path);
  }
  assert.deepEqual(missing, []);
});
