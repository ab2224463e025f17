//! WebSocket (RFC 6455): frames in both directions and the keys of the opening handshake.
//!
//! Bytes of a peer go into a [`Decoder`], which gives messages and control frames; it owns no
//! buffer but that of a fragmented message. A server's data frames are written by
//! [`EncodedPacket`](crate::engine::EncodedPacket), everything else by the functions here.
//!
//! The one extension, compressed messages, is the module `deflate` (feature `deflate`). A reserved
//! bit that was not agreed on is an error. A [`FrameError`] ends the connection, with the code that
//! [`FrameError::close_code`] gives.

mod decoder;
pub mod deflate;
mod error;
mod frame;
mod handshake;
mod opcode;

pub use decoder::{CloseFrame, Decoded, Decoder, Event, Role};
pub use error::FrameError;
pub use frame::{
    append_frame, close_frame, masked_close_frame, masked_frame, ping_frame, pong_frame,
};
pub use handshake::{accept_key, encode_key, is_valid_key};
pub use opcode::Opcode;
