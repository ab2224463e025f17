#![doc = include_str!("../README.md")]
// docs.rs says at each item which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod api;
mod broker;
mod builder;
mod entries;
mod error;
mod journal;
#[cfg(feature = "keys")]
mod keys;
mod replies;
mod server;
mod session;
mod sessions;
mod shared;
mod streams;
mod subject;
mod wire;

pub use antiphon_cluster::{ClusterStats, Emission, Emitter, Health, Trouble};
pub use builder::{Nats, NatsBuilder};
pub use error::Error;
