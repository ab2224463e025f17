//! Payloads: several packets in one HTTP body of long-polling.
//!
//! | revision | body | one packet |
//! |---|---|---|
//! | 4 | text | separated from the next by U+001E; a binary message is `b` and base64 |
//! | 3 | text | `<length>:<packet>`, the length in UTF-16 code units; a binary message is `b4` and base64 |
//! | 3 | binary | `0` (text) or `1` (binary), the digits of the length in bytes, `0xff`, the packet |
//!
//! In the binary form, the `0` or `1` and the digits are raw bytes from 0 to 9. Source:
//! docs/protocol.md 5.

use std::iter::FusedIterator;

use super::{EncodedPacket, Packet, PacketError, Revision, jsonp::FormError};

const SEPARATOR: char = '\x1e';

/// Ends the length of a packet in a binary payload.
const LENGTH_END: u8 = 0xff;

/// More than what any length and its delimiters take.
const LENGTH_ROOM: usize = 12;

/// The body of an HTTP response or request, made by [`encode`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The bytes of the body.
    pub body: Vec<u8>,
    /// Whether the content type is `application/octet-stream` and not text. Only in revision 3.
    pub binary: bool,
}

/// Encodes packets, which are encoded in `revision` already, as one body.
///
/// `binary` says that the peer takes a binary payload: a client of revision 3 that asked for
/// neither `b64` nor `j`. It gets one if a packet is binary. Revision 4 has no such form and
/// ignores it.
#[must_use]
pub fn encode<'p, P>(packets: P, revision: Revision, binary: bool) -> Payload
where
    P: IntoIterator<Item = &'p EncodedPacket>,
    P::IntoIter: Clone,
{
    let packets = packets.into_iter();
    let binary = binary
        && revision.dialect().has_binary_payloads
        && packets.clone().any(EncodedPacket::is_binary);
    let capacity = packets
        .clone()
        .map(|packet| LENGTH_ROOM + text_length(packet))
        .sum();
    let mut body = Vec::with_capacity(capacity);
    match revision {
        Revision::V4 => append_separated(&mut body, packets),
        Revision::V3 if binary => append_binary(&mut body, packets),
        Revision::V3 => append_counted(&mut body, packets),
    }
    Payload { body, binary }
}

fn text_length(packet: &EncodedPacket) -> usize {
    if packet.is_binary() {
        packet.base64_length()
    } else {
        packet.payload().len()
    }
}

fn append_separated<'p>(body: &mut Vec<u8>, packets: impl Iterator<Item = &'p EncodedPacket>) {
    for (index, packet) in packets.enumerate() {
        if index > 0 {
            body.push(SEPARATOR as u8);
        }
        if packet.is_binary() {
            packet.append_base64(Revision::V4, body);
        } else {
            body.extend_from_slice(packet.payload());
        }
    }
}

fn append_counted<'p>(body: &mut Vec<u8>, packets: impl Iterator<Item = &'p EncodedPacket>) {
    for packet in packets {
        if packet.is_binary() {
            let data = packet.payload().len().saturating_sub(1);
            append_decimal(body, 2 + data.div_ceil(3) * 4, b'0');
            body.push(b':');
            packet.append_base64(Revision::V3, body);
        } else {
            append_decimal(body, utf16_length(packet.payload()), b'0');
            body.push(b':');
            body.extend_from_slice(packet.payload());
        }
    }
    if body.is_empty() {
        body.extend_from_slice(b"0:");
    }
}

fn append_binary<'p>(body: &mut Vec<u8>, packets: impl Iterator<Item = &'p EncodedPacket>) {
    for packet in packets {
        body.push(u8::from(packet.is_binary()));
        append_decimal(body, packet.payload().len(), 0);
        body.push(LENGTH_END);
        body.extend_from_slice(packet.payload());
    }
}

/// Appends the decimal digits of a number, where `zero` is the byte of the digit 0.
fn append_decimal(body: &mut Vec<u8>, mut number: usize, zero: u8) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = zero + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    body.extend_from_slice(&digits[start..]);
}

/// How many UTF-16 code units a UTF-8 text takes: one a character, two if it has four bytes.
fn utf16_length(text: &[u8]) -> usize {
    let units = |&byte: &u8| usize::from(byte & 0xc0 != 0x80) + usize::from(byte >= 0xf0);
    text.iter().map(units).sum()
}

