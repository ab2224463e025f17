//! A connect handler returns something.
//~ to be a future that resolves to `()`, but it resolves to `&str`

use antiphon::{Server, Socket};

pub fn register(io: &Server) {
    io.on_connect(async |socket: Socket| {
        socket.join("lobby");
        "welcome"
    });
}
