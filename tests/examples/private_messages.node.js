// The program for Node that `examples/private_messages.rs` was made of.

import { createServer } from "node:http";
import { Server } from "socket.io";

const server = createServer();
const io = new Server(server, { connectionStateRecovery: { skipMiddlewares: false } });

io.use((socket, next) => {
  const { name } = socket.handshake.auth;
  if (!name) return next(new Error("invalid name"));
  socket.data.user = name;
  next();
});

io.on("connection", async (socket) => {
  const { user } = socket.data;
  socket.join(user);
  const sockets = await io.fetchSockets();
  const users = new Set(sockets.map(({ data }) => data.user));
  socket.emit("users", [...users].sort());
  socket.broadcast.emit("user connected", user);

  socket.on("private message", ({ to, text }) => {
    socket.to(to).to(user).emit("private message", { from: user, to, text });
  });
  socket.on("disconnect", async () => {
    const others = await io.in(user).fetchSockets();
    if (!others.length) io.emit("user disconnected", user);
  });
});

server.listen(Number(process.argv[2] ?? 3000), "127.0.0.1", () => {
  const { address, port } = server.address();
  console.log(`listening on ${address}:${port}`);
});
process.on("SIGTERM", () => io.close(() => process.exit()));
