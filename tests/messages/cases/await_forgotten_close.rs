//! `await` is forgotten where the server is closed.
//~ unused implementer of `Future` that must be used
//~ futures do nothing unless you `.await` or poll them

use antiphon::Server;

pub async fn end(io: Server) {
    io.close();
}
