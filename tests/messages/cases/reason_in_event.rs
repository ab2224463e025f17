//! Why a socket leaves, in a handler of an event.
//~ `DisconnectReason` can't be an argument of this handler
//~ for those of disconnection: `DisconnectReason`

use antiphon::{DisconnectReason, Server};

pub fn register(io: &Server) {
    io.on("bye", async |reason: DisconnectReason| {
        println!("{reason}");
    });
}
