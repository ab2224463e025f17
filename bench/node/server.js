// The server of bench_server.rs, on Node's socket.io: stock settings.
//
// node server.js PORT [compress | REDIS_URL]
//
// With `compress` it compresses messages from 1 KiB on, which stock settings don't. With a Redis it is one of several servers, by the adapter and the client that Node's guide has.

import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const [port, word] = process.argv.slice(2);
const http = createServer();
const compresses = word === "compress";
const io = new Server(http, compresses ? { perMessageDeflate: { threshold: 1024 } } : {});
if (word && !compresses) {
  const url = word;
  const clients = [createClient({ url }), createClient({ url })];
  await Promise.all(clients.map((client) => client.connect()));
  io.adapter(createAdapter(...clients));
}

io.on("connection", (socket) => {
  socket.on("echo", (...args) => socket.emit("echo", ...args));
  socket.on("binary", (...args) => socket.emit("binary", ...args));
  socket.on("ack", (...args) => {
    const ack = args.pop();
    ack(...args);
  });
  socket.on("broadcast", (...args) => io.emit("broadcast", ...args));
  socket.on("join", (room, ack) => {
    socket.join(room);
    ack(room);
  });
  socket.on("leave", (room) => socket.leave(room));
  socket.on("to", (room, text) => io.to(room).emit("to", text));
  socket.on("room", (...args) => io.to("r").emit("room", ...args));
});

http.listen(Number(port), "127.0.0.1", () => {
  const { address, port } = http.address();
  console.log(`listening on ${address}:${port}`);
});
