//! What makes packets of one connection's messages: the standard parser's decoder, or another's.
//!
//! The connection's [`Client`](super::Client) owns it, and gives it each message under its lock. The
//! standard one lends a packet the text that it came in, and others give it whole; so messages are
//! given to each as it takes them, and only what is the same for both is here. What is wrong with
//! a message is a [`DecodeError`](antiphon_protocol::socket::DecodeError), for which the connection
//! is closed.

use antiphon_protocol::{
    engine::Revision,
    socket::{Decoder, ParserDecoder},
};

use crate::server::Shared;

/// Reads the messages of one connection.
pub(super) enum Incoming {
    Standard(Decoder),
    /// Boxed, so that a connection of the standard parser keeps no room for it.
    Parser(Box<ParserDecoder>),
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

    /// The namespace of the packet of which more is to come. Returns `None` if there is none, and
    /// if the parser isn't the standard one.
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
