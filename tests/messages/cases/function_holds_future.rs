//! A function that isn't async returns a future inside of something else.
//~ is no handler here

use antiphon::{Server, Socket};

pub fn register(io: &Server) {
    io.on("ready", |socket: Socket| {
        Some(socket.emit_with_ack::<String>("name", ()))
    });
}
