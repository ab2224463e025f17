//! The protocols that a Socket.IO server and client speak, without I/O.
//!
//! Nothing in this crate opens a socket, reads a clock or spawns a task: codecs are functions of
//! bytes, and state machines take an input and the time, and give an output and the next deadline.
//! The crate `antiphon` puts the I/O of a server around it.
//!
//! | module | what it holds | the rule's source |
//! |---|---|---|
//! | [`engine`] | packets, payloads, heartbeat, upgrade and session of Engine.IO, revisions 3 and 4 | docs/protocol.md 2 to 13 |
//! | [`websocket`] | frames, the opening handshake, compressed messages | RFC 6455, RFC 7692, docs/protocol.md 8 |
//! | [`socket`] | packets, arguments and attachments of Socket.IO, revisions 4 and 5 | docs/protocol.md 14 to 18 |
//! | [`cluster`] | what servers say to each other | docs/protocol.md 24, 25 |
//! | `content_coding` | compressed bodies of HTTP (feature `deflate`) | RFC 9110 §8.4, §12.5.3 |
//! | [`BinaryMessage`] | bytes of a message, lent or owned | |
//! | [`record`] | numbers, texts and events one behind the other, as logs and servers write them | |

// docs.rs says at each item which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod binary;
pub mod cluster;
#[cfg(feature = "deflate")]
pub mod content_coding;
pub mod engine;
#[cfg(feature = "deflate")]
mod inflate;
pub mod record;
pub mod socket;
pub mod websocket;

pub use binary::BinaryMessage;
