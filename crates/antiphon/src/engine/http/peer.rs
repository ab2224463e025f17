//! Who has opened a connection: as our own listener knows it, and as requests on it are told.

use std::net::SocketAddr;

use http::request::Parts;

/// The address of the client, as a request extension: put there by the code that accepts
/// connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// The connection is encrypted, as a request extension: put there by the code that accepts
/// connections. See [`Handshake::is_secure`](crate::Handshake::is_secure).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Secure;

/// What our own listener knows of who has opened a connection, for the requests on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) address: Option<SocketAddr>,
    pub(crate) is_secure: bool,
}

impl Peer {
    /// Tells those who get a request with these extensions.
    pub(crate) fn introduce(self, request: &mut http::Extensions) {
        if let Some(address) = self.address {
            request.insert(PeerAddr(address));
        }
        if self.is_secure {
            request.insert(Secure);
        }
    }
}

/// The address of who has connected, as the HTTP server tells it: a client's, or a proxy's.
pub(crate) fn peer_address(request: &Parts) -> Option<SocketAddr> {
    let told = request.extensions.get::<PeerAddr>().map(|peer| peer.0);
    #[cfg(feature = "axum")]
    let told = told.or_else(|| {
        let info = request
            .extensions
            .get::<axum::extract::ConnectInfo<SocketAddr>>();
        info.map(|info| info.0)
    });
    told
}
