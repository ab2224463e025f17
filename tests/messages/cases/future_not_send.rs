//! What isn't `Send` is held over an `await`.
//~ future cannot be sent between threads safely
//~ has type `Rc<i32>` which is not `Send`

use std::rc::Rc;

use antiphon::{Server, Socket};

pub fn register(io: &Server) {
    io.on("count", async |socket: Socket| {
        let count = Rc::new(1);
        socket.flushed().await;
        socket.emit("count", *count);
    });
}
