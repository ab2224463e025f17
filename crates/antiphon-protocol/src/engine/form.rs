//! The form in which one session takes what it is sent.
//!
//! A message has one content and as many forms as its receivers need: binary as base64, a type byte
//! in front of attachments, another parser, compression. A session's [`Form`] is known from its
//! opening (compression from its WebSocket's), and whoever sends to many makes each form once, when
//! the first receiver of that form comes up ([`Forms`](super::Forms)). A further compression, parser or framing
//! is a field here and a row there, and no branch anywhere else.

use super::Revision;
use crate::websocket::deflate::{Level, Window};

/// How a session takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Form {
    /// The revision of Engine.IO, which decides on the type byte of binary messages.
    pub revision: Revision,
    /// Binary messages are texts of base64 (`b64=1`).
    pub base64: bool,
    /// Messages are what the parser of the server makes of them, and not JSON as they are written.
    /// A server has one parser, so that a form doesn't say which.
    pub is_transcoded: bool,
    /// Its WebSocket takes compressed messages.
    pub compression: Option<Compression>,
}

/// How messages are compressed (RFC 7692): each alone, so that one compressed message serves many
/// sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Compression {
    /// What was agreed on at the opening handshake.
    pub window: Window,
    /// Packets of fewer bytes leave as they are.
    pub threshold: u32,
    /// How much work is made of it.
    pub level: Level,
}

impl Form {
    /// The form of a session that has asked for nothing special.
    #[must_use]
    pub const fn of(revision: Revision) -> Self {
        Self {
            revision,
            base64: false,
            is_transcoded: false,
            compression: None,
        }
    }

    /// Whether a packet of so many bytes is compressed.
    pub(crate) const fn compresses(self, bytes: usize) -> bool {
        match self.compression {
            Some(compression) => bytes >= compression.threshold as usize,
            None => false,
        }
    }
}
