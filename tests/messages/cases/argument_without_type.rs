//! An argument whose type isn't said.
//~ type annotations needed

use antiphon::{Server};

pub fn register(io: &Server) {
    io.on("hello", async |socket| {
        socket.emit("hello", ());
    });
}
