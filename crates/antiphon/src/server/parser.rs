//! Parsers of the application's, kept from doing harm.
//!
//! The builder puts one of these around a [`PacketParser`] that it is given. Packets and messages
//! go through it unchanged, both ways. A panic becomes an error, so that it ends one packet or one
//! connection, and no broadcast and nobody else's connection. A packet that can't be written is
//! lost for its receivers and their emitter may have gone, so that is said here, where it happens;
//! a message that can't be read closes its connection, which says so itself.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use antiphon_protocol::socket::{
    DecodeError, Decoded, EncodeError, Limits, Messages, PacketDecoder, PacketParser, Parser,
    RawPacket,
};
use bytes::Bytes;

use crate::seldom::{A_MINUTE, Seldom};

/// The parser of a server, guarded if it is the application's.
pub(super) fn guarded(parser: Parser) -> Parser {
    match parser {
        Parser::Custom(parser) => Parser::from(Guarded {
            parser,
            unwritten: Seldom::each(A_MINUTE),
        }),
        ours => ours,
    }
}

struct Guarded {
    parser: Arc<dyn PacketParser>,
    unwritten: Seldom,
}

impl Guarded {
    #[cold]
    fn note(&self, packet: &RawPacket<'_>, error: &EncodeError) {
        let (namespace, kind) = (&*packet.namespace, packet.kind);
        tracing::debug!(namespace, ?kind, %error, "packet dropped: the parser can't write it");
        if let Some(times) = self.unwritten.happened(1) {
            tracing::error!(
                namespace,
                ?kind,
                %error,
                times,
                "packet dropped: the parser can't write it (said once a minute; each one at level \
                 debug)"
            );
        }
    }
}

impl PacketParser for Guarded {
    fn encode(&self, packet: &RawPacket<'_>, messages: &mut Messages) -> Result<(), EncodeError> {
        let encode = AssertUnwindSafe(|| self.parser.encode(packet, messages));
        let encoded = catch_unwind(encode)
            .unwrap_or_else(|panic| Err(EncodeError::custom(said(&*panic))))
            .and_then(|()| match messages.is_empty() {
                true => Err(EncodeError::custom("it has written no message")),
                false => Ok(()),
            });
        encoded.inspect_err(|error| self.note(packet, error))
    }

    fn decoder(&self) -> Box<dyn PacketDecoder> {
        let made = catch_unwind(AssertUnwindSafe(|| self.parser.decoder()));
        made.map_or_else(
            |panic| Box::new(Broken(said(&*panic))) as Box<dyn PacketDecoder>,
            |decoder| Box::new(GuardedDecoder(decoder)),
        )
    }
}

struct GuardedDecoder(Box<dyn PacketDecoder>);

impl PacketDecoder for GuardedDecoder {
    fn text<'m>(
        &mut self,
        text: &'m str,
        limits: &Limits,
    ) -> Result<Option<Decoded<'m>>, DecodeError> {
        let read = catch_unwind(AssertUnwindSafe(|| self.0.text(text, limits)));
        read.unwrap_or_else(|panic| Err(DecodeError::custom(said(&*panic))))
    }

    fn binary(
        &mut self,
        data: Bytes,
        limits: &Limits,
    ) -> Result<Option<Decoded<'static>>, DecodeError> {
        let read = catch_unwind(AssertUnwindSafe(|| self.0.binary(data, limits)));
        read.unwrap_or_else(|panic| Err(DecodeError::custom(said(&*panic))))
    }
}

/// Stands for a decoder that couldn't be made: it refuses all.
struct Broken(String);

impl PacketDecoder for Broken {
    fn text<'m>(&mut self, _: &'m str, _: &Limits) -> Result<Option<Decoded<'m>>, DecodeError> {
        Err(DecodeError::custom(&self.0))
    }

    fn binary(&mut self, _: Bytes, _: &Limits) -> Result<Option<Decoded<'static>>, DecodeError> {
        Err(DecodeError::custom(&self.0))
    }
}

/// What a panic has said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it has panicked: {}", text.unwrap_or("without a text"))
}
