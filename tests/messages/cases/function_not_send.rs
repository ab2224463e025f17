//! What isn't `Send` is held over an `await`, in a function that is declared.
//~ future cannot be sent between threads safely
//~ has type `Rc<i32>` which is not `Send`

use std::rc::Rc;

use antiphon::{Server, Socket};

async fn count(socket: Socket) {
    let count = Rc::new(1);
    socket.flushed().await;
    socket.emit("count", *count);
}

pub fn register(io: &Server) {
    io.on("count", count);
}
