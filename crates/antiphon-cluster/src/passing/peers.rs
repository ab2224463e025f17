//! The other servers by the tags of their sessions' ids, and where each takes requests.
//!
//! The router tells of servers that come and go, as its machine knows it from heartbeats. Two servers
//! may have one tag by chance: the later one counts.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use antiphon::adapter::{NodeId, ServerTag};

use super::Address;

/// What names a server in the ids of its sessions: its name, hashed (FNV-1a), the same everywhere.
pub(crate) fn tag(node: &NodeId) -> ServerTag {
    let hash = node.as_str().bytes();
    let hash = hash.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ServerTag::from_hash(hash)
}

/// The other servers that are there.
#[derive(Debug, Default)]
pub(crate) struct Peers(RwLock<HashMap<ServerTag, Peer>>);

#[derive(Debug)]
struct Peer {
    node: NodeId,
    address: Option<Address>,
}

impl Peers {
    /// A server has come, and advertises this. What is no address is none.
    pub(crate) fn joined(&self, node: NodeId, advertised: &str) {
        let address = Address::parse(advertised);
        if address.is_none() && !advertised.is_empty() {
            tracing::warn!(%node, advertised, "ignored what a server advertises: it is no address");
        }
        let mut peers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        peers.insert(tag(&node), Peer { node, address });
    }

    /// A server is gone. Returns its address.
    pub(crate) fn gone(&self, node: &NodeId) -> Option<Address> {
        let mut peers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let tag = tag(node);
        // Another one may have the same tag.
        let is_it = peers.get(&tag).is_some_and(|peer| peer.node == *node);
        is_it.then(|| peers.remove(&tag)).flatten()?.address
    }

    /// The address of the server with this tag. Returns `None` if there is no such
    /// server, and `Some(None)` if it has none.
    pub(crate) fn address(&self, tag: ServerTag) -> Option<Option<Address>> {
        let peers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        peers.get(&tag).map(|peer| peer.address.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_those_of_every_version() {
        let tag = tag(&NodeId::new("0123456789abcdef"));
        assert_eq!(Some(tag), ServerTag::of_id("0123456789abcdPnThTs"));
    }

    #[test]
    fn servers_are_found_by_their_tags_while_they_are_there() {
        let (peers, node) = (Peers::default(), NodeId::new("one"));
        assert_eq!(peers.address(tag(&node)), None);
        peers.joined(node.clone(), "http://one");
        let address = Address::parse("http://one");
        assert_eq!(peers.address(tag(&node)), Some(address.clone()));
        assert_eq!(peers.address(tag(&NodeId::new("two"))), None);
        assert_eq!(peers.gone(&node), address);
        assert_eq!(peers.address(tag(&node)), None);
    }

    #[test]
    fn a_server_may_have_no_address() {
        let (peers, node) = (Peers::default(), NodeId::new("one"));
        for advertised in ["", "ftp://one"] {
            peers.joined(node.clone(), advertised);
            assert_eq!(peers.address(tag(&node)), Some(None));
        }
    }
}
