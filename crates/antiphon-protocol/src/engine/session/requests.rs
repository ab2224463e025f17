//! The requests of a session on HTTP: one GET and one POST at a time (docs/protocol.md 6.3, 6.4),
//! and why one is refused.

use crate::engine::BadOffset;

/// Which requests of a session are under way.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Requests {
    /// Packets leave by a response that stays open, and not by polls.
    pub(super) streaming: bool,
    /// A GET has not been answered; the response of a stream has not ended.
    pub(super) get: bool,
    /// A POST is under way.
    pub(super) post: bool,
}

impl Requests {
    pub(super) fn streaming() -> Self {
        Self {
            streaming: true,
            ..Self::default()
        }
    }
}

/// Why an HTTP request of a session is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The session is closed.
    Closed,
    /// The session uses another transport by now.
    TransportMismatch,
    /// Another request of the same method is under way. The session is closed for it.
    Overlap,
    /// The packets that it asks for are not kept. The session is closed for it.
    BadOffset(BadOffset),
}
