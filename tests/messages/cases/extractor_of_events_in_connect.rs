//! The payload of an event where there is no event.
//~ Data<String>` can't be an argument of this handler
//~ for handlers of events also: `Data<T>`

use antiphon::{Data, Server};

pub fn register(io: &Server) {
    io.on_connect(async |Data(text): Data<String>| {
        println!("{text}");
    });
}
