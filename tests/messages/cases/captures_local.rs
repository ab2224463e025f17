//! A closure that borrows a local variable.
//~ `name` does not live long enough
//~ argument requires that `name` is borrowed for `'static`

use antiphon::{Data, Server};

pub fn register(io: &Server) {
    let name = "lobby".to_owned();
    io.on("greet", async |Data(who): Data<String>| format!("{name}: hello, {who}"));
}
