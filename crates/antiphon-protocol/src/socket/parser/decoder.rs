//! The way in of a connection whose packets a [`PacketParser`] reads: what its decoder gives is
//! proven, and how long it may go without giving anything is bounded.

use std::fmt;

use super::{Decoded, Inner, PacketDecoder, PacketParser};
use crate::engine::{Message, Revision};
use crate::socket::{Assembled, DecodeError, Limits};

/// Reads the messages of one connection as packets, by a [`PacketParser`]: what a
/// [`Decoder`](crate::socket::Decoder) is for the standard parser.
///
/// After an error the connection is to be closed.
///
/// ```
/// use antiphon_protocol::BinaryMessage;
/// use antiphon_protocol::engine::{Message, Revision};
/// use antiphon_protocol::socket::{Limits, Msgpack, Packet, ParserDecoder};
///
/// let mut decoder = ParserDecoder::new(&Msgpack, Revision::V4, Limits::default());
/// let message = b"\x82\xa4type\x01\xa3nsp\xa5/chat";
/// let message = Message::Binary(BinaryMessage::Lent(message));
/// let packet = decoder.decode(message)?.expect("one message is a packet");
/// assert_eq!(packet.packet(), Packet::Disconnect { namespace: "/chat" });
/// # Ok::<(), antiphon_protocol::socket::DecodeError>(())
/// ```
pub struct ParserDecoder {
    /// `None` after an error, and where it was discarded.
    parser: Option<Box<dyn PacketDecoder>>,
    limits: Limits,
    revision: Revision,
    /// Messages that it has taken since the last packet.
    taken: usize,
}

impl ParserDecoder {
    /// A decoder for a connection of this revision.
    #[must_use]
    pub fn new(parser: &dyn PacketParser, revision: Revision, limits: Limits) -> Self {
        Self {
            parser: Some(parser.decoder()),
            limits,
            revision,
            taken: 0,
        }
    }

    /// Takes a message. Returns `None` if it is a part of a packet of which more is to come, or if
    /// the decoder has been discarded.
    ///
    /// # Errors
    /// If the parser refuses the message, what it has read is no packet or beyond a limit, or more
    /// messages belong to one packet than it may have attachments, and one.
    pub fn decode(&mut self, message: Message<'_>) -> Result<Option<Assembled>, DecodeError> {
        let decoded = self.next(message);
        if decoded.is_err() {
            self.discard();
        }
        decoded
    }

    fn next(&mut self, message: Message<'_>) -> Result<Option<Assembled>, DecodeError> {
        let Some(parser) = &mut self.parser else {
            return Ok(None);
        };
        let decoded = match message {
            Message::Text(text) => parser.text(text, &self.limits)?,
            Message::Binary(data) => parser.binary(data.into(), &self.limits)?,
        };
        let Some(Decoded(packet)) = decoded else {
            self.taken += 1;
            let limit = self.limits.attachments;
            return match self.taken > limit {
                true => Err(DecodeError::TooManyAttachments { limit }),
                false => Ok(None),
            };
        };
        self.taken = 0;
        match packet {
            Inner::Proven(packet) => Ok(Some(packet)),
            Inner::Raw(packet) => packet.prove(self.revision, &self.limits).map(Some),
        }
    }

    /// Whether a packet has begun of which more is to come.
    #[must_use]
    pub const fn is_incomplete(&self) -> bool {
        self.taken > 0 && self.parser.is_some()
    }

    /// Forgets the packet of which more is to come. Messages are dropped from now on: the connection
    /// is closing.
    pub fn discard(&mut self) {
        self.parser = None;
    }
}

impl fmt::Debug for ParserDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParserDecoder")
            .field("revision", &self.revision)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}
