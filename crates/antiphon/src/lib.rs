#![doc = include_str!("docs/lib.md")]

#[cfg(feature = "server")]
pub mod engine;
#[cfg(feature = "server")]
mod server;

#[cfg(feature = "server")]
pub use antiphon_protocol::socket::Limits;
#[cfg(feature = "server")]
pub use bytes::Bytes;
#[cfg(feature = "server")]
pub use engine::{Cookie, Cors, PeerAddr, QueueLimits, Revision, SameSite, Stats, TransportKind};
#[cfg(feature = "server")]
pub use server::*;

/// Guides: how to do what one wants to do.
#[cfg(all(feature = "server", feature = "axum"))]
pub mod guide {
    #[doc = include_str!("docs/handlers.md")]
    pub mod handlers {}
    #[doc = include_str!("docs/http_calls.md")]
    pub mod http_calls {}
    #[doc = include_str!("docs/rooms.md")]
    pub mod rooms {}
    #[doc = include_str!("docs/serving.md")]
    pub mod serving {}
}

/// The code in the README compiles.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../../README.md")]
mod readme {}
