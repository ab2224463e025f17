//! A socket by reference.
//~ `&Socket` can't be an argument of this handler
//~ but it is implemented for `Socket`

use antiphon::{Server, Socket};

pub fn register(io: &Server) {
    io.on("hello", async |socket: &Socket| {
        socket.emit("hello", ());
    });
}