/// Why a payload could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The body is empty.
    #[error("the payload is empty: expected at least one packet")]
    Empty,
    /// A binary body came in revision 4.
    #[error("the payload is binary: revision 4 takes text only, with binary messages as base64")]
    BinaryContent,
    /// The body, or a text packet of a binary body, is not UTF-8.
    #[error("the payload is not valid UTF-8")]
    NotUtf8,
    /// There are more packets than the receiver takes.
    #[error("the payload has more than {max} packets")]
    TooManyPackets {
        /// How many the receiver takes.
        max: usize,
    },
    /// The length in front of a packet is missing, is no number or is far too large.
    #[error("a packet of the payload has no valid length: expected decimal digits and a delimiter")]
    Length,
    /// A packet is shorter than its length says.
    #[error("the payload ends within a packet, which was said to have the length {expected}")]
    Truncated {
        /// The length in front of the packet.
        expected: usize,
    },
    /// The length of a text packet ends between the two code units of one character.
    #[error("the length {length} of a packet splits a character: lengths count UTF-16 code units")]
    SplitCharacter {
        /// The length in front of the packet.
        length: usize,
    },
    /// A packet of a binary body is neither text (0) nor binary (1).
    #[error(
        "a packet of the payload starts with the byte {0:#04x}: expected 0 (text) or 1 (binary)"
    )]
    Kind(u8),
    /// The form of a POST by JSONP has no payload.
    #[error(transparent)]
    Form(#[from] FormError),
    /// One of the packets is invalid.
    #[error("invalid packet in a payload: {0}")]
    Packet(#[from] PacketError),
}

/// Reads a body. `binary` says that its content type is `application/octet-stream`.
///
/// # Errors
/// [`PayloadError`] for an empty body, a text body that is not UTF-8, and a binary one in revision
/// 4. All other errors come from the iterator, after the packets in front of them.
pub fn decode(
    body: &[u8],
    revision: Revision,
    binary: bool,
    max_packets: usize,
) -> Result<Packets<'_>, PayloadError> {
    if binary && !revision.dialect().has_binary_payloads {
        return Err(PayloadError::BinaryContent);
    }
    if body.is_empty() {
        return Err(PayloadError::Empty);
    }
    let rest = if binary {
        Rest::Binary(body)
    } else {
        let text = simdutf8::basic::from_utf8(body).map_err(|_| PayloadError::NotUtf8)?;
        match revision {
            Revision::V4 => Rest::Separated(text),
            Revision::V3 => Rest::Counted(text),
        }
    };
    Ok(Packets {
        rest,
        left: max_packets,
        max: max_packets,
    })
}

/// The packets of a body, in order. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: Rest<'a>,
    left: usize,
    max: usize,
}

