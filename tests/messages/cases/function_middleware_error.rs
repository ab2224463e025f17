//! An error of a middleware that isn't async is a text.
//~ to return `Result<(), ConnectError>`, but it returns `Result<(), &str>`

use antiphon::Server;

pub fn register(io: &Server) {
    io.middleware(|| Err("not authorized"));
}
