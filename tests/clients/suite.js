// What every stock client must be able to do, over every transport.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { also, ask, collect, connected, modes, open, settled, transportOf } from "../lib/clients.js";
import { tcpProxy } from "../lib/proxy.js";
import { oursOnly, startServer } from "../lib/server.js";
import { next, until } from "../lib/wait.js";

const TEXTS = [
  "plain",
  "🦀 é 漢字 👩‍👩‍👧 \u{10FFFF}",
  'quote " backslash \\ newline \n tab \t nul \0 separator \x1e line \u2028',
  "",
  "5:hello", // looks like a payload of revision 3
  "🦀".repeat(30_000),
];

const BYTES = [Buffer.from([1, 2, 3, 4]), Buffer.from([0x1e, 0x00, 0xff, 0x04]), Buffer.alloc(0)];
const NESTED = [
  { a: BYTES[0], list: [BYTES[1], { deep: [{ b: BYTES[2] }] }], text: "x" },
  "between",
  Buffer.alloc(50_000, 7),
];

export function suite(client) {
  let server;
  let sockets = [];
  const isOld = client.revision === 3;

  before(async () => (server = await startServer(client.flags)));
  after(async () => assert.equal(await server.stop(), 0, "SIGTERM ends the server in order"));
  afterEach(() => {
    sockets.forEach((socket) => socket.disconnect());
    sockets = [];
  });

  /** A socket that isn't connected yet. */
  function opening(options) {
    const socket = open(client, server, options);
    sockets.push(socket);
    return socket;
  }

  for (const mode of Object.keys(modes)) {
    const opened = (options) => opening({ mode, ...options });
    const join = async (socket, ...rooms) => {
      for (const room of rooms) await ask(socket, "join", room);
    };
    const connect = (options) => connected(opened(options), mode);

    describe(`${client.name}, ${mode}`, () => {
      test("connects", async () => {
        const socket = await connect();
        const [whoami] = await ask(socket, "whoami");
        const transport = mode === "polling" ? "polling" : "websocket";
        assert.deepEqual(whoami, { id: socket.id, transport, revision: client.revision });
        assert.equal(transportOf(socket), transport);
        // The session's id is its credential: since revision 4 it is not the socket's id.
        assert.equal(socket.id === socket.io.engine.id, isOld);
      });

      test("what an application has in its query is its own", async () => {
        // The names that this server's extensions had once, and what a stock client knows nothing of.
        const names = ["offset", "wait", "interval", "antiphon-wait", "antiphon-interval", "antiphon-post"];
        const query = Object.fromEntries(names.map((name) => [name, "1m"]));
        const socket = await connect({ query: { ...query, offset: 0, wait: 0 } });
        const received = collect(socket, "message-back");
        for (const value of ["a", "b", "c"]) assert.deepEqual(await ask(socket, "message-with-ack", value), [value]);
        for (const value of ["a", "b", "c"]) socket.emit("message", value);
        await settled(socket);
        assert.deepEqual(received, [["a"], ["b"], ["c"]]);
      });

      test("events carry any number of arguments of any type", async () => {
        const socket = await connect();
        // The msgpack parser writes garbage for what is beyond 64 bits.
        const large = client.options?.parser ? 2 ** 53 : 1e21;
        for (const args of [
          [],
          [null],
          ["a", 1, -2.5, large, true, false, null, { nested: [1, { x: "y" }], "": {} }, []],
          Array.from({ length: 50 }, (_, i) => i),
        ]) {
          socket.emit("message", ...args);
          assert.deepEqual(await next(socket, "message-back"), args);
        }
      });

      test("text of every kind arrives unchanged", async () => {
        const socket = await connect();
        const received = collect(socket, "message-back");
        for (const text of TEXTS) socket.emit("message", text);
        await settled(socket);
        assert.deepEqual(received.flat(), TEXTS);
      });

      test("binary arrives unchanged, nested anywhere, both ways", async () => {
        const socket = await connect();
        const received = collect(socket, "message-back");
        socket.emit("message", ...NESTED);
        for (const bytes of BYTES) socket.emit("message", bytes);
        await settled(socket);
        assert.deepEqual(received, [NESTED, ...BYTES.map((bytes) => [bytes])]);
      });

      test("the server acknowledges", async () => {
        const socket = await connect();
        assert.deepEqual(await ask(socket, "message-with-ack"), []);
        assert.deepEqual(await ask(socket, "message-with-ack", 1, "2", [3]), [1, "2", [3]]);
        assert.deepEqual(await ask(socket, "message-with-ack", ...NESTED), NESTED);
      });

      test("many acknowledgements under way are told apart", async () => {
        const socket = await connect();
        const numbers = Array.from({ length: 100 }, (_, i) => i);
        const answers = numbers.map((i) => ask(socket, "message-with-ack", i, Buffer.from([i])));
        const expected = numbers.map((i) => [i, Buffer.from([i])]);
        assert.deepEqual(await Promise.all(answers), expected);
      });

      test("the client acknowledges", async () => {
        const socket = await connect();
        for (const args of [["a", 1, { b: [2] }], NESTED]) {
          const asked = new Promise((resolve) => {
            socket.once("emit-with-ack", (...received) => {
              received.pop()(...args);
              resolve(received);
            });
          });
          socket.emit("emit-with-ack", ...args);
          assert.deepEqual(await asked, args, "what the server emitted");
          assert.deepEqual(await next(socket, "emit-with-ack"), args, "what was acknowledged");
        }
      });

      test("an acknowledgement that doesn't come times out at the server", async () => {
        const socket = await connect();
        socket.emit("ask", 50);
        assert.deepEqual(await next(socket, "answer"), ["timeout"]);
        socket.on("question", (ack) => ack(42));
        socket.emit("ask", 5_000);
        assert.deepEqual(await next(socket, "answer"), [42]);
      });

      test("a namespace has its own socket, auth and events, on one connection", async () => {
        const root = opened();
        const credentials = { token: "a b&c", user: client.isV1 ? "e" : "é" };
        const chat = also(client, root, "/chat", credentials);
        const custom = also(client, root, "/custom");
        const all = [root, chat, custom];
        const auths = all.map((socket) => next(socket, "auth"));
        assert.deepEqual(await Promise.all(auths), [[{}], [credentials], [{}]]);
        await connected(root, mode);

        const ids = await Promise.all(all.map(async (socket) => (await ask(socket, "whoami"))[0].id));
        assert.equal(new Set(ids).size, 3);
        if (isOld) assert.equal(ids[1], `/chat#${root.io.engine.id}`);
        if (!client.isV1) assert.deepEqual(ids, all.map((socket) => socket.id));

        const received = all.map((socket) => collect(socket, "message-back"));
        chat.emit("message", "to chat");
        custom.emit("message", "to custom", Buffer.from([1]));
        await settled(...all);
        assert.deepEqual(received, [[], [["to chat"]], [["to custom", Buffer.from([1])]]]);

        // Leaving one leaves the others.
        const reason = "client namespace disconnect";
        chat.disconnect();
        await server.entry({ nsp: "/chat", id: ids[1], event: "disconnect", reason });
        await settled(root, custom);
        custom.disconnect();
      });

      test("rooms, their union, exceptions and broadcasts", async () => {
        const [a, b, c] = await Promise.all([connect(), connect(), connect()]);
        const [red, blue] = [`red ${a.id}`, `blue ${a.id}`];
        await join(a, red);
        await join(b, red, blue);
        await join(c, blue);
        const [rooms] = await ask(b, "rooms");
        assert.deepEqual(rooms.sort(), [b.id, red, blue].sort());

        const received = [a, b, c].map((socket) => collect(socket, "hello"));
        const expect = async (expected, why) => {
          // The emit and its deliveries are done when the emitter has been answered.
          await settled(a, b, c);
          assert.deepEqual(received.map((list) => list.splice(0).flat()), expected, why);
        };
        a.emit("to", [red], "hello", 1);
        await expect([[], [1], []], "not to the sender");
        a.emit("to", [red, blue], "hello", 2);
        await expect([[], [2], [2]], "in both rooms: once");
        a.emit("to", [c.id], "hello", 3);
        await expect([[], [], [3]], "the room of a socket's own id");
        a.emit("io-to", [red, blue], [], "hello", 4);
        await expect([[4], [4], [4]], "from the server: to the sender too");
        a.emit("io-to", [red, blue], [blue], "hello", 5);
        await expect([[5], [], []], "but not to the excepted room");
        a.emit("io-to", [blue], [c.id], "hello", Buffer.from([6]));
        await expect([[], [Buffer.from([6])], []], "but not to the excepted socket");
        a.emit("io-to", [], [red], "hello", 7);
        await expect([[], [], [7]], "no rooms: everyone but the excepted");
        await ask(b, "leave", blue);
        a.emit("to", [blue], "hello", 8);
        await expect([[], [], [8]], "not to who has left");
        a.emit("to", ["nobody is here"], "hello", 9);
        await expect([[], [], []], "an empty room");

        const broadcasts = [a, b, c].map((socket) => collect(socket, "broadcast"));
        a.emit("broadcast", "x", BYTES[0]);
        await settled(a, b, c);
        assert.deepEqual(broadcasts, [[], [["x", BYTES[0]]], [["x", BYTES[0]]]]);
      });

      test("a room can be asked, and who doesn't answer is left out", async () => {
        const [a, b, c] = await Promise.all([connect(), connect(), connect()]);
        const room = `asked ${a.id}`;
        await Promise.all([a, b, c].map((socket) => join(socket, room)));
        a.on("question", (ack) => ack("a"));
        b.on("question", (ack) => ack("b"));
        // How soon the others answer depends on the machine.
        let answers;
        for (let time = 100; answers?.length !== 2 && time < 30_000; time *= 4) {
          answers = (await ask(a, "ask-room", room, time))[0].sort();
        }
        assert.deepEqual(answers, ["a", "b"]);
        c.on("question", (ack) => ack("c"));
        assert.deepEqual((await ask(a, "ask-room", room, 5_000))[0].sort(), ["a", "b", "c"]);
      });

      test("1,000 events keep their order both ways, also across the upgrade", async () => {
        for (const delay of mode === "upgrade" ? [0, 2, 5, 20] : [0]) {
          // The WebSocket is slowed down, for its upgrade to fall into the middle of the events.
          const proxy = await tcpProxy(server.port, { webSocketDelay: delay });
          const socket = open(client, proxy, { mode });
          sockets.push(socket);
          const returned = collect(socket, "message-back");
          const flooded = collect(socket, "flood");
          await next(socket, "connect");
          let sent = 0;
          let onPolling = 0;
          while (sent < 1_000) {
            for (let i = 0; i < 5; i++, sent++) {
              socket.emit("ordered", sent);
              socket.emit("message", sent);
            }
            if (transportOf(socket) === "polling") onPolling = sent;
            await new Promise(setImmediate);
          }
          await connected(socket, mode);
          const [order] = await ask(socket, "order");
          const numbers = Array.from({ length: sent }, (_, i) => i);
          assert.deepEqual(order, numbers, "the server's handlers start in order");
          await until(() => returned.length >= sent, `${sent} events back`);
          assert.deepEqual(returned.flat(), numbers, "the client's handlers run in order");
          if (delay > 0 && !client.isSealed) assert.ok(onPolling > 0, "some went over polling");

          socket.emit("flood", 1_000);
          socket.emit("flood-binary", 200);
          await settled(socket);
          const expected = Array.from({ length: 1_000 }, (_, i) => [i]);
          for (let i = 0; i < 200; i++) expected.push([i, Buffer.from([i]), Buffer.from([i, 1])]);
          assert.deepEqual(flooded, expected);
          socket.disconnect();
          await proxy.close();
        }
      });

      test("a flood from the server survives the upgrade in order", async () => {
        const proxy = await tcpProxy(server.port, { webSocketDelay: 5 });
        const socket = open(client, proxy, { mode });
        sockets.push(socket);
        const flooded = collect(socket, "flood");
        await next(socket, "connect");
        // As many as it takes to have some of them under way during the upgrade.
        let floods = 0;
        do {
          socket.emit("flood-binary", 50);
          floods++;
          await settled(socket);
        } while (floods < 3 || (mode === "upgrade" && transportOf(socket) !== "websocket"));
        socket.emit("flood-binary", 50);
        await settled(socket);
        const once = Array.from({ length: 50 }, (_, i) => [i, Buffer.from([i]), Buffer.from([i, 1])]);
        assert.deepEqual(flooded, Array.from({ length: floods + 1 }, () => once).flat());
        socket.disconnect();
        await proxy.close();
      });

      test("the client leaves: both sides say why, `disconnecting` still has the rooms", async () => {
        const socket = await connect({ nsp: "/chat" });
        const [{ id }] = await ask(socket, "whoami");
        await join(socket, "lobby");
        const left = next(socket, "disconnect");
        socket.disconnect();
        assert.equal((await left)[0], "io client disconnect");
        const reason = "client namespace disconnect";
        const leaving = await server.entry({ nsp: "/chat", id, event: "disconnecting", reason });
        assert.deepEqual(leaving.rooms.sort(), [id, "lobby"].sort());
        const gone = await server.entry({ nsp: "/chat", id, event: "disconnect", reason });
        assert.deepEqual(gone.rooms, []);
        assert.ok(server.log.indexOf(leaving) < server.log.indexOf(gone));
        assert.equal(server.log.filter((entry) => entry.id === id).length, 2, "once each");
      });

      test("the server sends a socket away: both sides say why, the connection stays", async () => {
        const root = opened();
        const chat = also(client, root, "/chat");
        await next(chat, "connect");
        await connected(root, mode);
        const [{ id }] = await ask(chat, "whoami");
        const left = next(chat, "disconnect");
        chat.emit("disconnect-me");
        assert.equal((await left)[0], "io server disconnect");
        await server.entry({ id, event: "disconnect", reason: "server namespace disconnect" });
        await settled(root);
      });

      test("the server closes the whole connection", async () => {
        const root = opened();
        const chat = also(client, root, "/chat");
        await next(chat, "connect");
        await connected(root, mode);
        const both = [root, chat];
        const ids = await Promise.all(both.map(async (socket) => (await ask(socket, "whoami"))[0].id));
        const left = both.map((socket) => next(socket, "disconnect"));
        chat.emit("close-me");
        for (const [reason] of await Promise.all(left)) assert.equal(reason, "io server disconnect");
        for (const id of ids) {
          await server.entry({ id, event: "disconnect", reason: "server namespace disconnect" });
        }
        await until(() => root.io.engine.readyState === "closed", "the connection is closed");
      });

      test("the client's connection ends: `transport close` at the server", async () => {
        const socket = await connect();
        const { id } = socket;
        socket.io.engine.close();
        await server.entry({ id, event: "disconnect", reason: "transport close" });
      });

      test("the network is cut: both sides notice, the client comes back", async () => {
        const proxy = await tcpProxy(server.port);
        const fast = { reconnection: true, reconnectionDelay: 10, reconnectionDelayMax: 50 };
        const socket = open(client, proxy, { mode, ...fast });
        sockets.push(socket);
        try {
          await connected(socket, mode);
          const { id } = socket;
          await join(socket, "before");
          const left = next(socket, "disconnect");
          await (mode === "polling" && !client.isSealed && proxy.pending());
          proxy.cut();
          const reason = mode === "polling" ? "transport error" : "transport close";
          assert.equal((await left)[0], reason);
          socket.emit("message", "emitted while it was away");
          proxy.restore();
          const back = next(socket, "message-back");
          await connected(socket, mode);
          assert.deepEqual(await back, ["emitted while it was away"]);
          assert.notEqual(socket.id, id);
          assert.deepEqual(await ask(socket, "rooms"), [[socket.id]]);
          const gone = await server.entry({ id, event: "disconnect" });
          // The client's last POST says `1`, and may be there before the end of its GET.
          assert.ok([reason, "transport close"].includes(gone.reason), gone.reason);
        } finally {
          socket.disconnect();
          await proxy.close();
        }
      });

      /** The message and data of the refusal that the socket gets. */
      const refusal = async (socket) => {
        const [error] = await next(socket, isOld ? "error" : "connect_error");
        return isOld ? error : { message: error.message, data: error.data };
      };

      test("a middleware refuses with a message and data, or lets in", async () => {
        const root = opened();
        const refused = also(client, root, "/auth", { token: "wrong" });
        const data = { code: "E_AUTH" };
        assert.deepEqual(await refusal(refused), isOld ? data : { message: "not authorized", data });
        assert.ok(!refused.connected);
        // The connection isn't harmed.
        await connected(root, mode);
        await settled(root);

        const admitted = await connect({ nsp: "/auth", auth: { token: "secret" } });
        await settled(admitted);
      });

      test("an unknown namespace is refused, the connection lives", async () => {
        const root = opened();
        const unknown = also(client, root, "/nowhere");
        assert.equal((await refusal(unknown)).message, "Invalid namespace");
        assert.ok(!unknown.connected);
        await connected(root, mode);
        await settled(root);
      });

      test("events wait for an async connect handler, in order", async () => {
        const socket = opened({ nsp: "/slow-connect" });
        const received = [];
        socket.on("auth", () => received.push("auth"));
        socket.on("message-back", (i) => received.push(i));
        await next(socket, "connect");
        for (let i = 0; i < 20; i++) socket.emit("message", i);
        socket.emit("message", Buffer.from([20]));
        await settled(socket);
        assert.deepEqual(received, ["auth", ...Array(20).keys(), Buffer.from([20])]);
      });

      test("a slow handler delays no other event", async () => {
        const socket = await connect();
        const received = [];
        socket.on("slow-done", (x) => received.push(x));
        socket.on("message-back", (x) => received.push(x));
        socket.emit("slow", 200, "slow");
        socket.emit("message", "quick");
        await until(() => received.length === 2, "both answers");
        assert.deepEqual(received, ["quick", "slow"]);
      });

      test("once, off and several handlers of one event", async () => {
        const socket = await connect();
        const received = [];
        for (const event of ["once-back", "removable-back", "twice-1", "twice-2"]) {
          socket.on(event, () => received.push(event));
        }
        for (const event of ["once", "once", "removable", "removable"]) socket.emit(event);
        await ask(socket, "off");
        for (const event of ["removable", "twice", "once"]) socket.emit(event);
        await settled(socket);
        const expected = ["once-back", "removable-back", "removable-back", "twice-1", "twice-2"];
        assert.deepEqual(received, expected);
      });

      test("catch-all handlers see what comes in and goes out", async () => {
        const socket = await connect();
        await ask(socket, "seen");
        await ask(socket, "sent");
        socket.emit("message", 1);
        socket.emit("no handler for this");
        socket.emit("twice");
        assert.deepEqual(await ask(socket, "sent"), [["message-back", "twice-1", "twice-2"]]);
        const seen = ["sent", "message", "no handler for this", "twice", "sent", "seen"];
        assert.deepEqual(await ask(socket, "seen"), [seen]);
      });

      test("a packet middleware keeps events from their handlers", async () => {
        const socket = await connect();
        const received = collect(socket, "forbidden-back");
        socket.emit("forbidden", 1);
        await settled(socket);
        assert.deepEqual(received, []);
      });

      test("errors of a call are acknowledged", { skip: oursOnly }, async () => {
        const socket = await connect();
        const error = async (...call) => (await ask(socket, ...call))[0].error;
        assert.ok((await error("forbidden")).message);
        assert.match((await error("add", 1, "x")).path, /1/);
        assert.equal((await error("no handler for this")).code, "unknown_event");
        assert.ok((await error("panic")).code);
        assert.deepEqual(await ask(socket, "add", 1, 2), [3]);
      });

      test("the connection survives a panic in a handler", async () => {
        const socket = await connect();
        socket.emit("panic");
        await settled(socket);
        assert.ok(server.isRunning);
      });

      test("volatile events may be dropped, but keep their order", async () => {
        const socket = await connect();
        const received = collect(socket, "volatile").flat();
        socket.on("volatile", (i) => received.push(i));
        const end = next(socket, "volatile-end");
        socket.emit("volatile", 100);
        await end;
        assert.ok(received.every((i, at) => at === 0 || received[at - 1] < i), `${received}`);
        assert.ok(received.length <= 100);
      });
    });
  }
}
