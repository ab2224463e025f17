//! A middleware returns nothing.
//~ to be a future that resolves to `Result<(), ConnectError>`, but it resolves to `()`

use antiphon::{Server, Socket};

pub fn register(io: &Server) {
    io.middleware(async |socket: Socket| {
        socket.join("lobby");
    });
}
