//! A handler's error can't be serialized.
//~ `Result<String, std::io::Error>` can't be what a handler of events returns
//~ or the error is an `antiphon::HandlerError`, which `?` makes of any

use antiphon::Server;

pub fn register(io: &Server) {
    io.on("read", async || std::fs::read_to_string("motd"));
}
