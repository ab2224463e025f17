//! The type of the arguments can't be deserialized.
//~ the trait bound `Move: serde::Deserialize<'de>` is not satisfied
//~ consider adding `#[derive(serde::Deserialize)]` to your `Move` type

use antiphon::{Data, Server};

pub struct Move {
    pub x: i32,
}

pub fn register(io: &Server) {
    io.on("move", async |Data(step): Data<Move>| {
        println!("{}", step.x);
    });
}
