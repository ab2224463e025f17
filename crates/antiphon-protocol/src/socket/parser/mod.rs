//! What packets are written as: JSON text with attachments behind it, or what a [`PacketParser`]
//! makes of them.
//!
//! A server has one [`Parser`] and all of its clients must have the same, since nothing on the wire
//! says which it is. Inside, whatever the parser, a packet is JSON and attachments. So a parser
//! works at the edge: on the way out a [`Fanout`](super::Fanout) gives it a [`RawPacket`] and takes
//! the messages that it writes ([`Messages`]), once for all receivers; on the way in each
//! connection has a [`ParserDecoder`], which asks the parser's [`PacketDecoder`] and proves what
//! that gives. A parser that can't write or read something says so by an error; a panic in it is
//! for its owner to catch.
//!
//! The standard parser is no [`PacketParser`]: it reads and writes in place
//! ([`Decoder`](super::Decoder), [`Draft`](super::Draft)). [`Msgpack`] is one.

mod decoder;
pub mod msgpack;
mod raw;

use std::{fmt, sync::Arc};

use bytes::Bytes;

use super::{Assembled, DecodeError, EncodeError, Limits};
use crate::engine::{EncodedMessage, EncodedPacket, PacketType, Revision};

pub use decoder::ParserDecoder;
pub use msgpack::Msgpack;
pub use raw::{PacketKind, RawPacket};

/// What a server's packets are written as. All of its clients must have the same parser.
///
/// ```
/// use antiphon_protocol::socket::{Msgpack, Parser};
///
/// assert!(matches!(Parser::default(), Parser::Json));
/// assert!(matches!(Parser::from(Msgpack), Parser::Custom(_)));
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Parser {
    /// JSON, and binary attachments behind it: what clients speak if nothing else is asked for.
    #[default]
    Json,
    /// `socket.io-msgpack-parser`: one binary message each.
    Msgpack,
    /// One of the application's.
    Custom(Arc<dyn PacketParser>),
}

impl Parser {
    /// What writes and reads packets. Returns `None` for JSON, which is written and read in place.
    #[must_use]
    pub fn packets(&self) -> Option<&dyn PacketParser> {
        match self {
            Self::Json => None,
            Self::Msgpack => Some(&Msgpack),
            Self::Custom(parser) => Some(&**parser),
        }
    }
}

impl fmt::Debug for Parser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "Json",
            Self::Msgpack => "Msgpack",
            Self::Custom(_) => "Custom",
        })
    }
}

impl<P: PacketParser> From<P> for Parser {
    fn from(parser: P) -> Self {
        Self::Custom(Arc::new(parser))
    }
}

/// Writes packets as messages of the connection, and makes what reads them: what `Encoder` and
/// `Decoder` of a module like `socket.io-parser` are in Node.
///
/// Neither is asked to wait for anything, and neither may emit: a broadcast calls
/// [`encode`](Self::encode) while the members of its rooms are locked.
pub trait PacketParser: Send + Sync + 'static {
    /// Writes a packet as one message or several, which reach the client side by side. It is
    /// called once for all receivers of an event, so it may not depend on one of them.
    ///
    /// # Errors
    /// If the packet has no form in this parser ([`EncodeError::custom`]), or no message was
    /// written. Nothing is sent then.
    fn encode(&self, packet: &RawPacket<'_>, messages: &mut Messages) -> Result<(), EncodeError>;

    /// What reads the messages of one connection.
    fn decoder(&self) -> Box<dyn PacketDecoder>;
}

/// Reads the messages of one connection as packets.
///
/// A message may be a part of a packet: `Ok(None)` says that more is to come. There are as many
/// such messages in a row at the most as a packet may have attachments, of which each has at most
/// the size of a message, and they have a deadline. So a decoder that keeps what it was given, and
/// no more, is bounded.
///
/// What it gives is proven as the text of the standard parser would be, so that all [`Limits`] hold
/// for it, too. Its own work it has to bound by itself: by the depth of the limits, if it descends.
///
/// A parser without texts, or without binary messages, leaves that method out: they are refused.
/// After an error the connection is closed, and its decoder isn't asked again.
pub trait PacketDecoder: Send + 'static {
    /// Takes a text.
    ///
    /// # Errors
    /// If it isn't a packet or a part of one ([`DecodeError::custom`]).
    fn text<'m>(
        &mut self,
        text: &'m str,
        limits: &Limits,
    ) -> Result<Option<Decoded<'m>>, DecodeError> {
        let _ = (text, limits);
        Err(DecodeError::TextMessage)
    }

    /// Takes a binary message.
    ///
    /// # Errors
    /// If it isn't a packet or a part of one ([`DecodeError::custom`]).
    fn binary(
        &mut self,
        data: Bytes,
        limits: &Limits,
    ) -> Result<Option<Decoded<'static>>, DecodeError> {
        let _ = (data, limits);
        Err(DecodeError::BinaryMessage)
    }
}

/// A packet that a [`PacketDecoder`] has read: made from a [`RawPacket`].
#[derive(Debug)]
pub struct Decoded<'m>(Inner<'m>);

#[derive(Debug)]
enum Inner<'m> {
    Raw(RawPacket<'m>),
    /// By a decoder of ours, which proves as it reads.
    Proven(Assembled),
}

impl<'m> From<RawPacket<'m>> for Decoded<'m> {
    fn from(packet: RawPacket<'m>) -> Self {
        Self(Inner::Raw(packet))
    }
}

impl From<Assembled> for Decoded<'_> {
    /// An [`Assembled`] packet is proven, whoever has made it.
    fn from(packet: Assembled) -> Self {
        Self(Inner::Proven(packet))
    }
}

/// Where a [`PacketParser`] writes the messages of one packet, in their order.
///
/// ```
/// use antiphon_protocol::socket::Messages;
///
/// let mut messages = Messages::default();
/// messages.text("{}");
/// messages.binary(&[1, 2]);
/// ```
#[derive(Debug, Default)]
pub struct Messages(Vec<EncodedPacket>);

impl Messages {
    /// Writes a text.
    pub fn text(&mut self, text: &str) {
        self.0.push(EncodedPacket::text(PacketType::Message, text));
    }

    /// Writes a binary message.
    pub fn binary(&mut self, data: &[u8]) {
        self.0.push(EncodedPacket::binary(data, Revision::V4));
    }

    /// Whether nothing has been written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The messages as one. Returns `None` if there are none.
    fn finish(mut self) -> Option<EncodedMessage> {
        if self.0.len() < 2 {
            return self.0.pop().map(EncodedMessage::from);
        }
        let rest = self.0.split_off(1);
        Some(EncodedMessage::new(self.0.pop()?, rest))
    }
}

/// What the parser writes for a message that was written as JSON, in revision 4.
pub(super) fn transcode(
    parser: &dyn PacketParser,
    message: &EncodedMessage,
) -> Result<EncodedMessage, EncodeError> {
    // The payload begins with the type of Engine.IO's packet.
    let text = message.first().payload().get(1..).unwrap_or_default();
    let text = str::from_utf8(text).unwrap_or_default();
    let attachments = message.attachments().iter();
    let attachments: Vec<_> = attachments.map(EncodedPacket::shared_payload).collect();
    // An empty draft, after an error, is no packet. All else that is written here is one.
    let packet = RawPacket::written(text, &attachments);
    let packet = packet.ok_or_else(|| EncodeError::custom("there is no packet"))?;
    let mut messages = Messages::default();
    parser.encode(&packet, &mut messages)?;
    let written = messages.finish();
    written.ok_or_else(|| EncodeError::custom("it has written no message"))
}
