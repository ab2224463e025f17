/*! Socket.IO v0.1.2 */ name = "socket.io.js";
