/// What a [`Decoder`](super::Decoder) accepts from its peer. Beyond any of these the packet is
/// refused with a [`DecodeError`](super::DecodeError).
///
/// The size of a message as a whole is the business of the connection below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Most attachments (binary messages) of one packet. Default: 10, as in `socket.io-parser`.
    pub attachments: usize,
    /// Deepest nesting of arrays and objects in a payload; the list of arguments is the first
    /// level. Default: 100 levels. More than 127 counts as 127.
    pub depth: usize,
    /// Longest namespace, in bytes, with the query that revision 4 may append. Default: 256 bytes.
    pub namespace: usize,
    /// Longest name of an event, in bytes of UTF-8. Default: 1024 bytes.
    pub event_name: usize,
    /// Most decimal digits of an ack id. Default: 15 digits, which JavaScript keeps exactly.
    pub ack_digits: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attachments: 10,
            depth: 100,
            namespace: 256,
            event_name: 1024,
            ack_digits: 15,
        }
    }
}
