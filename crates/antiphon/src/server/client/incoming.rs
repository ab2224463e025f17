//! The way in of one connection, whatever its parser: messages become packets.
//!
//! The connection's [`Client`](super::Client) owns it, and gives it each message under its lock. A
//! text of the standard parser is lent to its packet; everything else comes whole, as
//! [`Assembled`]. What is wrong with a message is a [`DecodeError`], for which the connection is
//! closed.

use antiphon_protocol::{
    engine::{Message, Revision},
    socket::{Assembled, DecodeError, Decoder, Packet, ParserDecoder},
};

use crate::server::Shared;

/// Reads the messages of one connection.
pub(super) enum Incoming {
    Standard(Decoder),
    /// Boxed, so that a connection of the standard parser keeps no room for it.
    Parser(Box<ParserDecoder>),
}

/// What a message was.
pub(super) enum Read<'m> {
    Packet(Packet<'m>),
    Assembled(Assembled),
    /// A part of a packet of which more is to come.
    Part {
        /// Whether the packet has begun with it.
        is_first: bool,
    },
}

impl Incoming {
    pub(super) fn new(revision: Revision, shared: &Shared) -> Self {
        match shared.parser.packets() {
            None => Self::Standard(Decoder::new(revision, shared.limits)),
            Some(parser) => {
                let decoder = ParserDecoder::new(parser, revision, shared.limits);
                Self::Parser(Box::new(decoder))
            }
        }
    }

    pub(super) fn read<'m>(&mut self, message: Message<'m>) -> Result<Read<'m>, DecodeError> {
        match (self, message) {
            (Self::Standard(decoder), Message::Text(text)) => {
                let packet = decoder.text(text)?;
                Ok(packet.map_or(Read::Part { is_first: true }, Read::Packet))
            }
            (Self::Standard(decoder), Message::Binary(data)) => {
                let packet = decoder.binary(data.into())?;
                Ok(packet.map_or(Read::Part { is_first: false }, Read::Assembled))
            }
            (Self::Parser(decoder), message) => {
                let is_first = !decoder.is_incomplete();
                let packet = decoder.decode(message)?;
                Ok(packet.map_or(Read::Part { is_first }, Read::Assembled))
            }
        }
    }

    /// The namespace of the packet of which more is to come. Returns `None` if there is none, and
    /// if the parser isn't ours.
    pub(super) fn outstanding_namespace(&self) -> Option<&str> {
        match self {
            Self::Standard(decoder) => decoder.outstanding_namespace(),
            Self::Parser(_) => None,
        }
    }

    /// Forgets the packet of which more is to come: the connection is closing.
    pub(super) fn discard(&mut self) {
        match self {
            Self::Standard(decoder) => decoder.discard(),
            Self::Parser(decoder) => decoder.discard(),
        }
    }
}
