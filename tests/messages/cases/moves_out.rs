//! A closure that gives away what it captures at its first call.
//~ closure is `FnOnce` because it moves the variable `name` out of its environment

use antiphon::Server;

pub fn register(io: &Server) {
    let name = "lobby".to_owned();
    io.on("name", move || async move { name });
}