/// What has not been read yet.
#[derive(Debug, Clone, Copy)]
enum Rest<'a> {
    /// Revision 4; there is one more packet, and it may be empty.
    Separated(&'a str),
    /// Revision 3, text.
    Counted(&'a str),
    /// Revision 3, binary.
    Binary(&'a [u8]),
    End,
}

/// A packet as it stands in a body.
enum Undecoded<'a> {
    Text(&'a str, Revision),
    /// Of revision 3, which alone has them.
    Binary(&'a [u8]),
}

impl<'a> Packets<'a> {
    /// Passes over so many packets without decoding them: base64 stays what it is.
    ///
    /// # Errors
    /// What the iterator says if the body isn't a payload until there.
    pub fn pass(&mut self, count: usize) -> Result<(), PayloadError> {
        for _ in 0..count {
            self.split_off()?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Option<Packet<'a>>, PayloadError> {
        let Some(packet) = self.split_off()? else {
            return Ok(None);
        };
        let rest = std::mem::replace(&mut self.rest, Rest::End);
        let packet = match packet {
            Undecoded::Text(text, revision) => Packet::from_text(text, revision)?,
            Undecoded::Binary(data) => Packet::from_binary(data, Revision::V3)?,
        };
        self.rest = rest;
        Ok(Some(packet))
    }

    /// Takes the next packet off. After an error nothing is left.
    fn split_off(&mut self) -> Result<Option<Undecoded<'a>>, PayloadError> {
        let (packet, rest) = match std::mem::replace(&mut self.rest, Rest::End) {
            Rest::Separated(text) => {
                self.take_one()?;
                let (packet, rest) = match text.split_once(SEPARATOR) {
                    Some((packet, rest)) => (packet, Rest::Separated(rest)),
                    None => (text, Rest::End),
                };
                (Undecoded::Text(packet, Revision::V4), rest)
            }
            Rest::Counted(mut text) => loop {
                if text.is_empty() {
                    return Ok(None);
                }
                self.take_one()?;
                let (packet, rest) = split_counted(text)?;
                text = rest;
                // An empty payload is `0:`, so nothing is no packet here.
                if !packet.is_empty() {
                    break (Undecoded::Text(packet, Revision::V3), Rest::Counted(rest));
                }
            },
            Rest::Binary([]) | Rest::End => return Ok(None),
            Rest::Binary(body) => {
                self.take_one()?;
                let (packet, rest) = read_binary(body)?;
                (packet, Rest::Binary(rest))
            }
        };
        self.rest = rest;
        Ok(Some(packet))
    }

    fn take_one(&mut self) -> Result<(), PayloadError> {
        let max = self.max;
        self.left = (self.left.checked_sub(1)).ok_or(PayloadError::TooManyPackets { max })?;
        Ok(())
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, PayloadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

impl FusedIterator for Packets<'_> {}

/// Splits the first packet of a text payload of revision 3 off.
fn split_counted(text: &str) -> Result<(&str, &str), PayloadError> {
    let (length, header) = read_length(text.as_bytes(), b'0', b':')?;
    let (_, text) = text.split_at_checked(header).ok_or(PayloadError::Length)?;
    let end = utf16_end(text, length)?;
    (text.split_at_checked(end)).ok_or(PayloadError::SplitCharacter { length })
}

/// The byte at which the first `length` UTF-16 code units of a text end.
fn utf16_end(text: &str, length: usize) -> Result<usize, PayloadError> {
    match text.as_bytes().get(..length) {
        // No character has more code units than bytes.
        None => return Err(PayloadError::Truncated { expected: length }),
        Some(head) if head.is_ascii() => return Ok(length),
        Some(_) => {}
    }
    let mut characters = text.chars();
    let mut units = 0;
    while units < length {
        let character = characters.next();
        units += character
            .ok_or(PayloadError::Truncated { expected: length })?
            .len_utf16();
    }
    if units > length {
        return Err(PayloadError::SplitCharacter { length });
    }
    Ok(text.len() - characters.as_str().len())
}

/// Splits the first packet of a binary payload off.
fn read_binary(body: &[u8]) -> Result<(Undecoded<'_>, &[u8]), PayloadError> {
    let Some((&kind, body)) = body.split_first() else {
        return Err(PayloadError::Empty);
    };
    if kind > 1 {
        return Err(PayloadError::Kind(kind));
    }
    let (expected, header) = read_length(body, 0, LENGTH_END)?;
    let (data, rest) = body
        .get(header..)
        .and_then(|body| body.split_at_checked(expected))
        .ok_or(PayloadError::Truncated { expected })?;
    let packet = if kind == 1 {
        Undecoded::Binary(data)
    } else {
        let text = simdutf8::basic::from_utf8(data).map_err(|_| PayloadError::NotUtf8)?;
        Undecoded::Text(text, Revision::V3)
    };
    Ok((packet, rest))
}

/// Reads decimal digits up to the byte `end`; returns the number and the bytes that it took.
fn read_length(input: &[u8], zero: u8, end: u8) -> Result<(usize, usize), PayloadError> {
    let mut length = 0_usize;
    for (index, &byte) in input.iter().enumerate() {
        if byte == end && index > 0 {
            return Ok((length, index + 1));
        }
        let digit = byte.wrapping_sub(zero);
        if digit > 9 {
            break;
        }
        length = length
            .checked_mul(10)
            .and_then(|length| length.checked_add(usize::from(digit)))
            .ok_or(PayloadError::Length)?;
    }
    Err(PayloadError::Length)
}

#[cfg(test)]
mod tests;
