// Namespaces that clients cause, listeners, and sockets that the server has fetched.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { also, ask, clients, collect, connected, modes, open, settled } from "../lib/clients.js";
import { startServer } from "../lib/server.js";
import { next, until } from "../lib/wait.js";

let server;
let sockets = [];
before(async () => (server = await startServer()));
after(() => server.stop());
afterEach(() => {
  sockets.forEach((socket) => socket.disconnect());
  sockets = [];
});

for (const client of Object.values(clients)) {
  for (const mode of Object.keys(modes)) {
    const opened = (options) => {
      const socket = open(client, server, { mode, ...options });
      sockets.push(socket);
      return socket;
    };
    const connect = (options) => connected(opened(options), mode);
    let rooms = 0;
    const name = () => `/room-${client.name.slice(-5)}-${mode}-${rooms++}`;

    describe(`${client.name}, ${mode}`, () => {
      test("the first that asks for a name makes its namespace, and others join it", async () => {
        const nsp = name();
        const [a, b] = [await connect({ nsp }), await connect({ nsp })];
        const heard = collect(b, "broadcast");
        a.emit("broadcast", "hello");
        await settled(a, b);
        assert.deepEqual(heard, [["hello"]]);
        assert.deepEqual(await ask(a, "which-room"), [nsp.slice("/room-".length)]);
        assert.equal((await ask(a, "which-room"))[0].includes("/"), false);
      });

      test("several on one connection, and what is emitted to their parent reaches all", async () => {
        const root = opened();
        const [a, b] = [also(client, root, name()), also(client, root, name())];
        await Promise.all([next(a, "connect"), next(b, "connect")]);
        await connected(root, mode);
        const heard = [a, b, root].map((socket) => collect(socket, "to-all"));
        await ask(a, "to-all-rooms", "to-all", 1);
        await settled(a, b, root);
        assert.deepEqual(heard, [[[1]], [[1]], []]);
      });

      test("a name that fits nothing is refused, and harms nothing", async () => {
        const root = opened();
        for (const nsp of ["/room-", "/room-1/2", "/rooms"]) {
          const refused = also(client, root, nsp);
          const event = client.revision === 3 ? "error" : "connect_error";
          const [error] = await next(refused, event);
          assert.equal(error.message ?? error, "Invalid namespace", nsp);
        }
        await settled(await connected(root, mode));
      });

      test("a function sees name and auth", async () => {
        const root = opened();
        const nsp = `/tenant-${name().slice(1)}`;
        const wrong = also(client, root, nsp, { token: "wrong" });
        const [error] = await next(wrong, client.revision === 3 ? "error" : "connect_error");
        assert.equal(error.message ?? error, "Invalid namespace");
        const admitted = await connect({ nsp, auth: { token: "secret" } });
        await settled(admitted);
      });

      test("it leaves, and comes again", async () => {
        const root = opened();
        await connected(root, mode);
        const nsp = name();
        const socket = also(client, root, nsp);
        for (let i = 0; i < 3; i++) {
          if (i > 0) socket.connect();
          if (!socket.connected) await next(socket, "connect");
          const [{ id }] = await ask(socket, "whoami");
          server.log.length = 0; // clients of 2.x have the same id again
          socket.disconnect();
          await server.entry({ nsp, id, event: "disconnect" });
        }
        await settled(root);
      });

      test("a middleware changes an event, and what is prepended comes first", async () => {
        const socket = await connect();
        const [back, two] = [collect(socket, "message-back"), collect(socket, "two-back")];
        socket.emit("old-message", 1, "a");
        socket.emit("two");
        await settled(socket);
        assert.deepEqual([back, two], [[[1, "a"]], [["first"], ["second"]]]);
        await ask(socket, "off-all");
        socket.emit("two");
        await settled(socket);
        assert.equal(two.length, 2);
      });

      test("`send` is the event `message`", async () => {
        const socket = await connect();
        const heard = collect(socket, "message");
        socket.emit("say", 1, "a");
        await settled(socket);
        assert.deepEqual(heard, [[1, "a"]]);
      });

      test("sockets are fetched, told and moved", async () => {
        const [a, b] = [await connect(), await connect()];
        const [from, to] = [`from ${a.id}`, `to ${a.id}`];
        await ask(a, "join", from);
        await ask(b, "join", from);
        const ids = [a, b].map(({ id }) => id).sort();
        assert.deepEqual((await ask(a, "who-is-in", from))[0].sort(), ids);
        const moved = [next(a, "moved"), next(b, "moved")];
        await ask(a, "move", from, to, "moved");
        assert.deepEqual(await Promise.all(moved), [[to], [to]]);
        assert.deepEqual((await ask(a, "who-is-in", to))[0].sort(), ids);
        assert.deepEqual(await ask(a, "who-is-in", from), [[]]);
      });

      test("the server is told of the upgrade, and closes the transport without a word", async () => {
        const socket = await connect();
        const expected = mode === "upgrade" ? "websocket" : null;
        await until(async () => (await ask(socket, "upgraded"))[0] === expected, "the upgrade");
        const { id } = socket;
        const left = next(socket, "disconnect");
        socket.emit("close-transport");
        assert.equal((await left)[0], "transport close");
        await server.entry({ id, event: "disconnect", reason: "forced close" });
      });
    });
  }
}
