// The server ends in order, and another one takes its place: every stock client comes back.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, clients, connected, modes, open } from "../lib/clients.js";
import { startServer } from "../lib/server.js";
import { next } from "../lib/wait.js";

test("clients of every version and transport reconnect to the next server", async () => {
  const server = await startServer();
  const fast = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 100 };
  const all = await Promise.all(
    Object.values(clients).flatMap((client) =>
      Object.keys(modes).map(async (mode) => {
        const socket = open(client, server, { mode, ...fast });
        await connected(socket, mode);
        const [{ id }] = await ask(socket, "whoami");
        return { name: `${client.name}, ${mode}`, socket, id, mode };
      }),
    ),
  );

  const left = all.map(({ socket }) => next(socket, "disconnect"));
  assert.equal(await server.stop(), 0, "the server ends by itself");
  const reasons = await Promise.all(left);
  all.forEach(({ name, id }, i) => {
    assert.equal(reasons[i][0], "transport close", name);
    const entry = server.log.find((entry) => entry.id === id && entry.event === "disconnect");
    assert.equal(entry?.reason, "server shutting down", name);
  });

  const successor = await startServer([], { port: server.port });
  await Promise.all(
    all.map(async ({ socket, id, mode }) => {
      await connected(socket, mode);
      const [whoami] = await ask(socket, "whoami");
      assert.notEqual(whoami.id, id, "a session of its own");
      socket.disconnect();
    }),
  );
  assert.equal(await successor.stop(), 0);
});
