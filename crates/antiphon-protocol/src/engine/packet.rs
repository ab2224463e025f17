//! One packet of Engine.IO, read from a text or a binary message (docs/protocol.md 3).
//!
//! A [`Packet`] borrows from the buffer that it was read from; only base64 is decoded into memory
//! of its own. There is no state: the caller says which [`Revision`] the session speaks. What is no
//! packet is a [`PacketError`], and ends the session. The way out is
//! [`EncodedPacket`](super::EncodedPacket).

use std::fmt;

use base64::{
    DecodeError, Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Serialize, Serializer};

use crate::BinaryMessage;

/// The type of a message as a raw byte, in front of binary packets of revision 3.
pub(super) const MESSAGE_BYTE: u8 = 4;

/// The revision of the Engine.IO protocol that a connection speaks (query parameter `EIO`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Revision {
    /// Revision 3: Socket.IO clients 1.x and 2.x.
    V3,
    /// Revision 4: Socket.IO clients from 3.0.
    V4,
}

impl Revision {
    /// Reads the value of the query parameter `EIO`, empty if it is missing. Clients from before
    /// revision 4 say 3, 2, 1 or nothing; the reference implementation takes all of them for 3.
    #[must_use]
    pub fn from_query(value: &str) -> Option<Self> {
        match value {
            "" | "1" | "2" | "3" => Some(Self::V3),
            "4" => Some(Self::V4),
            _ => None,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V3 => 3,
            Self::V4 => 4,
        }
    }
}

