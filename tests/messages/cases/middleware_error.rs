//! A middleware's error is a text.
//~ to be a future that resolves to `Result<(), ConnectError>`, but it resolves to `Result<(), &str>`

use antiphon::{Auth, Server};

pub fn register(io: &Server) {
    io.middleware(async |Auth(token): Auth<String>| {
        if token == "secret" { Ok(()) } else { Err("not authorized") }
    });
}
