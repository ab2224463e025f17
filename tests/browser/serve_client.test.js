// A page that loads the client from the server, as a script and as a module, and connects.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { RULES, startProxy } from "../proxy/proxy.js";
import { startServer } from "../lib/server.js";
import { within } from "../lib/wait.js";
import { launch } from "./person.js";

const dist = fileURLToPath(new URL("../node_modules/sio4/dist/", import.meta.url));

const CONNECT = `
  window.talked = new Promise((resolve, reject) => {
    const socket = io({ transports: ["polling"] });
    socket.on("connect_error", reject);
    // Large enough to come compressed.
    socket.emitWithAck("message-with-ack", "tick tock ".repeat(1000)).then(resolve, reject);
  });`;

const PAGES = {
  "/script": `<script src="/socket.io/socket.io.js"></script><script>${CONNECT}</script>`,
  "/min": `<script src="/socket.io/socket.io.min.js"></script><script>${CONNECT}</script>`,
  "/module": `<script type="module">import { io } from "/socket.io/socket.io.esm.min.js";${CONNECT}</script>`,
};

let browser;
let server;
/** In front of it, with the pages. */
let site;

before(async () => {
  [browser, server] = await Promise.all([launch(), startServer(["--client", dist])]);
  const files = (path) => {
    const body = `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><body>${PAGES[path]}`;
    return path in PAGES ? { type: "text/html", body } : undefined;
  };
  site = await startProxy(server.port, { rule: RULES.pass, files });
});
after(async () => {
  await browser?.close();
  await site?.close();
  await server?.stop();
});

for (const path of Object.keys(PAGES)) {
  test(`${path.slice(1)}: the page connects with the server's own client`, async () => {
    const page = await browser.newPage();
    const codings = new Set();
    page.on("response", (response) => codings.add(response.headers()["content-encoding"]));
    await page.goto(site.url + path);
    await page.waitForFunction(() => window.talked);
    const text = await within(page.evaluate(() => window.talked), () => "the talk of the page");
    assert.equal(text, "tick tock ".repeat(1000));
    assert.ok(codings.has("gzip"), [...codings].join());
    await page.close();
  });
}
