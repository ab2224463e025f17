//! Packets in MessagePack, as `socket.io-msgpack-parser` 3.x writes and reads them (revision 5).
//!
//! One binary message of the Engine.IO connection is one packet, a map
//! `{"type":2,"nsp":"/","id":7,"data":["name",1]}`. Binary values stand in it where they belong,
//! and no attachments follow. Inside this library the arguments of an event are JSON with
//! attachments, so both functions transcode at the edge: [`decode`] gives the same
//! [`Packet`](crate::socket::Packet) as [`Decoder`](crate::socket::Decoder) does, and [`encode`]
//! takes it. Neither looks at what came before.
//!
//! A message comes from a peer, so that everything in it may be wrong. The
//! [`Limits`](crate::socket::Limits) of texts hold for it, too, nothing is allocated by a length
//! that it declares, and its JSON is at most seven times as long (`false` is one byte here and five
//! there, a control character six), and some 30 bytes for each attachment.
//!
//! ```
//! use antiphon_protocol::socket::{Limits, Packet, msgpack};
//!
//! let joined = Packet::Connect {
//!     namespace: "/chat",
//!     query: None,
//!     auth: Some(r#"{"sid":"abc"}"#),
//! };
//! let mut message = Vec::new();
//! msgpack::encode(&joined, &mut message)?;
//! assert_eq!(message, b"\x83\xa4type\x00\xa3nsp\xa5/chat\xa4data\x81\xa3sid\xa3abc");
//!
//! // From a client: `socket.emit("point", 1, { x: new Uint8Array([7]).buffer })`
//! let message = b"\x83\xa4type\x02\xa4data\x93\xa5point\x01\x81\xa1x\xc4\x01\x07\xa3nsp\xa1/";
//! let mut buffer = msgpack::Buffer::default();
//! let packet = msgpack::decode(message, &Limits::default(), &mut buffer)?;
//! let Packet::Event { name, args, .. } = packet else { panic!() };
//! assert_eq!(name, "point");
//! assert_eq!(args.json(), r#"1,{"x":{"_placeholder":true,"num":0}}"#);
//! assert_eq!(*args.attachments(), [&[7][..]]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What becomes of a value
//!
//! | MessagePack | JSON |
//! |---|---|
//! | nil, booleans, `str`, arrays, maps | the same; a key may come twice, as in JSON |
//! | invalid UTF-8 in a `str` | U+FFFD, as in Node. (Its stock clients may leave a stray byte behind half of an emoji.) |
//! | integers | exactly, from -2^63 to 2^64-1 |
//! | floats | the shortest text that is this number; `null` for NaN and the infinities |
//! | `bin`, extension 0 with a length (an `ArrayBuffer` of a client in Node) | an attachment |
//! | `d4 00` and a byte: `undefined` | `null`; in an object the entry is left out |
//! | `d7 00`: a `Date`; extension -1: a timestamp | the text of `toISOString()`, to the millisecond; `null` beyond the years of JavaScript |
//! | keys that are integers or booleans | their text |
//! | other extensions and keys | refused |
//!
//! The way back: numbers without a point or an exponent are integers if they are between -2^63 and
//! 2^64-1, others are of 64 bits with a floating point. Half of a surrogate pair, which JSON can
//! escape, is U+FFFD.
//!
//! # What is refused beyond that
//!
//! Fields of the packet that come twice; binary values in the payload of a CONNECT or
//! CONNECT_ERROR; `{"_placeholder":true,"num":0}` as an object of an application, if binary values
//! are in the same packet: it would pass for one of these. (The standard parsers take it for one.)
//!
//! A `data` or an `id` that is nil counts as absent, since `python-socketio` writes it. (The stock
//! parser refuses it from others.) Unknown fields are skipped.

pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod reader;
mod time;

use bytes::Bytes;

use super::{Decoded, Messages, PacketDecoder, PacketParser, RawPacket};
use crate::socket::{DecodeError, EncodeError, Limits};

pub use decode::{Buffer, decode};
pub use encode::encode;

/// The parser of `socket.io-msgpack-parser`: each packet is one binary message.
///
/// It keeps nothing between messages, so that it is its own decoder.
#[derive(Debug, Clone, Copy, Default)]
pub struct Msgpack;

impl PacketParser for Msgpack {
    fn encode(&self, packet: &RawPacket<'_>, messages: &mut Messages) -> Result<(), EncodeError> {
        let data = packet.data.as_ref().map_or(0, |data| data.len());
        let mut message = Vec::with_capacity(data + 32);
        encode::raw(packet, &mut message)?;
        messages.binary(&message);
        Ok(())
    }

    fn decoder(&self) -> Box<dyn PacketDecoder> {
        Box::new(*self)
    }
}

impl PacketDecoder for Msgpack {
    fn binary(
        &mut self,
        data: Bytes,
        limits: &Limits,
    ) -> Result<Option<Decoded<'static>>, DecodeError> {
        decode::assemble(&data, limits).map(|packet| Some(packet.into()))
    }
}

/// The types of packets, as they stand in the field `type`.
mod kind {
    pub(super) const CONNECT: u8 = 0;
    pub(super) const DISCONNECT: u8 = 1;
    pub(super) const EVENT: u8 = 2;
    pub(super) const ACK: u8 = 3;
    pub(super) const CONNECT_ERROR: u8 = 4;
}
