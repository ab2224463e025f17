//! Engine.IO: packets over long-polling, streaming and WebSocket, with a heartbeat and upgrades between them.

mod encoded;
pub mod event_stream;
mod heartbeat;
pub mod jsonp;
mod open;
mod outbound;
mod packet;
pub mod payload;
mod session;
mod upgrade;

pub use encoded::EncodedPacket;
pub(crate) use encoded::PacketWriter;
pub use heartbeat::{Beat, Heartbeat, WrongDirection};
pub use open::{Handshake, HandshakeError, Open};
pub use outbound::{BadOffset, Outbound, QueueFull, QueueLimits};
pub use packet::{Base64Error, Message, Packet, PacketError, PacketType, Revision};
pub use payload::{Payload, PayloadError};
pub use session::{
    CloseReason, Input, Output, Refusal, Session, SessionConfig, StreamStep, TransportKind,
};
pub use upgrade::{ProbeStep, Upgrade, UpgradeTimeout};
