//! What is emitted can't be serialized.
//~ `Position` can't be sent as the arguments of an event
//~ derive `serde::Serialize` for it; several arguments are a tuple

use antiphon::Socket;

pub struct Position {
    pub x: i32,
}

pub fn tell(socket: &Socket) {
    socket.emit("where", Position { x: 1 });
}
