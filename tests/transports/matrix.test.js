// What each network leaves of the transports: a stock client with the package, in a real browser, behind
// a proxy that forbids things. The figures go to target/transports.json and target/transports.md.

import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launch } from "../browser/person.js";
import { request } from "../lib/raw.js";
import { startServer } from "../lib/server.js";
import { until, within } from "../lib/wait.js";
import { RULES, startProxy } from "../proxy/proxy.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
const SETTLED = 60_000;
const MESSAGES = 1_000;

/**
 * Where each network ends, and what it went through, as `page.js` records it: a way that is in use, or
 * the transport to which an upgrade failed. Each needs what the server may lack.
 */
const CELLS = [
  { rule: "pass", way: "websocket" },
  { rule: "no WebSocket", way: "streaming", needs: ["streaming"] },
  { rule: "buffered", way: "polling", through: /no streaming/, needs: ["streaming"] },
  { rule: "cut at 5 s", way: "polling", through: /streaming.*polling/, needs: ["streaming"] },
  { rule: "cut at 1 s", way: "short-polling", needs: ["streaming"] },
  { rule: "API alone", way: "api", needs: ["api"] },
];

let server;
let browser;
let files;
const has = {};
const figures = [];
const open = [];

before(async () => {
  [server, browser, files] = await Promise.all([
    startServer(["--transports", "polling,websocket,streaming", "--http-calls"]),
    launch(),
    pageFiles(),
  ]);
  const stream = new AbortController();
  const streaming = await fetch(`${server.url}/socket.io/?EIO=4&transport=streaming`, { signal: stream.signal });
  has.streaming = streaming.ok;
  stream.abort();
  const api = await request(server, { method: "POST", query: { path: "/socket.io/call/message-with-ack" }, body: "[1]" });
  has.api = api.status === 200;
});
after(async () => {
  await browser?.close();
  await Promise.all(open.map((proxy) => proxy.close()));
  await server?.stop();
  await report();
});

/** The page and its modules, by path. */
async function pageFiles() {
  const tests = join(root, "tests");
  const dist = join(root, "packages/transports/dist");
  const script = "text/javascript";
  const modules = ["index", "polling", "streaming", "fallback", "http", "lessons", "packet", "event-stream"];
  const list = [
    ["/page/", join(tests, "transports/page.html"), "text/html"],
    ["/page/page.js", join(tests, "transports/page.js"), script],
    ["/page/socket.io.js", join(tests, "node_modules/sio4/dist/socket.io.esm.min.js"), script],
    ["/page/engine.io.js", join(tests, "node_modules/eio6/dist/engine.io.esm.min.js"), script],
    ...modules.map((name) => [`/page/transports/${name}.js`, join(dist, `${name}.js`), script]),
  ];
  return new Map(await Promise.all(list.map(async ([path, file, type]) => [path, { type, body: await readFile(file) }])));
}

async function visit(rule, query = "") {
  const proxy = await startProxy(server.port, { rule: RULES[rule], files: (path) => files.get(path.split("?")[0]) });
  open.push(proxy);
  const page = await browser.newPage();
  await page.goto(`${proxy.url}/page/${query}`);
  await page.waitForFunction(() => window.page);
  return { proxy, page };
}

/** Waits until the page is where this network ends. */
async function settles(page, way, { through = /(?:)/, from = 0 } = {}) {
  let seen;
  const isThere = async () => {
    seen = await page.evaluate(() => ({ way: window.page.way, history: window.page.history }));
    return seen.way === way && through.test(seen.history.slice(from).join(" "));
  };
  try {
    await until(isThere, way, SETTLED);
  } catch {
    assert.fail(`not ${way}, but ${seen.way} after ${seen.history.join(", ")}`);
  }
  return seen.history.length;
}

const lacks = (needs = []) => needs.filter((need) => !has[need]).join(", ");
const numbers = (count, from = 0) => Array.from({ length: count }, (_, i) => from + i);

