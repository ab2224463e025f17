//! Servers of [`antiphon`] that share their namespaces and rooms: what all brokers have in common.
//!
//! A [`Cluster`] is the [adapter](antiphon::adapter) of a server. It carries what is emitted to the
//! other servers that have sockets for it, and asks them what only they know. Crates for brokers
//! give it something to carry that with: a [`Broker`](broker::Broker).
//!
//! ```text
//! Namespace -> adapter (one a namespace) -> router (one a server) -> member -> Broker
//!                                            its machine: who is there, who owes an answer
//!                                            its wanted: the topics that this server listens to
//! ```
//!
//! What is emitted goes to this server's sockets at once, whatever becomes of the others. Events of
//! one thread reach another server in their order, as far as the broker keeps it. An answer that is
//! missing is named ([`FetchedSockets::missing`](antiphon::FetchedSockets)). How this server stands
//! to the others is its [`Health`].
//!
//! Where the broker keeps events, namespaces with recovery share their [`log`]: a client may come
//! back to another server.

// docs.rs says at each item which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod adapter;
pub mod broker;
mod cluster;
mod emitter;
mod handle;
mod link;
pub mod log;
mod machine;
mod member;
mod message;
mod namespace;
pub mod node;
mod passing;
mod relay;
mod router;
mod stats;
mod topic;
mod topics;
mod wanted;

pub use cluster::{Cluster, ClusterBuilder};
pub use emitter::{Emission, Emitter};
pub use machine::{Health, Trouble};
pub use passing::Address;
pub use stats::ClusterStats;
pub use topic::Topic;
pub use wanted::{Change, Wanted};

/// A name that no other server has, now or later.
fn random_id() -> antiphon::adapter::NodeId {
    let mut random = [0; 8];
    // Without a source of randomness no id of a session could be made either.
    let _ = getrandom::fill(&mut random);
    antiphon::adapter::NodeId::new(format!("{:016x}", u64::from_be_bytes(random)))
}
