//! Two arguments of an event, each taken by itself.
//~ a handler has one `Data`: several arguments of an event are a tuple, `Data((a, b))`

use antiphon::{Data, Server};

pub fn register(io: &Server) {
    io.on("add", async |Data(a): Data<i64>, Data(b): Data<i64>| a + b);
}
