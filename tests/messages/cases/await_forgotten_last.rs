//! `await` is forgotten, and the future is what the handler returns.
//~ can't be what a handler of events returns
//~ a future is no reply: `.await` it

use antiphon::{Server, Socket};

pub fn register(io: &Server) {
    io.on("ready", async |socket: Socket| {
        socket.emit_with_ack::<String>("name", ())
    });
}
