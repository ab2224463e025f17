//! More arguments than a handler may have.
//~ is no handler here
//~ of up to eight arguments

use antiphon::{Server, Socket};

type S = Socket;

pub fn register(io: &Server) {
    io.on("x", async |_: S, _: S, _: S, _: S, _: S, _: S, _: S, _: S, _: S| {});
}
