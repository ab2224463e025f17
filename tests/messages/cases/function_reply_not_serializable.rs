//! What a function that isn't async returns is neither a reply nor a future.
//~ is no handler here
//~ one that isn't async returns what can be a reply: see `antiphon::IntoReply`

use antiphon::Server;

pub struct Position {
    pub x: i32,
}

pub fn register(io: &Server) {
    io.on("where", || Position { x: 1 });
}
