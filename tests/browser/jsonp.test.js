// Stock clients that poll by JSONP, in a real browser: on the server's own page and on another's.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { RULES, startProxy } from "../proxy/proxy.js";
import { oursOnly, startServer } from "../lib/server.js";
import { within } from "../lib/wait.js";
import { launch } from "./person.js";

const library = (path) => readFile(fileURLToPath(new URL(`../node_modules/${path}`, import.meta.url)), "utf8");

let browser;
/** Lets pages of the same origin in. */
let server;
/** In front of it, and it has the pages: Chromium wants them from a real address. */
let own;
/** Lets those pages in as well, from another origin. */
let open;
const libraries = {};

before(async () => {
  let sources;
  [browser, server, ...sources] = await Promise.all([
    launch(),
    startServer(),
    library("sio1/dist/socket.io.js"),
    library("sio2/dist/socket.io.dev.js"),
    library("eio3/engine.io.js"),
  ]);
  ["sio1", "sio2", "eio3"].forEach((name, i) => (libraries[name] = sources[i]));
  own = await startProxy(server.port, { rule: RULES.pass, files: file });
  open = await startServer(["--cors", own.url]);
});
after(async () => {
  await browser?.close();
  await own?.close();
  await Promise.all([server?.stop(), open?.stop()]);
});

const HEADS = { "/page": "", "/hiding": '<meta name="referrer" content="no-referrer">' };

function file(path) {
  if (!(path in HEADS)) return undefined;
  const body = `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">${HEADS[path]}<body>`;
  return { type: "text/html", body };
}

/** A page with a client's library, and what it asked the server for. */
async function visit(name, path = "/page") {
  const page = await browser.newPage();
  const asked = [];
  page.on("request", (request) => {
    if (request.url().includes("EIO=")) asked.push({ type: request.resourceType(), method: request.method() });
  });
  await page.goto(`${own.url}${path}`);
  await page.addScriptTag({ content: libraries[name] });
  return { page, asked };
}

const TEXT = 'a\nb \\n \\\\n "quotes" é🦀 \u2028\u2029 +%41&d=x';
// 1.x encodes text as UTF-8 twice over polling, see README.md.
const ASCII = 'a\nb \\n \\\\n "quotes" +%41&d=x';

/** Runs in the page: an echo of text, one of binary and an ack. */
function talk([url, options, text]) {
  return new Promise((resolve, reject) => {
    const socket = window.io(url, { forceJSONP: true, reconnection: false, ...options });
    const got = { back: [] };
    const fail = (error) => reject(new Error(error?.message ?? error));
    socket.on("connect_error", fail);
    socket.on("error", fail);
    socket.on("message-back", (value) => {
      got.back.push(value instanceof ArrayBuffer ? [...new Uint8Array(value)] : value);
      if (got.back.length < 2) return;
      socket.emit("message-with-ack", text, 7, (...args) => {
        got.ack = args;
        got.transport = socket.io.engine.transport.name;
        socket.on("disconnect", () => resolve(got));
        socket.close();
      });
    });
    const begin = () => {
      socket.emit("message", text);
      socket.emit("message", new Uint8Array([0, 1, 254, 255]).buffer);
    };
    const { transports } = { transports: ["polling"], ...options };
    socket.on("connect", () => {
      if (transports.length === 1) begin();
      else socket.io.engine.on("upgrade", begin);
    });
  });
}

const run = (page, ...args) => within(page.evaluate(talk, args), () => "the talk of the page");

function assertTalk(got, text, transport = "polling") {
  assert.deepEqual(got, { back: [text, [0, 1, 254, 255]], ack: [text, 7], transport });
}

for (const [name, text] of [["sio1", ASCII], ["sio2", TEXT]]) {
  test(`${name}: text, binary and an ack, by scripts and forms`, async () => {
    const { page, asked } = await visit(name);
    assertTalk(await run(page, own.url, { transports: ["polling"] }, text), text);
    assert.ok(asked.some(({ type, method }) => type === "script" && method === "GET"));
    assert.ok(asked.some(({ type, method }) => type === "document" && method === "POST"));
    assert.ok(asked.every(({ type }) => type === "script" || type === "document"), JSON.stringify(asked));
    await page.close();
  });

  test(`${name}: a page of another origin that is allowed`, async () => {
    const { page } = await visit(name);
    assertTalk(await run(page, open.url, { transports: ["polling"] }, text), text);
    await page.close();
  });

  test(`${name}: an upgrade to WebSocket`, async () => {
    const { page } = await visit(name);
    const options = { transports: ["polling", "websocket"] };
    assertTalk(await run(page, own.url, options, text), text, "websocket");
    await page.close();
  });
}

test("engine.io-client 3: messages of every length, and one large", async () => {
  const { page, asked } = await visit("eio3");
  const sizes = [1, 100, 100_000];
  const got = await within(
    page.evaluate(
      ([url, sizes]) =>
        new Promise((resolve, reject) => {
          const options = { path: "/engine.io", forceJSONP: true, transports: ["polling"] };
          const socket = window.eio(url, options);
          const got = [];
          socket.on("error", (error) => reject(new Error(`${error} ${error.description}`)));
          socket.on("message", (message) => {
            got.push(message.length);
            if (got.length < sizes.length) return;
            socket.on("close", () => resolve(got));
            socket.close();
          });
          socket.on("open", () => sizes.forEach((size) => socket.send('"\n'.repeat(size / 2 + 1).slice(0, size))));
        }),
      [own.url.replace("http", "ws"), sizes],
    ),
    () => "the echoes",
  );
  assert.deepEqual(got, sizes);
  assert.ok(asked.every(({ type }) => type === "script" || type === "document"));
  await page.close();
});

for (const [what, path] of [["says so", "/page"], ["hides", "/hiding"]]) {
  test(`a page of another origin that ${what} is not let in`, { skip: oursOnly }, async () => {
    const { page } = await visit("sio2", path);
    await assert.rejects(run(page, server.url, { transports: ["polling"] }, ASCII), /jsonp poll error/);
    // The status isn't shown to anyone in the browser. It isn't for other reasons:
    const any = await startServer(["--cors", "*"]);
    assertTalk(await run(page, any.url, { transports: ["polling"] }, ASCII), ASCII);
    await page.close();
    await any.stop();
  });
}
