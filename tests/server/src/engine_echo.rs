//! Engine.IO alone, without Socket.IO: every message goes back to its sender.

use std::sync::Arc;

use antiphon::engine::{Application, CloseReason, Connection, Message, Session};

/// Sends every message back.
#[derive(Debug)]
pub struct Echo;

impl Application for Echo {
    fn connect(&self, _: &Arc<Session>, _: &axum::http::request::Parts) -> Arc<dyn Connection> {
        Arc::new(Self)
    }
}

impl Connection for Echo {
    fn message(&self, session: &Arc<Session>, message: Message<'_>) {
        // A session that has closed meanwhile misses nothing.
        let _ = match message {
            Message::Text(text) => session.send_text(text),
            Message::Binary(data) => session.send_binary(&data),
        };
    }

    fn closed(&self, _: &Arc<Session>, _: CloseReason) {}
}
