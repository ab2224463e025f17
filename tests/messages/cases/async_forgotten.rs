//! `async` is forgotten, and there is an `await`.
//~ `await` is only allowed inside `async` functions and blocks

use antiphon::{Server, Socket};

pub fn register(io: &Server) {
    io.on("ready", |socket: Socket| {
        socket.flushed().await;
    });
}
