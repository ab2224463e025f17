//! An argument's type is no extractor: the payload is taken as in Node.
//~ `String` can't be an argument of this handler
//~ for handlers of events also: `Data<T>`

use antiphon::{Server, Socket};

pub fn register(io: &Server) {
    io.on("message", async |socket: Socket, text: String| {
        socket.emit("message", text);
    });
}
