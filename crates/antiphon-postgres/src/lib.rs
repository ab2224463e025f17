#![doc = include_str!("../README.md")]
// docs.rs says at each item which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod append;
mod attachments;
mod broker;
mod builder;
mod error;
mod filter;
mod frames;
mod journal;
mod notify;
mod outbox;
mod place;
mod schema;
mod server;
mod shared;
mod table;
#[cfg(feature = "tls")]
mod tls;

pub use antiphon_cluster::{ClusterStats, Emission, Emitter, Health, Trouble};
pub use builder::{NodePostgres, Postgres, PostgresBuilder};
pub use error::Error;
pub use outbox::Outbox;
pub use tokio_postgres;
