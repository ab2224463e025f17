// The reference: Node's socket.io under the contract of tests/README.md.
import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { Server as Engine } from "engine.io";
import { Server } from "socket.io";
import msgpack from "socket.io-msgpack-parser";
import { plain } from "../lib/parsers.js";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    path: { type: "string", default: "/socket.io" },
    "ping-interval": { type: "string", default: "25000" },
    "ping-timeout": { type: "string", default: "20000" },
    "connect-timeout": { type: "string", default: "45000" },
    "upgrade-timeout": { type: "string", default: "10000" },
    "max-payload": { type: "string", default: "1000000" },
    "max-packets": { type: "string" }, // Node has no such limit
    transports: { type: "string", default: "polling,websocket" },
    "no-upgrades": { type: "boolean", default: false },
    "no-eio3": { type: "boolean", default: false },
    cors: { type: "string" },
    "cors-credentials": { type: "boolean", default: false },
    cookie: { type: "string" },
    compression: { type: "string" },
    msgpack: { type: "boolean", default: false },
    plain: { type: "boolean", default: false },
    cbor: { type: "boolean", default: false },
    recovery: { type: "string" },
    client: { type: "string" }, // Node has its own
    hooks: { type: "boolean", default: false },
  },
});

const options = {
  pingInterval: Number(flags["ping-interval"]),
  pingTimeout: Number(flags["ping-timeout"]),
  upgradeTimeout: Number(flags["upgrade-timeout"]),
  maxHttpBufferSize: Number(flags["max-payload"]),
  transports: flags.transports.split(","),
  allowUpgrades: !flags["no-upgrades"],
  allowEIO3: !flags["no-eio3"],
  cookie: flags.cookie ? { name: flags.cookie } : false,
  perMessageDeflate: flags.compression && { threshold: Number(flags.compression) },
  destroyUpgrade: false,
  allowRequest: (request, callback) => {
    const denied = new URL(request.url, "http://localhost").searchParams.get("deny") === "1";
    callback(denied ? "denied by the test" : null, !denied);
  },
};
if (flags.cors) {
  const origin = flags.cors === "*" ? "*" : flags.cors.split(",");
  options.cors = { origin, credentials: flags["cors-credentials"] };
}

const http = createServer();
const io = new Server(http, {
  ...options,
  path: flags.path,
  serveClient: flags.client !== undefined,
  connectTimeout: Number(flags["connect-timeout"]),
  ...(flags.msgpack && { parser: msgpack }),
  ...(flags.plain && { parser: plain }),
  ...(flags.cbor && { parser: (await import("../lib/cbor.js")).cbor }),
  ...(flags.recovery && {
    connectionStateRecovery: {
      maxDisconnectionDuration: Number(flags.recovery),
      skipMiddlewares: false,
    },
  }),
});
const echo = new Engine(options);
echo.on("connection", (socket) => socket.on("message", (data) => socket.send(data)));
echo.attach(http, { ...options, path: "/engine.io" });

