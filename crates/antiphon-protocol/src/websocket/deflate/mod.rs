//! Compressed messages: the WebSocket extension permessage-deflate (RFC 7692).
//!
//! All but [`Window`] and [`Level`] needs the feature `deflate`.
//!
//! At the opening handshake a server passes the client's `Sec-WebSocket-Extensions` to
//! [`negotiate`]; a client sends [`OFFER`] and passes the server's header to [`check_response`].
//! Both then know the [`Window`] in which they may compress, and build their decoder
//! [`with_deflate`](super::Decoder::with_deflate). A sender tries [`append_compressed_frame`] and
//! sends the frame as it is where that gains nothing. The decoder inflates by itself.
//!
//! Each message is compressed alone: neither side keeps its window (`no_context_takeover`, both
//! ways). So a connection owns no compressor, and one compressed frame serves every receiver with
//! the same window. What inflates and compresses belongs to the thread, and is made when first
//! needed: some 40 KB for inflating, and up to 400 KB for each of the three windows. Nothing of one
//! message is seen by the next.
//!
//! What a peer sends may be small and inflate to very much; so inflating takes a limit, stops as
//! soon as that is passed, and owns hardly more memory than that.

// The functions that are linked to are there with the feature alone.
#![cfg_attr(not(feature = "deflate"), allow(rustdoc::broken_intra_doc_links))]

#[cfg(feature = "deflate")]
mod codec;
#[cfg(feature = "deflate")]
mod extensions;
mod level;
#[cfg(feature = "deflate")]
mod negotiation;
mod window;

pub use level::Level;
pub use window::Window;

#[cfg(feature = "deflate")]
pub(super) use codec::Inflation;
#[cfg(feature = "deflate")]
pub use codec::append_compressed_frame;
#[cfg(feature = "deflate")]
pub(crate) use codec::append_deflated;
#[cfg(feature = "deflate")]
pub(crate) use codec::append_frame_at_level;
#[cfg(feature = "deflate")]
pub use negotiation::{Agreement, OFFER, ResponseError, check_response, negotiate};

#[cfg(test)]
#[cfg(feature = "deflate")]
mod tests;
