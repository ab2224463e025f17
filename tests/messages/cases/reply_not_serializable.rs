//! What a handler returns can't be serialized.
//~ `Position` can't be what a handler of events returns
//~ derive `serde::Serialize` for it

use antiphon::Server;

pub struct Position {
    pub x: i32,
}

pub fn register(io: &Server) {
    io.on("where", async || Position { x: 1 });
}
