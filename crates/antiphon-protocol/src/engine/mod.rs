//! Engine.IO, revisions 3 and 4 (docs/protocol.md 2 to 13): packets, bodies of HTTP, and the
//! session.
//!
//! Codecs are functions: [`Packet`] reads one packet, [`EncodedPacket`] is one that is ready for
//! the wire, [`payload`], [`jsonp`] and [`event_stream`] put several into a body. State is in
//! [`session`], with its heartbeat, its upgrades and its outbound queue: a machine is given inputs
//! and the time, and gives outputs and its next deadline. A peer's mistake is an error
//! ([`PacketError`], [`PayloadError`]) or ends the session with a [`CloseReason`]; it never panics.

mod bundle;
mod dialect;
mod encoded;
pub mod event_stream;
mod form;
pub mod jsonp;
mod open;
mod outbound;
mod packet;
pub mod payload;
pub mod session;

pub use bundle::{Bundle, Forms};
pub use dialect::Dialect;
pub(crate) use encoded::PacketWriter;
pub use encoded::{Encoded, EncodedMessage, EncodedPacket};
pub use form::{Compression, Form};
pub use open::{Handshake, HandshakeError, Open};
pub use outbound::{BadOffset, ConflateKey, Outbound, QueueFull, QueueLimits, QueuePolicy, Queued};
pub use packet::{Base64Error, Message, Packet, PacketError, PacketType, Revision};
pub use payload::{Payload, PayloadError};
pub use session::{
    ClientSession, CloseReason, ServerSession, SessionConfig, Timer, TransportKind, UpgradeTarget,
};
