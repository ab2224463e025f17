//! Bounds of what one packet of a peer may hold.
//!
//! The owner of a [`Decoder`](super::Decoder) chooses them once, for all connections. The bytes of
//! a whole message are bounded by the connection below, before it comes here.

/// What a [`Decoder`](super::Decoder) accepts from its peer. Beyond any of these the packet is
/// refused with a [`DecodeError`](super::DecodeError). They say nothing of what is sent.
///
/// The size of a message as a whole is the business of the connection below.
///
/// A client that is beyond one of them is not told which: a server closes its connection, as for
/// whatever else is no packet. It sees `transport close`, and the server's log says the error.
///
/// | limit | error |
/// |---|---|
/// | `attachments` | [`TooManyAttachments`](super::DecodeError::TooManyAttachments) |
/// | `depth` | [`TooDeep`](super::DecodeError::TooDeep) |
/// | `values` | [`TooManyValues`](super::DecodeError::TooManyValues) |
/// | `namespace` | [`NamespaceTooLong`](super::DecodeError::NamespaceTooLong) |
/// | `event_name` | [`EventNameTooLong`](super::DecodeError::EventNameTooLong) |
/// | `ack_digits` | [`AckIdTooLong`](super::DecodeError::AckIdTooLong) |
///
/// ```
/// use antiphon_protocol::socket::Limits;
///
/// let limits = Limits::new().attachments(32).depth(20);
/// assert_eq!(limits.attachments, 32);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Limits {
    /// Most attachments (binary messages) of one packet. Default: 10, as in `socket.io-parser`.
    pub attachments: usize,
    /// Deepest nesting of arrays and objects in a payload; the list of arguments is the first
    /// level. Default: 100 levels. More than 127 counts as 127.
    pub depth: u8,
    /// Most JSON values of a payload: numbers, texts, literals, arrays and objects, those inside of
    /// others too. Default: 100,000 values.
    ///
    /// A type that is read may be much larger than its text: `[],` is 3 bytes, and a
    /// `serde_json::Value` for it is 32. So this bounds what a message becomes in memory, whatever
    /// its type and however large it is.
    pub values: usize,
    /// Longest namespace, in bytes, with the query that revision 4 may append. Default: 256 bytes.
    pub namespace: usize,
    /// Longest name of an event, in bytes of UTF-8. Default: 1024 bytes.
    pub event_name: usize,
    /// Most decimal digits of an ack id. Default: 15 digits, which JavaScript keeps exactly.
    pub ack_digits: u8,
}

impl Limits {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            attachments: 10,
            depth: 100,
            values: 100_000,
            namespace: 256,
            event_name: 1024,
            ack_digits: 15,
        }
    }

    /// Most attachments of one packet.
    #[must_use]
    pub const fn attachments(mut self, most: usize) -> Self {
        self.attachments = most;
        self
    }

    /// Deepest nesting of arrays and objects.
    #[must_use]
    pub const fn depth(mut self, most: u8) -> Self {
        self.depth = most;
        self
    }

    /// Most values of a payload.
    #[must_use]
    pub const fn values(mut self, most: usize) -> Self {
        self.values = most;
        self
    }

    /// Longest namespace, in bytes.
    #[must_use]
    pub const fn namespace(mut self, most: usize) -> Self {
        self.namespace = most;
        self
    }

    /// Longest name of an event, in bytes.
    #[must_use]
    pub const fn event_name(mut self, most: usize) -> Self {
        self.event_name = most;
        self
    }

    /// Most decimal digits of an ack id.
    #[must_use]
    pub const fn ack_digits(mut self, most: u8) -> Self {
        self.ack_digits = most;
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}
