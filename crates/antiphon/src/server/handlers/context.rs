//! What a handler is called for: lent to the extractors of its arguments, for the call alone.
//!
//! A [`Context`] is made from what came; nothing in it is owned, so it can't be held across an
//! await. `answer` is there if the client waits for one, `reason` only if the socket leaves.

use antiphon_protocol::socket::Args;

use crate::server::{DisconnectReason, Socket, acks::Responder};

/// What has happened: extractors take their part of it.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub(crate) socket: &'a Socket,
    pub(crate) event: &'a str,
    pub(crate) args: Args<'a>,
    pub(crate) answer: Option<&'a Responder>,
    pub(crate) reason: Option<DisconnectReason>,
}

impl<'a> Context<'a> {
    pub(crate) const fn connect(socket: &'a Socket) -> Self {
        Self {
            socket,
            event: "connect",
            args: Args::empty(),
            answer: None,
            reason: None,
        }
    }

    pub(crate) const fn disconnect(socket: &'a Socket, reason: DisconnectReason) -> Self {
        Self {
            reason: Some(reason),
            event: "disconnect",
            ..Self::connect(socket)
        }
    }

    /// The socket that it happens to.
    #[must_use]
    pub const fn socket(&self) -> &'a Socket {
        self.socket
    }

    /// The name of the event.
    #[must_use]
    pub const fn event(&self) -> &'a str {
        self.event
    }
}
