//! A connect handler that isn't async returns something.
//~ to return `()`, but it returns `&str`

use antiphon::{Server, Socket};

pub fn register(io: &Server) {
    io.on_connect(|socket: Socket| {
        socket.join("lobby");
        "welcome"
    });
}
