//! What a request comes to: an answer, and a connection that is handed over if it is to be a
//! WebSocket.

use std::sync::Arc;

use antiphon_protocol::websocket::deflate::Window;
use hyper::upgrade::OnUpgrade;

use super::response::EngineResponse;
use crate::engine::{Session, SessionOptions};

/// The answer to a request. Its sender goes on with the connection if that is to be a WebSocket.
pub(super) struct Responded {
    pub(super) answer: EngineResponse,
    pub(super) handover: Option<Handover>,
    /// It opens a session.
    pub(super) is_initial: bool,
}

impl From<EngineResponse> for Responded {
    fn from(answer: EngineResponse) -> Self {
        Self {
            answer,
            handover: None,
            is_initial: false,
        }
    }
}

/// What the connection of a WebSocket is for.
pub(super) enum Purpose {
    /// A new session.
    Open(SessionOptions),
    /// A session that there is may move to it.
    Probe(Arc<Session>),
}

/// What becomes of a connection that is to be a WebSocket.
pub(super) enum Handover {
    /// A WebSocket of this server.
    WebSocket {
        purpose: Purpose,
        /// Its messages are compressed in this window.
        window: Option<Window>,
    },
    /// What comes goes to the server that has the session, and back.
    Tunnel(OnUpgrade),
}
