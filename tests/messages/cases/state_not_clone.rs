//! A state that can't be cloned.
//~ the trait bound `Database: Clone` is not satisfied

use antiphon::{Server, State};

pub struct Database;

pub fn register(io: &Server) {
    io.on("count", async |State(database): State<Database>| {
        let _ = database;
    });
}
