import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { test } from "node:test";
import { withFallback } from "../dist/index.js";
import { Network } from "./scripted.js";

/** What a socket of socket.io-client shows of itself, moved by the test. */
class ScriptedSocket extends EventEmitter {
  connected = false;
  active = true;
  nsp = "/";
  io = Object.assign(new EventEmitter(), {
    engine: null,
    opts: { path: "/socket.io" },
  });
  /** Emitted events: `{ args, ack(error, value) }`. */
  sent = [];

  constructor() {
    super();
    this.io.on("error", () => {});
    this.#attempt("polling");
  }

  #attempt(name) {
    const server = { secure: false, hostname: "server.test", port: "3000" };
    this.io.engine = Object.assign(new EventEmitter(), server, { transport: { name } });
  }

  timeout() {
    return { emit: (...args) => this.sent.push({ ack: args.pop(), args }) };
  }

  connects(name = "websocket") {
    this.#attempt(name);
    this.io.emit("open");
    this.connected = true;
    this.emit("connect");
  }

  loses() {
    this.connected = false;
    this.io.emit("close", "transport close");
    this.emit("disconnect", "transport close");
    for (const { ack } of this.sent) ack(new Error("socket has been disconnected"));
  }

  fails(times = 1) {
    for (let i = 0; i < times; i++) {
      this.#attempt("polling");
      this.io.emit("error", new Error("xhr poll error"));
      this.emit("connect_error", new Error("xhr poll error"));
    }
  }
}

function calls(t, options) {
  const network = new Network(t);
  const socket = new ScriptedSocket();
  const ways = [];
  const fallback = withFallback(socket, { hold: 0, onWay: (way) => ways.push(way), ...options });
  t.after(() => fallback.close());
  return { network, socket, ways, fallback };
}

const turn = () => new Promise((resolve) => setTimeout(resolve, 5));

test("each call by the API has a name of its own, by which a server knows it when it comes again", async (t) => {
  const { network, socket, fallback } = calls(t, { attempts: 1 });
  socket.fails();
  const names = new Set();
  for (let i = 0; i < 10; i++) {
    const call = fallback.emitWithAck("x");
    const post = await network.next("POST");
    names.add(post.query.t);
    post.answer("[]");
    await call;
  }
  assert.equal(names.size, 10);
  assert.ok(!names.has(undefined));
});

test("with a connection, calls go by it", async (t) => {
  const { socket, ways, fallback } = calls(t);
  socket.connects();
  const answer = fallback.emitWithAck("add", 1, 2);
  await turn();
  assert.deepEqual(socket.sent[0].args, ["add", 1, 2]);
  socket.sent[0].ack(null, 3);
  assert.equal(await answer, 3);
  assert.deepEqual(ways, ["websocket"]);
});

test("after the attempts that failed, calls go by the API", async (t) => {
  const { network, socket, ways, fallback } = calls(t, { attempts: 2 });
  socket.nsp = "/chat/lobby";
  socket.auth = { token: "é%41" };
  socket.io.opts = { path: "/my/", extraHeaders: { "x-key": "k" } };
  const waiting = fallback.emitWithAck("a/b ü", { x: 1 });
  socket.fails(1);
  await turn();
  assert.equal(network.requests.length, 0);
  socket.fails(1);
  const post = await network.next("POST");
  assert.equal(post.path, "/my/call/chat/lobby/a%2Fb%20%C3%BC");
  assert.equal(post.body, '[{"x":1}]');
  assert.equal(post.headers.get("x-key"), "k");
  assert.match(post.headers.get("antiphon-auth"), /^[\x20-\x7e]+$/);
  assert.deepEqual(JSON.parse(decodeURIComponent(post.headers.get("antiphon-auth"))), socket.auth);
  post.answer("[7,8]");
  assert.equal(await waiting, 7);
  assert.deepEqual(ways, ["api"]);
  assert.equal(socket.sent.length, 0);
});

test("calls come back to a connection once it has held", async (t) => {
  const { network, socket, ways, fallback } = calls(t, { attempts: 1, hold: 30 });
  socket.fails();
  socket.connects("streaming");
  socket.loses(); // it hasn't held
  assert.equal(fallback.way, "api");
  socket.connects("streaming");
  const call = fallback.emitWithAck("x");
  (await network.next("POST")).answer("[]");
  assert.equal(await call, undefined);
  while (fallback.way !== "streaming") await turn();
  assert.deepEqual(ways, ["api", "streaming"]);
  void fallback.emitWithAck("y").catch(() => {});
  await turn();
  assert.equal(socket.sent.length, 1);
});

