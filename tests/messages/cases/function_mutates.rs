//! A function that isn't async changes what it captures.
//~ closure is `FnMut` because it mutates the variable `count` here

use antiphon::Server;

pub fn register(io: &Server) {
    let mut count = 0;
    io.on("count", move || {
        count += 1;
        count
    });
}
