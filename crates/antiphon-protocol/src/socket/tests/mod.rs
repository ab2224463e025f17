mod alike;
mod args;
mod decode;
mod encode;
mod msgpack;
mod parsers;
mod parts;
mod properties;
mod surrogates;

use bytes::Bytes;

use super::{Assembled, DecodeError, Decoder, Limits, Packet};
use crate::engine::{EncodedMessage, Revision};

fn decoder(revision: Revision) -> Decoder {
    Decoder::new(revision, Limits::default())
}

/// Decodes one text of revision 5 that needs no attachments.
fn decode(text: &str) -> Result<Packet<'_>, DecodeError> {
    decoder(Revision::V4)
        .text(text)
        .map(|packet| packet.expect("needs attachments"))
}

/// Decodes one text of revision 4 that needs no attachments.
fn decode_v3(text: &str) -> Result<Packet<'_>, DecodeError> {
    decoder(Revision::V3)
        .text(text)
        .map(|packet| packet.expect("needs attachments"))
}

fn refuse(text: &str) -> DecodeError {
    decoder(Revision::V4).text(text).expect_err(text)
}

/// Decodes one text of revision 5 with its attachments.
fn assemble(text: &str, attachments: &[&'static [u8]]) -> Assembled {
    let mut decoder = decoder(Revision::V4);
    assert_eq!(decoder.text(text).expect(text), None);
    let mut last = None;
    for attachment in attachments {
        assert!(decoder.is_incomplete());
        last = decoder
            .binary(Bytes::from_static(attachment))
            .expect("unexpected attachment");
    }
    assert!(!decoder.is_incomplete());
    last.expect("attachments are missing")
}

/// The Socket.IO packet of a message, without the type of the Engine.IO packet.
fn wire(message: &EncodedMessage) -> &str {
    let payload = message.first().payload();
    assert_eq!(payload[0], b'4');
    std::str::from_utf8(&payload[1..]).expect("UTF-8")
}

fn attachments(message: &EncodedMessage) -> Vec<&[u8]> {
    message
        .attachments()
        .iter()
        .map(|packet| packet.payload())
        .collect()
}
