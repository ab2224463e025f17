// Compressed messages (docs/protocol.md 22): the whole suite, and what every client puts on the wire.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, clients, compressing, connected, msgpack, open } from "../lib/clients.js";
import { tcpProxy } from "../lib/proxy.js";
import { startServer } from "../lib/server.js";
import { suite } from "./suite.js";

suite(compressing);

const LARGE = ["tick tock ".repeat(20_000), Buffer.alloc(200_000, 7)];
const LENGTH = 400_000;

/** What passes on the way there and back of large messages. */
async function echoed(client, flags) {
  const server = await startServer([...flags, ...(client.flags ?? [])]);
  const proxy = await tcpProxy(server.port);
  const socket = await connected(open(client, proxy));
  const before = { ...proxy.passed };
  for (const value of LARGE) {
    assert.deepEqual(await ask(socket, "message-with-ack", value), [value]);
  }
  const { fromClients, fromServer, extensions } = proxy.passed;
  socket.disconnect();
  await proxy.close();
  await server.stop();
  return {
    sent: fromClients - before.fromClients,
    received: fromServer - before.fromServer,
    extensions,
  };
}

for (const client of [...Object.values(clients), msgpack]) {
  test(`${client.name}: large messages are compressed both ways`, async () => {
    const { sent, received, extensions } = await echoed(client, ["--compression", 1024]);
    assert.match(extensions, /^permessage-deflate(;|$)/);
    assert.ok(sent < LENGTH / 20, `the client sent ${sent} bytes`);
    assert.ok(received < LENGTH / 20, `the server sent ${received} bytes`);
  });

  test(`${client.name}: nothing is compressed unless the server wants it`, async () => {
    const { sent, received, extensions } = await echoed(client, []);
    assert.equal(extensions, undefined);
    assert.ok(sent > LENGTH && received > LENGTH, `${sent} and ${received} bytes`);
  });
}
