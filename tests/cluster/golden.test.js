// The fixtures of the crate `antiphon-protocol` are what the packages publish that are installed, with
// whichever client of Redis.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const kept = fileURLToPath(new URL("../../crates/antiphon-protocol/tests/golden", import.meta.url));
const script = fileURLToPath(new URL("golden.mjs", import.meta.url));

for (const redis of ["redis", "ioredis"]) {
  const made = mkdtempSync(join(tmpdir(), "golden-"));
  after(() => rmSync(made, { recursive: true }));
  const env = { ...process.env, GOLDEN: made, REDIS: redis };
  execFileSync(process.execPath, [script], { env });
  for (const file of readdirSync(kept)) {
    test(`${file}, ${redis}`, () => {
      assert.equal(readFileSync(join(made, file), "utf8"), readFileSync(join(kept, file), "utf8"));
    });
  }
}
