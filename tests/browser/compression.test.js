// Compressed messages between a real browser and the server (docs/protocol.md 22).

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { RULES, startProxy } from "../proxy/proxy.js";
import { tcpProxy } from "../lib/proxy.js";
import { startServer } from "../lib/server.js";
import { within } from "../lib/wait.js";
import { launch } from "./person.js";

let browser;
let server;
/** Sees what passes. */
let wire;
/** In front of it, with the page. */
let site;

before(async () => {
  [browser, server] = await Promise.all([launch(), startServer(["--compression", 1024])]);
  wire = await tcpProxy(server.port);
  const body = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><body>';
  const files = (path) => (path === "/page" ? { type: "text/html", body } : undefined);
  site = await startProxy(wire.port, { rule: RULES.pass, files });
});
after(async () => {
  await browser?.close();
  await site?.close();
  await wire?.close();
  await server?.stop();
});

const TEXT = "tick tock é🦀 ".repeat(20_000);
const BYTES = 300_000;

/** Runs in the page: the echoes of a text and of bytes, each as an acknowledgement. */
async function talk([text, bytes]) {
  const socket = window.io({ transports: ["websocket"], reconnection: false });
  const back = await socket.emitWithAck("message-with-ack", text);
  const binary = await socket.emitWithAck("message-with-ack", new Uint8Array(bytes).fill(7));
  const { extensions } = socket.io.engine.transport.ws;
  socket.close();
  const array = new Uint8Array(binary);
  return { text: back, bytes: array.length, isSame: array.every((byte) => byte === 7), extensions };
}

test("Chromium and the server compress large messages, and understand each other", async () => {
  const page = await browser.newPage();
  await page.goto(`${site.url}/page`);
  const path = new URL("../node_modules/sio4/dist/socket.io.js", import.meta.url);
  await page.addScriptTag({ content: await readFile(fileURLToPath(path), "utf8") });
  const before = { ...wire.passed };
  const got = await within(page.evaluate(talk, [TEXT, BYTES]), () => "the talk of the page");
  const { fromClients, fromServer, extensions } = wire.passed;
  // The browser knows it, and the response said so.
  assert.match(extensions, /^permessage-deflate(;|$)/);
  assert.match(got.extensions, /^permessage-deflate(;|$)/);
  assert.ok(got.text === TEXT, "the text came back unchanged");
  assert.deepEqual([got.bytes, got.isSame], [BYTES, true]);
  const length = Buffer.byteLength(TEXT) + BYTES;
  const [sent, received] = [fromClients - before.fromClients, fromServer - before.fromServer];
  assert.ok(sent < length / 20, `the browser sent ${sent} bytes of ${length}`);
  assert.ok(received < length / 20, `the server sent ${received} bytes of ${length}`);
  await page.close();
});
