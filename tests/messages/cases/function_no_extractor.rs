//! An argument of a function that isn't async is no extractor.
//~ `String` can't be an argument of this handler
//~ for handlers of events also: `Data<T>`

use antiphon::{Server, Socket};

pub fn register(io: &Server) {
    io.on("message", |socket: Socket, text: String| {
        socket.emit("message", text);
    });
}
