//! What depends on the revision: one row each, in one place.
//!
//! Codecs of the two revisions differ in their bytes, and have a function for each
//! ([`payload`](super::payload)). Everything else asks here what a client of this revision does,
//! and expects.

use super::Revision;

/// What a client of one revision does and expects. Sources: docs/protocol.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dialect {
    /// The server sends pings and the client answers; otherwise the client does (docs/protocol.md
    /// 9).
    pub server_pings: bool,
    /// A binary message begins with a byte for its type, and as base64 with a digit
    /// (docs/protocol.md 3.4 and 3.5).
    pub has_type_byte: bool,
    /// A body of HTTP can be binary (docs/protocol.md 5).
    pub has_binary_payloads: bool,
    /// Packets can come as a stream of events (docs/protocol.md 13).
    pub may_stream: bool,
    /// A Flash socket can be offered (docs/protocol.md 18.9).
    pub has_flash_sockets: bool,
    /// The client is in the main namespace without asking (docs/protocol.md 18.2).
    pub joins_by_itself: bool,
    /// The client knows a socket's id from its session's, and is not told (docs/protocol.md 18.5).
    pub derives_ids: bool,
    /// A namespace that is asked for may have a query (docs/protocol.md 18.4).
    pub has_namespace_queries: bool,
    /// A connect error is an object with a message, and its data if there is any; otherwise it is
    /// the data or the message (docs/protocol.md 18.6).
    pub has_error_objects: bool,
    /// The client can resume where it was, and takes the offset behind an event's arguments
    /// (docs/protocol.md 23).
    pub recovers: bool,
}

impl Revision {
    /// What a client of this revision does and expects.
    ///
    /// ```
    /// use antiphon_protocol::engine::Revision;
    ///
    /// assert!(Revision::V4.dialect().server_pings);
    /// assert!(!Revision::V3.dialect().server_pings);
    /// ```
    #[inline]
    #[must_use]
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::V3 => Dialect {
                server_pings: false,
                has_type_byte: true,
                has_binary_payloads: true,
                may_stream: false,
                has_flash_sockets: true,
                joins_by_itself: true,
                derives_ids: true,
                has_namespace_queries: true,
                has_error_objects: false,
                recovers: false,
            },
            Self::V4 => Dialect {
                server_pings: true,
                has_type_byte: false,
                has_binary_payloads: false,
                may_stream: true,
                has_flash_sockets: false,
                joins_by_itself: false,
                derives_ids: false,
                has_namespace_queries: false,
                has_error_objects: true,
                recovers: true,
            },
        }
    }
}