test("a connection that held and is lost is no attempt that failed", async (t) => {
  const { socket, fallback } = calls(t, { attempts: 2 });
  socket.connects();
  await turn();
  socket.loses();
  socket.fails();
  assert.equal(fallback.way, "none");
  socket.fails();
  assert.equal(fallback.way, "api");
});

test("a call under way when the connection is lost is rejected, and not sent again", async (t) => {
  const { network, socket, fallback } = calls(t, { attempts: 1 });
  socket.connects();
  const call = fallback.emitWithAck("pay");
  await turn();
  socket.loses();
  socket.fails();
  await assert.rejects(call, ({ code, wasSent }) => code === "lost" && wasSent);
  await turn();
  assert.equal(network.requests.length, 0);
});

test("no connection in time: rejected, and nothing was sent", async (t) => {
  const { socket, fallback } = calls(t, { timeout: 20 });
  await assert.rejects(fallback.emitWithAck("x"), ({ code, wasSent }) => code === "unreachable" && !wasSent);
  assert.equal(socket.sent.length, 0);
});

test("neither works: rejected, told as none, and the API is tried again", async (t) => {
  const { network, socket, ways, fallback } = calls(t, { attempts: 1 });
  socket.fails();
  const call = fallback.emitWithAck("x");
  (await network.next("POST")).cut();
  await assert.rejects(call, ({ code, message }) => code === "lost" && /neither/.test(message));
  const again = fallback.emitWithAck("x");
  (await network.next("POST")).answer("[1]");
  assert.equal(await again, 1);
  assert.deepEqual(ways, ["api", "none", "api"]);
});

test("an error of the API is given as it is; one of a proxy isn't taken for the API", async (t) => {
  const { network, socket, fallback } = calls(t, { attempts: 1 });
  socket.fails();
  const call = fallback.emitWithAck("x");
  (await network.next("POST")).answer('{"code":3,"message":"no such event","hint":"h"}', 404);
  await assert.rejects(call, ({ code, details }) => code === "refused" && details.status === 404 && details.hint === "h");
  assert.equal(fallback.way, "api");
  const blocked = fallback.emitWithAck("x");
  (await network.next("POST")).answer("<html>blocked", 403);
  await assert.rejects(blocked, ({ details }) => details.status === 403);
  assert.equal(fallback.way, "none");
});

test("an API that doesn't answer: rejected in time", async (t) => {
  const { network, socket, fallback } = calls(t, { attempts: 1, timeout: 30 });
  socket.fails();
  const call = fallback.emitWithAck("x");
  const post = await network.next("POST");
  await assert.rejects(call, ({ code }) => code === "timeout");
  assert.equal(post.signal.aborted, true);
});

test("what can't go by the API is rejected before it is sent", async (t) => {
  const { network, socket, fallback } = calls(t, { attempts: 1 });
  socket.fails();
  for (const [event, ...args] of [["x", new Uint8Array(2)], ["x", { deep: [Buffer.from("a")] }], [".."]]) {
    await assert.rejects(fallback.emitWithAck(event, ...args), ({ code }) => code === "unsendable");
  }
  assert.equal(network.requests.length, 0);
});

test("a socket that was closed: rejected, calls that wait, too", async (t) => {
  const { socket, ways, fallback } = calls(t);
  const waiting = fallback.emitWithAck("x");
  socket.active = false;
  socket.io.emit("close");
  await assert.rejects(waiting, ({ code }) => code === "closed");
  await assert.rejects(fallback.emitWithAck("x"), ({ code }) => code === "closed");
  assert.deepEqual(ways, []);
});

test("an upgrade, and polls that become short, are told", async (t) => {
  const { socket, ways } = calls(t);
  socket.connects("polling");
  const { engine } = socket.io;
  engine.transport.isShort = true;
  engine.emit("pollWait", 500);
  engine.transport = { name: "streaming" };
  engine.emit("upgrade");
  socket.loses();
  assert.deepEqual(ways, ["polling", "short-polling", "streaming", "none"]);
});
