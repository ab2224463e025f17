//! What goes wrong with packets of Socket.IO: [`DecodeError`] for those of a peer, [`EncodeError`]
//! for values of the application.
//!
//! A `DecodeError` closes the connection, so it says what was expected and which limit was passed,
//! and repeats nothing that a peer sent but one character. An `EncodeError` is returned to the
//! caller of an emit; nothing has been sent then.

use std::fmt;

use thiserror::Error;

/// Why a packet of the peer is refused: the connection is closed for each of these
/// (docs/protocol.md 14.9). Node takes some of them (docs/protocol.md 20).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The text is empty.
    #[error("the packet is empty")]
    Empty,
    /// The first character is no type, which is a digit from 0 to 6.
    #[error("unknown packet type {0:?}: expected a digit from 0 to 6")]
    UnknownType(char),
    /// The number of a packet's type is none, in a message that a parser of one's own has read.
    #[error("unknown packet type {0}: expected a number from 0 to 6")]
    UnknownKind(u8),
    /// A binary packet does not say how many attachments follow.
    #[error("a binary packet must begin with the number of its attachments and a hyphen")]
    InvalidAttachmentCount,
    /// A binary packet announces no attachments.
    #[error("a binary packet without attachments: expected the type of the plain packet")]
    NoAttachments,
    /// More attachments than [`Limits::attachments`](super::Limits::attachments).
    #[error("too many attachments: the limit is {limit}")]
    TooManyAttachments {
        /// The limit, a number of attachments.
        limit: usize,
    },
    /// A placeholder in the JSON names an attachment that there is not.
    #[error("a placeholder names none of the {attachments} attachments")]
    IllegalPlaceholder {
        /// How many attachments the packet has.
        attachments: usize,
    },
    /// Several placeholders name the same attachment. Encoders number each of them anew, and an
    /// attachment of many names would be copied for each.
    #[error("several placeholders name attachment {num}: each may be named once")]
    RepeatedPlaceholder {
        /// The number of the attachment, from 0.
        num: usize,
    },
    /// Longer than [`Limits::namespace`](super::Limits::namespace).
    #[error("the namespace is too long: the limit is {limit} bytes")]
    NamespaceTooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// More digits than [`Limits::ack_digits`](super::Limits::ack_digits).
    #[error("the ack id is too long: the limit is {limit} digits")]
    AckIdTooLong {
        /// The limit, in decimal digits.
        limit: usize,
    },
    /// An ack that answers no event.
    #[error("an ACK needs the id of the event that it answers")]
    MissingAckId,
    /// The payload does not suit the type of the packet.
    #[error("invalid payload of {packet}: expected {expected}")]
    InvalidPayload {
        /// The type of the packet.
        packet: &'static str,
        /// What it may carry.
        expected: &'static str,
    },
    /// The message is not MessagePack, or holds what has no form in JSON
    /// ([`msgpack`](super::msgpack)).
    #[error("invalid MessagePack at byte {offset}: {reason}")]
    InvalidMsgpack {
        /// Where, in bytes from the beginning of the message.
        offset: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A field of a packet in MessagePack is missing, or of the wrong kind.
    #[error("invalid field {field:?} of the packet: expected {expected}")]
    InvalidField {
        /// The field.
        field: &'static str,
        /// What it may hold.
        expected: &'static str,
    },
    /// The payload is not JSON.
    #[error("invalid JSON at byte {offset} of the packet")]
    InvalidJson {
        /// Where, in bytes from the beginning of the packet.
        offset: usize,
    },
    /// Nested deeper than [`Limits::depth`](super::Limits::depth).
    #[error("the payload is nested too deep: the limit is {limit} levels")]
    TooDeep {
        /// The limit, in levels of arrays and objects.
        limit: usize,
    },
    /// Made of more JSON values than [`Limits::values`](super::Limits::values).
    #[error("the payload has too many JSON values: the limit is {limit} (`Limits::values`)")]
    TooManyValues {
        /// The limit, a number of values.
        limit: usize,
    },
    /// An event whose array is empty.
    #[error("an EVENT needs a name: the first element of its array")]
    MissingEventName,
    /// An event whose name is no string and no number.
    #[error("the name of an event must be a string or a number")]
    InvalidEventName,
    /// Longer than [`Limits::event_name`](super::Limits::event_name).
    #[error("the name of the event is too long: the limit is {limit} bytes")]
    EventNameTooLong {
        /// The limit, in bytes of UTF-8.
        limit: usize,
    },
    /// The name is one that the libraries use for their own events.
    #[error("the event name {0:?} is reserved")]
    ReservedEvent(&'static str),
    /// A text while attachments of the packet before are outstanding.
    #[error("a text while {outstanding} attachments are outstanding")]
    UnexpectedText {
        /// How many attachments are outstanding.
        outstanding: usize,
    },
    /// A binary message that belongs to no packet.
    #[error(
        "a binary message that no packet has announced: does the client use `socket.io-msgpack-parser`?"
    )]
    UnexpectedBinary,
    /// A text, where each packet is one binary message.
    #[error(
        "a text message, but the server's parser reads binary ones alone: does the client use the \
         same parser? (For MessagePack it is `socket.io-msgpack-parser` 3.x.)"
    )]
    TextMessage,
    /// A binary message, where each packet is a text.
    #[error(
        "a binary message, but the server's parser reads texts alone: does the client use the same \
         parser?"
    )]
    BinaryMessage,
    /// A [`PacketDecoder`](super::PacketDecoder) of the application's refuses it.
    #[error("the parser refuses it: {0}")]
    Custom(Box<str>),
}

impl DecodeError {
    /// The error of a [`PacketDecoder`](super::PacketDecoder) of one's own. It is for the log:
    /// clients aren't told.
    ///
    /// ```
    /// use antiphon_protocol::socket::DecodeError;
    ///
    /// let error = DecodeError::custom("not CBOR");
    /// assert_eq!(error.to_string(), "the parser refuses it: not CBOR");
    /// ```
    pub fn custom(reason: impl fmt::Display) -> Self {
        Self::Custom(reason.to_string().into())
    }
}

/// Why something can't be sent as a packet.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The value can't be written as JSON: a map whose keys are no strings, for example.
    #[error("can't be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The name is one that the libraries use for their own events; receivers would refuse it.
    #[error("the event name {0:?} is reserved: choose another one")]
    ReservedEvent(&'static str),
    /// More binary values than may be sent in one packet. By default these are
    /// [`MAX_ATTACHMENTS`](super::MAX_ATTACHMENTS): stock clients close the connection for more.
    #[error(
        "{count} binary values in one packet, where {max} may be sent: send fewer, or raise \
         `max_emitted_attachments` if all clients take more (stock ones take 10)"
    )]
    TooManyAttachments {
        /// How many there are.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// The value holds an object that looks like a placeholder, `{"_placeholder":true,...}`, and
    /// names no attachment of this packet, or one that another names. Receivers would close the
    /// connection.
    #[error("the value holds a forged placeholder of an attachment")]
    IllegalPlaceholder,
    /// The JSON does not suit the type of the packet.
    #[error("invalid payload of {packet}: expected {expected}")]
    InvalidPayload {
        /// The type of the packet.
        packet: &'static str,
        /// What it may carry.
        expected: &'static str,
    },
    /// A [`PacketParser`](super::PacketParser) of the application's can't write it.
    #[error("the parser can't write it: {0}")]
    Custom(Box<str>),
}

impl EncodeError {
    /// The error of a [`PacketParser`](super::PacketParser) of one's own.
    pub fn custom(reason: impl fmt::Display) -> Self {
        Self::Custom(reason.to_string().into())
    }
}