for (const { rule, way, through, needs } of CELLS) {
  test(`${rule}: ${way}, nothing lost or doubled`, async (t) => {
    if (lacks(needs)) return t.skip(`the server has no ${lacks(needs)}`);
    const start = Date.now();
    const { page, proxy } = await visit(rule);
    await settles(page, way, { through });
    const settled = Date.now() - start;
    const figure = { rule, way, settled };
    if (way === "api") {
      const began = Date.now();
      const answers = [];
      for (let i = 0; i < MESSAGES; i += 50) {
        answers.push(...(await page.evaluate((i) => window.page.calls(50, i), i)));
      }
      assert.deepEqual(answers, numbers(MESSAGES));
      figure.thousand = Date.now() - began;
    } else {
      const messages = page.evaluate((count) => window.page.messages(count), MESSAGES);
      const { received, milliseconds } = await within(messages, () => "1,000 messages each way", SETTLED);
      assert.deepEqual(received, numbers(MESSAGES));
      const flood = page.evaluate((count) => window.page.flood(count), MESSAGES);
      assert.deepEqual(await within(flood, () => "1,000 messages down", SETTLED), numbers(MESSAGES));
      figure.thousand = Math.round(milliseconds);
    }
    assert.equal(await page.evaluate(() => window.page.way), way, "it has stayed");
    figure.first = Math.round(await page.evaluate(() => window.page.first));
    figure.history = await page.evaluate(() => window.page.history);
    figure.requests = Object.fromEntries(proxy.requests);
    figures.push(figure);
    await page.close();
  });
}

test("the rule changes under a live connection: no call stays without an answer", async (t) => {
  if (lacks(["streaming", "api"])) return t.skip(`the server has no ${lacks(["streaming", "api"])}`);
  const { page, proxy } = await visit("pass", "?probeTimeout=1000&silence=3000");
  let from = await settles(page, "websocket");
  const calls = [];
  const burst = () => calls.push(page.evaluate((from) => window.page.calls(20, from), calls.length * 20));
  const changes = [
    ["no WebSocket", "streaming"],
    ["buffered", "polling", /polling/],
    ["cut at 1 s", "short-polling"],
    ["API alone", "api"],
    ["nothing", "none"],
    ["API alone", "api"],
    ["pass", "websocket"],
  ];
  const live = [];
  for (const [rule, way, through] of changes) {
    burst(); // on their way when the rule changes
    const start = Date.now();
    proxy.rule = RULES[rule];
    burst();
    // Whether the API works is known from calls alone.
    const asking = setInterval(() => ["API alone", "nothing"].includes(rule) && burst(), 1_000);
    from = await settles(page, way, { through, from }).finally(() => clearInterval(asking));
    live.push({ rule, way, settled: Date.now() - start });
  }
  burst();
  const answers = (await within(Promise.all(calls), () => "all calls", SETTLED)).flat();
  const errors = answers.filter((answer, i) => answer !== i);
  assert.deepEqual(errors.filter((code) => !["lost", "timeout", "unreachable", "refused"].includes(code)), []);
  assert.deepEqual(answers.slice(-20), numbers(20, answers.length - 20), "the last, over WebSocket again");
  figures.push({ live, calls: answers.length, rejected: errors.length });
  await page.close();
});

async function report() {
  await mkdir(target, { recursive: true });
  await writeFile(join(target, "transports.json"), JSON.stringify(figures, null, 2));
  const rows = figures.filter(({ rule }) => rule).map(
    ({ rule, way, first, settled, thousand }) => `| ${rule} | ${way} | ${first} | ${settled} | ${thousand} |`,
  );
  const lines = [
    "| network | settled on | first message, ms | settled after, ms | 1,000 messages each way, ms |",
    "|---|---|---|---|---|",
    ...rows,
  ];
  const changed = figures.find(({ live }) => live);
  if (changed) {
    lines.push("", "With `probeTimeout` 1 s and `silence` 3 s:", "", "| the network becomes | next transport | after, ms |", "|---|---|---|");
    for (const { rule, way, settled } of changed.live) lines.push(`| ${rule} | ${way} | ${settled} |`);
    lines.push("", `${changed.calls} calls during these changes: ${changed.rejected} rejected, none without an answer.`);
  }
  await writeFile(join(target, "transports.md"), lines.join("\n") + "\n");
}
