//! An async closure that owns what it captures.
//~ async closure does not implement `Fn` because it captures state from its environment

use antiphon::{Data, Server};

pub fn register(io: &Server) {
    let name = "lobby".to_owned();
    io.on("greet", async move |Data(who): Data<String>| format!("{name}: hello, {who}"));
}
