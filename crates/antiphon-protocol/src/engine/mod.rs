//! Engine.IO, revisions 3 and 4 (docs/protocol.md 2 to 13): packets, bodies of HTTP, and the session.
//!
//! Codecs are functions: [`Packet`] reads one packet, [`EncodedPacket`] is one that is ready for the
//! wire, [`payload`], [`jsonp`] and [`event_stream`] put several into a body. State is in [`Session`],
//! with its heartbeat, its upgrades and its outbound queue: it is given an [`Input`] and the time, and
//! gives an [`Output`] and its next deadline. A peer's mistake is an error ([`PacketError`],
//! [`PayloadError`]) or ends the session with a [`CloseReason`]; it never
//! panics.

mod bundle;
mod dialect;
mod encoded;
pub mod event_stream;
mod form;
mod heartbeat;
pub mod jsonp;
mod open;
mod outbound;
mod packet;
pub mod payload;
mod session;
mod upgrade;

pub use bundle::Bundle;
pub use dialect::Dialect;
pub(crate) use encoded::PacketWriter;
pub use encoded::{Encoded, EncodedMessage, EncodedPacket};
pub use form::{Form, Forms, Parser};
pub use heartbeat::{Beat, Heartbeat, WrongDirection};
pub use open::{Handshake, HandshakeError, Open};
pub use outbound::{BadOffset, Outbound, QueueFull, QueueLimits};
pub use packet::{Base64Error, Message, Packet, PacketError, PacketType, Revision};
pub use payload::{Payload, PayloadError};
pub use session::{
    CloseReason, Input, Output, Refusal, Session, SessionConfig, StreamStep, TransportKind,
};
pub use upgrade::{ProbeStep, Upgrade, UpgradeTimeout};
