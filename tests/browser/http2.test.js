// A page over HTTP/2: its polls and its WebSocket are streams of one connection (RFC 8441).

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { isReference, startServer } from "../lib/server.js";
import { Authority } from "../lib/tls.js";
import { until, within } from "../lib/wait.js";
import { launch } from "./person.js";

let browser;
let server;
before(async () => {
  if (isReference) return;
  [browser, server] = await Promise.all([launch(), startServer([...new Authority().flags, "--compression", 1024])]);
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Runs in the page: a text and bytes there and back, and over which transport and protocols. */
async function talk([transports, text]) {
  const socket = window.io({ transports, reconnection: false });
  await new Promise((resolve, reject) => {
    socket.on("connect", resolve);
    socket.on("connect_error", (error) => reject(new Error(`${error}: ${error.description}`)));
  });
  if (transports.length > 1) await new Promise((resolve) => socket.io.engine.once("upgrade", resolve));
  const back = await socket.emitWithAck("message-with-ack", text);
  const bytes = await socket.emitWithAck("message-with-ack", new Uint8Array(300_000).fill(7));
  const polls = performance.getEntriesByType("resource").filter(({ name }) => name.includes("EIO=4"));
  const protocols = [...new Set(polls.map(({ nextHopProtocol }) => nextHopProtocol))];
  const transport = socket.io.engine.transport.name;
  const same = back === text && new Uint8Array(bytes).every((byte) => byte === 7);
  window.socket = socket;
  return { same, transport, protocols };
}

/** A page of the server's origin, with the client. What is said of its WebSockets' handshakes is noted. */
async function visit() {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();
  const devtools = await context.newCDPSession(page);
  await devtools.send("Network.enable");
  const handshakes = [];
  devtools.on("Network.webSocketHandshakeResponseReceived", ({ response }) => handshakes.push(response));
  // The server's own 404.
  const answer = await page.goto(`https://${server.host}/`);
  assert.equal(answer.status(), 404);
  const path = new URL("../node_modules/sio4/dist/socket.io.js", import.meta.url);
  await page.addScriptTag({ content: await readFile(fileURLToPath(path), "utf8") });
  return { page, handshakes, close: () => context.close() };
}

const TEXT = "tick tock é🦀 ".repeat(5_000);

for (const transports of [["polling"], ["polling", "websocket"], ["websocket"]]) {
  test(`${transports.join(" and ")} over HTTP/2`, { skip: isReference }, async () => {
    const { page, handshakes, close } = await visit();
    const got = await within(page.evaluate(talk, [transports, TEXT]), () => "the talk of the page");
    const transport = transports.at(-1);
    const protocols = transports.includes("polling") ? ["h2"] : [];
    assert.deepEqual(got, { same: true, transport, protocols });
    if (transport === "websocket") {
      await until(() => handshakes.length > 0, "the handshake");
      const [{ status, headers }] = handshakes;
      // With HTTP/1.1 it would be 101.
      assert.equal(status, 200);
      const extensions = Object.entries(headers).find(([name]) => name.toLowerCase() === "sec-websocket-extensions");
      assert.match(extensions[1], /^permessage-deflate/);
    }
    // The session ends with its page.
    const id = await page.evaluate(() => window.socket.id);
    await close();
    await server.entry({ id, event: "disconnect" });
  });
}
