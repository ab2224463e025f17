//! Socket.IO: packets, the arguments of events and acks, and their attachments.
//!
//! A message of the Engine.IO connection comes in through a [`Decoder`], which gives a [`Packet`]
//! borrowed from it. The arguments stay JSON text, proven valid, until [`Args::deserialize`] reads
//! them as a type. What goes out is written to a [`Draft`]; an event that others must know before
//! it has a form is an [`Outgoing`]. A [`Fanout`] gives each receiver the form that its session
//! takes. Clients and servers that have agreed on another [`Parser`] have the same packets in
//! another form, as MessagePack ([`msgpack`]): a [`ParserDecoder`] reads it.
//!
//! | Socket.IO | protocol revision | Engine.IO [`Revision`](crate::engine::Revision) |
//! |---|---|---|
//! | 1.x, 2.x | 4 | `V3` |
//! | 3.x, 4.x | 5 | `V4` |
//!
//! # Arguments and types
//!
//! A tuple is the list of arguments, so that `()` is none, and a value of any other type is the one
//! argument. This is decided by the type ([`Shape`]) and not by what serde makes of it: an array, a
//! tuple struct and a `Box` of a tuple are one argument. A reference is what it refers to.
//!
//! | value | JSON |
//! |---|---|
//! | `()` | |
//! | `(1, "a")` | `1,"a"` |
//! | `"a"` | `"a"` |
//! | `vec![1, 2]`, `[1, 2]`, `((1, 2),)` | `[1,2]` |
//! | `struct Point(f64, f64)` | `[1.0,2.0]` |
//! | `None`, `serde_json::Value::Null`, `struct Done;` | `null` |
//!
//! On the way in, arguments that the type does not ask for are ignored. A missing one is `None` for
//! an `Option`, fits what is read from a `null` without looking at it (`()` in a tuple, `struct
//! Done;`), and is an error otherwise.
//!
//! What serde calls bytes (`bytes::Bytes`, `serde_bytes::ByteBuf`) becomes an attachment, at any
//! depth: a binary message of its own, for which a placeholder stands in the JSON.

mod args;
mod decoder;
mod encode;
mod error;
mod fanout;
pub(crate) mod json;
mod limits;
mod outgoing;
mod packet;
mod parser;
mod placeholder;
mod proof;
#[cfg(test)]
mod tests;

pub use args::{Args, ArgsError, OwnedArgs, Shape, from_json, shared};
pub use decoder::{Assembled, Decoder};
pub use encode::{
    Draft, ack, ack_error, ack_from, connect, connect_error, connect_with, disconnect, event,
    event_from, invalid_namespace,
};
pub use error::{DecodeError, EncodeError};
pub use fanout::Fanout;
pub use limits::Limits;
pub use outgoing::Outgoing;
pub use packet::Packet;
pub use parser::{
    Decoded, Messages, Msgpack, PacketDecoder, PacketKind, PacketParser, Parser, ParserDecoder,
    RawPacket, msgpack,
};

/// Most attachments that a packet is encoded with by default. Stock clients in JavaScript close the
/// connection for more (`maxAttachments` of `socket.io-parser`, from 4.2.6); [`Draft::new`] takes
/// another number, for clients that do so, too.
pub const MAX_ATTACHMENTS: usize = 10;

/// Names that the Socket.IO libraries keep for their own events: receivers refuse them.
pub const RESERVED_EVENTS: [&str; 6] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
];

/// The reserved name that this is.
fn reserved(name: &str) -> Option<&'static str> {
    RESERVED_EVENTS.into_iter().find(|it| *it == name)
}
