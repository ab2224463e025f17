#![doc = include_str!("../README.md")]
// docs.rs says at each item which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod append;
mod asks;
mod broker;
mod builder;
mod cluster;
mod connection;
mod counter;
mod error;
mod journal;
mod nodes;
mod publisher;
mod reader;
mod refusing;
mod sentinel;
mod server;
mod shared;
mod store;
mod subscriber;
#[cfg(feature = "tls")]
mod tls;
mod topology;
mod url;

pub use antiphon_cluster::{
    ClusterStats, Emission, Emitter, Health, Trouble,
    node::{Mode, NodeWire},
};
pub use builder::{NodeRedis, Redis, RedisBuilder};
pub use error::Error;

/// The code in the guide compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/cluster.md")]
mod guide_to_clusters {}