impl fmt::Display for Revision {
    /// Its number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

impl Serialize for Revision {
    /// As its number.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}

/// The type of an Engine.IO packet; its digit is the first character on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// The handshake, sent by the server.
    Open = b'0',
    /// The sender is closing the session.
    Close = b'1',
    /// Heartbeat: sent by the server in revision 4, by the client in revision 3.
    Ping = b'2',
    /// The answer to a ping.
    Pong = b'3',
    /// A message of the application.
    Message = b'4',
    /// The client has paused its old transport and now uses this one.
    Upgrade = b'5',
    /// Nothing: answers a poll that must return.
    Noop = b'6',
}

impl PacketType {
    /// The ASCII digit of this type.
    #[must_use]
    pub const fn digit(self) -> u8 {
        self as u8
    }
}

/// A message of the application, borrowed from the buffer that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text.
    Text(&'a str),
    /// Bytes; owned if they had to be decoded from base64, or were owned before.
    Binary(BinaryMessage<'a>),
}

/// One Engine.IO packet, borrowed from the buffer that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// See [`PacketType::Open`]; the data is the handshake as JSON.
    Open(&'a str),
    /// See [`PacketType::Close`].
    Close,
    /// See [`PacketType::Ping`]; the data is empty, or `probe` on a transport that is being probed.
    Ping(&'a str),
    /// See [`PacketType::Pong`].
    Pong(&'a str),
    /// See [`PacketType::Message`].
    Message(Message<'a>),
    /// See [`PacketType::Upgrade`].
    Upgrade,
    /// See [`PacketType::Noop`].
    Noop,
}

/// Why a packet could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// There is nothing where the type belongs.
    #[error("the packet is empty: expected its type, a digit from 0 to 6")]
    Empty,
    /// The first character of a text packet is no type.
    #[error("unknown packet type {0:?}: expected a digit from 0 to 6, or `b` in front of base64")]
    UnknownType(char),
    /// The type byte of a binary packet of revision 3 is not that of a message.
    #[error("binary packet with the type byte {0:#04x}: expected a message, 0x04")]
    BinaryType(u8),
    /// The type digit of a base64 packet of revision 3 is not that of a message.
    #[error("base64 packet of type {0:?}: expected a message, `b4`")]
    Base64Type(char),
    /// The data of a base64 packet is not base64.
    #[error("the data of a `b` packet is not base64 of the standard alphabet: {0}")]
    Base64(Base64Error),
}

/// What is wrong with the base64 of a packet, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct Base64Error(DecodeError);

/// Base64 as packets carry it: written with padding, read with or without it. Bits left over in
/// the last character are ignored, as the reference implementation does.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

impl<'a> Packet<'a> {
    /// Reads a text packet: the text of a WebSocket frame, or one packet of a text payload.
    ///
    /// A binary message comes as text if the transport can't carry bytes: `b` and base64 in
    /// revision 4, `b4` and base64 in revision 3. Data behind the types close, upgrade and noop has
    /// no meaning and is ignored. Source: docs/protocol.md 3.1 to 3.6.
    ///
    /// # Errors
    /// [`PacketError`] if the type is missing or unknown, or the base64 is invalid.
    pub fn from_text(text: &'a str, revision: Revision) -> Result<Self, PacketError> {
        let (kind, data) = split_first(text)?;
        Ok(match kind {
            '0' => Self::Open(data),
            '1' => Self::Close,
            '2' => Self::Ping(data),
            '3' => Self::Pong(data),
            '4' => Self::Message(Message::Text(data)),
            '5' => Self::Upgrade,
            '6' => Self::Noop,
            'b' => Self::Message(Message::Binary(decode_base64(data, revision)?.into())),
            unknown => return Err(PacketError::UnknownType(unknown)),
        })
    }

    /// Reads a binary packet: the bytes of a WebSocket frame, or one binary packet of a binary
    /// payload. It is always a message; revision 3 has the type as a raw byte in front, revision 4
    /// has nothing. Source: docs/protocol.md 3.4.
    ///
    /// # Errors
    /// In revision 3 [`PacketError::Empty`] without a type byte and [`PacketError::BinaryType`] if
    /// it is not that of a message. Revision 4 takes any bytes.
    pub fn from_binary(
        data: impl Into<BinaryMessage<'a>>,
        revision: Revision,
    ) -> Result<Self, PacketError> {
        let data = data.into();
        if !revision.dialect().has_type_byte {
            return Ok(Self::Message(Message::Binary(data)));
        }
        match data.split_first() {
            None => Err(PacketError::Empty),
            Some((MESSAGE_BYTE, message)) => Ok(Self::Message(Message::Binary(message))),
            Some((other, _)) => Err(PacketError::BinaryType(other)),
        }
    }
}

fn split_first(text: &str) -> Result<(char, &str), PacketError> {
    let mut chars = text.chars();
    let first = chars.next().ok_or(PacketError::Empty)?;
    Ok((first, chars.as_str()))
}

fn decode_base64(data: &str, revision: Revision) -> Result<Vec<u8>, PacketError> {
    let encoded = match revision.dialect().has_type_byte {
        false => data,
        true => match split_first(data)? {
            ('4', encoded) => encoded,
            (other, _) => return Err(PacketError::Base64Type(other)),
        },
    };
    BASE64
        .decode(encoded)
        .map_err(|error| PacketError::Base64(Base64Error(error)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOTH: [Revision; 2] = [Revision::V3, Revision::V4];

    fn binary(data: &[u8]) -> Packet<'_> {
        Packet::Message(Message::Binary(BinaryMessage::Lent(data)))
    }

    #[test]
    fn what_clients_said_before_revision_4_is_revision_3() {
        for old in ["", "1", "2", "3"] {
            assert_eq!(Revision::from_query(old), Some(Revision::V3));
        }
        assert_eq!(Revision::from_query("4"), Some(Revision::V4));
        for other in ["0", "5", "04", "4.0", " 4", "44", "abc"] {
            assert_eq!(Revision::from_query(other), None);
        }
    }

    #[test]
    fn a_digit_is_the_type() {
        for revision in BOTH {
            for (text, packet) in [
                (r#"0{"sid":"x"}"#, Packet::Open(r#"{"sid":"x"}"#)),
                ("1", Packet::Close),
                ("2", Packet::Ping("")),
                ("2probe", Packet::Ping("probe")),
                ("3", Packet::Pong("")),
                ("3probe", Packet::Pong("probe")),
                ("4", Packet::Message(Message::Text(""))),
                ("4hello", Packet::Message(Message::Text("hello"))),
                ("4€🦀", Packet::Message(Message::Text("€🦀"))),
                ("5", Packet::Upgrade),
                ("6", Packet::Noop),
            ] {
                assert_eq!(Packet::from_text(text, revision), Ok(packet));
            }
        }
    }

    #[test]
    fn close_upgrade_and_noop_ignore_their_data() {
        for (text, packet) in [
            ("1x", Packet::Close),
            ("5x", Packet::Upgrade),
            ("6x", Packet::Noop),
        ] {
            assert_eq!(Packet::from_text(text, Revision::V4), Ok(packet));
        }
    }

    #[test]
    fn a_separator_splits_only_payloads() {
        let packet = Packet::from_text("4a\x1e4b", Revision::V4);
        assert_eq!(packet, Ok(Packet::Message(Message::Text("a\x1e4b"))));
    }

    #[test]
    fn base64_has_a_type_digit_in_revision_3_only() {
        let data = [1, 2, 3, 4];
        let packet = Packet::from_text("bAQIDBA==", Revision::V4);
        assert_eq!(packet, Ok(binary(&data)));
        let packet = Packet::from_text("b4AQIDBA==", Revision::V3);
        assert_eq!(packet, Ok(binary(&data)));
    }

    #[test]
    fn base64_may_lack_padding_and_be_empty() {
        for text in ["bAQIDBA==", "bAQIDBA=", "bAQIDBA", "bAQIDBB"] {
            let packet = Packet::from_text(text, Revision::V4);
            assert_eq!(packet, Ok(binary(&[1, 2, 3, 4])), "{text}");
        }
        assert_eq!(Packet::from_text("b", Revision::V4), Ok(binary(&[])));
        assert_eq!(Packet::from_text("b4", Revision::V3), Ok(binary(&[])));
    }

    #[test]
    fn invalid_base64_says_where() {
        for text in ["bA", "bAQ-_", "bAQ\n==", "bAQ==AQ==", "b€"] {
            let error = Packet::from_text(text, Revision::V4).unwrap_err();
            assert!(matches!(error, PacketError::Base64(_)), "{text}");
        }
        let error = Packet::from_text("bAQ-_", Revision::V4).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the data of a `b` packet is not base64 of the standard alphabet: Invalid symbol 45, \
             offset 2."
        );
    }

    #[test]
    fn an_unknown_type_is_an_error() {
        for revision in BOTH {
            for (text, found) in [("7", '7'), ("a4", 'a'), ("é", 'é'), ("\u{1e}", '\u{1e}')] {
                let error = Packet::from_text(text, revision).unwrap_err();
                assert_eq!(error, PacketError::UnknownType(found));
            }
            assert_eq!(Packet::from_text("", revision), Err(PacketError::Empty));
        }
    }

    #[test]
    fn only_messages_are_binary_in_revision_3() {
        let cases = [
            ("b", PacketError::Empty),
            ("b2", PacketError::Base64Type('2')),
        ];
        for (text, error) in cases {
            assert_eq!(Packet::from_text(text, Revision::V3), Err(error));
        }
        let cases = [
            (&[][..], PacketError::Empty),
            (&[2], PacketError::BinaryType(2)),
            (b"4x", PacketError::BinaryType(b'4')),
        ];
        for (data, error) in cases {
            assert_eq!(Packet::from_binary(data, Revision::V3), Err(error));
        }
    }

    #[test]
    fn a_binary_frame_has_a_type_byte_in_revision_3_only() {
        let data = [4, 1, 2];
        assert_eq!(
            Packet::from_binary(&data[..], Revision::V4),
            Ok(binary(&data))
        );
        assert_eq!(
            Packet::from_binary(&data[..], Revision::V3),
            Ok(binary(&[1, 2]))
        );
        assert_eq!(Packet::from_binary(&[][..], Revision::V4), Ok(binary(&[])));
        assert_eq!(Packet::from_binary(&[4][..], Revision::V3), Ok(binary(&[])));
    }

    proptest! {
        #[test]
        fn no_text_and_no_bytes_panic(text: String, data: Vec<u8>) {
            for revision in BOTH {
                let _ = Packet::from_text(&text, revision);
                let _ = Packet::from_text(&format!("b{text}"), revision);
                let _ = Packet::from_text(&format!("b4{text}"), revision);
                let _ = Packet::from_binary(&data[..], revision);
            }
        }
    }
}
