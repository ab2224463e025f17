//! `await` is forgotten where an answer is asked for.
//~ unused pinned boxed `Future` trait object that must be used
//~ futures do nothing unless you `.await` or poll them

use antiphon::{Server, Socket};

pub fn register(io: &Server) {
    io.on("ready", async |socket: Socket| {
        socket.emit_with_ack::<String>("name", ());
    });
}
