//! A middleware that changes events isn't async.
//~ is no handler here

use antiphon::{NewEvent, Socket};

pub fn register(socket: &Socket) {
    socket.map_events(|| NewEvent::new("message", ()));
}
