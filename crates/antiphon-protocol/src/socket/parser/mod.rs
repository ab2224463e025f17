//! The forms of a packet on the wire, beside the text of the standard parser.
//!
//! A server and all of its clients agree on one beforehand; nothing on the wire says which it is.

pub mod msgpack;
