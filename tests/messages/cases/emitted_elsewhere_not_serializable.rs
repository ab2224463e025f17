//! What is emitted in a broadcast, or with an acknowledgement, can't be serialized.
//~ `&Position` can't be sent as the arguments of an event
//~ `(u32, Position)` can't be sent as the arguments of an event

use antiphon::Socket;

pub struct Position {
    pub x: i32,
}

pub async fn ask(socket: &Socket, position: Position) {
    socket.to("lobby").emit("where", &position);
    let _ = socket.emit_with_ack::<()>("where", (1_u32, position)).await;
}
