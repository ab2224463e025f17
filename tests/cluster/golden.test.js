// The fixtures of the crate `antiphon-protocol` are what the packages publish that are installed.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const kept = fileURLToPath(new URL("../../crates/antiphon-protocol/tests/golden", import.meta.url));
const script = fileURLToPath(new URL("golden.mjs", import.meta.url));

const made = mkdtempSync(join(tmpdir(), "golden-"));
after(() => rmSync(made, { recursive: true }));
execFileSync(process.execPath, [script], { env: { ...process.env, GOLDEN: made } });

for (const file of readdirSync(kept)) {
  test(file, () => {
    assert.equal(readFileSync(join(made, file), "utf8"), readFileSync(join(kept, file), "utf8"));
  });
}
