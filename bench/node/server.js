// The server of bench_server.rs, on Node's socket.io: stock settings.
//
// node server.js PORT

import { createServer } from "node:http";
import { Server } from "socket.io";

const port = Number(process.argv[2]);
const http = createServer();
const io = new Server(http);

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
  socket.on("room", (...args) => io.to("r").emit("room", ...args));
});

http.listen(port, "127.0.0.1", () => {
  const { address, port } = http.address();
  console.log(`listening on ${address}:${port}`);
});