if (flags.hooks) {
  const engine = io.engine;
  engine.use((request, response, next) => {
    if (request._query.refuse === "1") return next(new Error("refused by the test"));
    response.setHeader("x-asked", request._query.sid ? "session" : "handshake");
    next();
  });
  engine.on("initial_headers", (headers) => (headers["x-initial"] = "yes"));
  engine.on("headers", (headers) => (headers["x-each"] = "yes"));
  engine.on("connection_error", ({ code, message }) => {
    process.stdout.write(`${JSON.stringify({ event: "connection_error", code, message })}\n`);
  });
  let ids = 0;
  engine.generateId = async ({ _query: { id } }) => {
    if (id === "fail") throw new Error("the test asked for it");
    return id ?? String(ids++).padStart(20, "0");
  };
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function log(socket, event, reason) {
  const entry = { nsp: socket.nsp.name, id: socket.id, event, reason, rooms: [...socket.rooms] };
  process.stdout.write(`${JSON.stringify(entry)}\n`);
}

// Calls the acknowledgement, if the client has asked for one.
function split(args) {
  const ack = typeof args.at(-1) === "function" ? args.pop() : () => {};
  return [args, ack];
}

function onConnect(socket, ready = Promise.resolve()) {
  const nsp = socket.nsp;
  let order = [];
  let seen = [];
  let sent = [];
  socket.on("disconnecting", (reason) => log(socket, "disconnecting", reason));
  socket.on("disconnect", (reason) => log(socket, "disconnect", reason));

  // An async connect handler: events wait for it.
  let open = false;
  const opened = ready.then(() => (open = true));
  socket.use((_packet, next) => (open ? next() : opened.then(() => next())));
  socket.use(([event], next) => {
    next(event === "forbidden" ? new Error("forbidden by the test") : undefined);
  });
  socket.onAny((event) => seen.push(event));
  socket.onAnyOutgoing((event) => sent.push(event));
  ready.then(() => socket.emit("auth", socket.handshake.auth ?? {}));
  if (nsp.name !== "/slow-connect") open = true;

  socket.on("message", (...args) => socket.emit("message-back", ...split(args)[0]));
  socket.on("message-with-ack", (...args) => {
    const [values, ack] = split(args);
    ack(...values);
  });
  socket.on("emit-with-ack", (...args) => {
    socket.emit("emit-with-ack", ...args, (...answers) => socket.emit("emit-with-ack", ...answers));
  });
  socket.on("ask", (ms) => {
    socket.timeout(ms).emit("question", (error, answer) => {
      socket.emit("answer", error ? "timeout" : answer);
    });
  });
  socket.on("ask-room", (room, ms, ack) => {
    nsp.to(room).timeout(ms).emit("question", (_error, answers) => ack(answers));
  });

  socket.on("join", async (room, ack = () => {}) => (await socket.join(room), ack()));
  socket.on("leave", async (room, ack = () => {}) => (await socket.leave(room), ack()));
  socket.on("rooms", (ack) => ack([...socket.rooms]));
  socket.on("to", (rooms, event, ...args) => socket.to(rooms).emit(event, ...split(args)[0]));
  socket.on("io-to", (rooms, except, event, ...args) => {
    nsp.to(rooms).except(except).emit(event, ...split(args)[0]);
  });
  socket.on("broadcast", (...args) => socket.broadcast.emit("broadcast", ...split(args)[0]));
  socket.on("whoami", (ack) => {
    ack({ id: socket.id, transport: socket.conn.transport.name, revision: socket.conn.protocol });
  });

  socket.on("ordered", async (i) => {
    order.push(i);
    await wait(i % 3);
  });
  socket.on("order", (ack) => {
    ack(order);
    order = [];
  });
  socket.on("flood", (n) => {
    for (let i = 0; i < n; i++) socket.emit("flood", i);
  });
  socket.on("flood-binary", (n) => {
    for (let i = 0; i < n; i++) {
      socket.emit("flood", i, Buffer.from([i % 256]), Buffer.from([i % 256, 1]));
    }
  });
  socket.on("slow", async (ms, x) => {
    await wait(ms);
    socket.emit("slow-done", x);
  });
  socket.on("tick", (...args) => socket.volatile.emit("tick", ...args));
  socket.on("recovered", (ack) => ack(socket.recovered, null));
  socket.on("keep", (text, ack) => ((socket.data.text = text), ack()));
  socket.on("kept", (ack) => ack(socket.data.text));
  socket.on("volatile", (n) => {
    for (let i = 0; i < n; i++) socket.volatile.emit("volatile", i);
    socket.emit("volatile-end");
  });

  socket.once("once", () => socket.emit("once-back"));
  const removable = () => socket.emit("removable-back");
  socket.on("removable", removable);
  socket.on("off", (ack) => (socket.off("removable", removable), ack()));
  socket.on("twice", () => socket.emit("twice-1"));
  socket.on("twice", () => socket.emit("twice-2"));
  socket.on("seen", (ack) => (ack(seen), (seen = [])));
  socket.on("sent", (ack) => (ack(sent), (sent = [])));
  socket.on("forbidden", () => socket.emit("forbidden-back"));
  socket.on("next-integer", (n, ack) => ack((BigInt(n) + 1n).toString()));
  socket.on("add", (a, b, ack) => ack(a + b));
  socket.on("panic", () => {
    try {
      throw new Error("the test asked for it");
    } catch {
      // Node has no isolation of its own.
    }
  });
  socket.on("say", (...args) => socket.send(...split(args)[0]));
  socket.on("who-is-in", async (room, ack) => {
    ack((await nsp.in(room).fetchSockets()).map(({ id }) => id));
  });
  socket.on("move", async (from, to, event, ack) => {
    for (const moved of await nsp.in(from).fetchSockets()) {
      moved.join(to);
      moved.leave(from);
      moved.emit(event, to);
    }
    ack();
  });
  socket.on("close-transport", () => socket.conn.close());
  let upgraded = null;
  socket.conn.on("upgrade", (transport) => (upgraded = transport.name));
  socket.on("upgraded", (ack) => ack(upgraded));
  socket.use((packet, next) => {
    if (packet[0] === "old-message") packet[0] = "message";
    next();
  });
  socket.on("two", () => socket.emit("two-back", "second"));
  socket.prependListener("two", () => socket.emit("two-back", "first"));
  socket.on("off-all", (ack) => {
    socket.offAny();
    socket.offAnyOutgoing();
    socket.removeAllListeners("two");
    socket.removeAllListeners("twice");
    ack();
  });
  socket.on("to-all-rooms", (event, x, ack) => (rooms.emit(event, x), ack()));
  socket.on("which-room", (ack) => ack(nsp.name.slice("/room-".length)));
  socket.on("disconnect-me", () => socket.disconnect());
  socket.on("close-me", () => socket.disconnect(true));
}

for (const name of ["/", "/chat", "/custom", "/auth", "/slow-auth"]) {
  io.of(name).on("connection", (socket) => onConnect(socket));
}
io.of("/slow-connect").on("connection", (socket) => onConnect(socket, wait(200)));
io.of("/slow-auth").use((socket, next) => {
  socket.join("asked");
  setTimeout(next, 200);
});
const rooms = io.of(/^\/room-[^/]+$/).on("connection", (socket) => onConnect(socket));
const matches = (name, auth, next) => {
  next(null, name.startsWith("/tenant-") && auth.token === "secret");
};
io.of(matches).on("connection", (socket) => onConnect(socket));
io.of("/auth").use((socket, next) => {
  if (socket.handshake.auth?.token === "secret") return next();
  next(Object.assign(new Error("not authorized"), { data: { code: "E_AUTH" } }));
});

process.on("SIGTERM", () => {
  echo.close();
  io.close(() => process.exit(0));
});

http.listen(Number(positionals[0] ?? 0), "127.0.0.1", () => {
  process.stdout.write(`listening on 127.0.0.1:${http.address().port}\n`);
});
