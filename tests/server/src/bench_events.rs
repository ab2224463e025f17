//! The events of the benchmark, on the main namespace:
//!
//! * `echo` and `binary` emit themselves back with the same arguments;
//! * `ack` acknowledges with the same arguments;
//! * `broadcast` emits `broadcast` with them to all;
//! * `join` enters the room that it names, and acknowledges with the name;
//! * `leave` leaves the room that it names;
//! * `room` emits `room` with its arguments to the room `r`;
//! * `to` emits `to` with its second argument to the room that its first one names;
//! * `none` does nothing, `work` computes for 12 us, `panic` panics.
//!
//! Messages are compressed from 1 KiB on if the word `compress` is among the program's arguments,
//! and else not at all. With the word `msgpack` packets are in MessagePack.

use std::time::{Duration, Instant};

use antiphon::{Ack, Args, Data, Parser, Server, Socket};

/// A server with them.
#[allow(dead_code)] // One with an adapter is built by itself.
pub fn server() -> Server {
    let is_told = |word| std::env::args().any(|argument| argument == word);
    let builder = Server::builder();
    let builder = match is_told("compress") {
        true => builder.compression(1024),
        false => builder,
    };
    let builder = match is_told("msgpack") {
        true => builder.parser(Parser::Msgpack),
        false => builder,
    };
    let io = builder.build();
    register(&io);
    io
}

/// Registers them.
pub fn register(io: &Server) {
    io.of("/")
        .on("echo", async |socket: Socket, args: Args| {
            socket.emit("echo", args);
        })
        .on("binary", async |socket: Socket, args: Args| {
            socket.emit("binary", args);
        })
        .on("ack", async |args: Args, ack: Ack| ack.send(args))
        .on("broadcast", async |io: Server, args: Args| {
            io.emit("broadcast", args);
        })
        .on("join", async |socket: Socket, Data(room): Data<String>| {
            socket.join(room.as_str());
            room
        })
        .on("room", async |io: Server, args: Args| {
            io.to("r").emit("room", args);
        })
        .on(
            "to",
            async |io: Server, Data((room, text)): Data<(String, String)>| {
                io.to(room).emit("to", text);
            },
        )
        .on("leave", async |socket: Socket, Data(room): Data<String>| {
            socket.leave(room.as_str());
        })
        .on("none", async || {})
        .on("work", async || {
            let start = Instant::now();
            while start.elapsed() < Duration::from_micros(12) {
                std::hint::spin_loop();
            }
        })
        // Past the hook, which would write a line for each.
        .on("panic", async || -> () {
            std::panic::resume_unwind(Box::new("the benchmark's"));
        });
}
