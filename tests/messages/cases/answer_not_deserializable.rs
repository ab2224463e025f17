//! An acknowledgement is taken as what can't be deserialized.
//~ an acknowledgement can't be taken as `Position`
//~ derive `serde::Deserialize` for it

use antiphon::Socket;

pub struct Position {
    pub x: i32,
}

pub async fn ask(socket: &Socket) {
    if let Ok(position) = socket.emit_with_ack::<Position>("where", ()).await {
        println!("{}", position.x);
    }
}
