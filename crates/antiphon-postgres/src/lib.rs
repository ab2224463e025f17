#![doc = include_str!("../README.md")]

mod broker;
mod builder;
mod error;
mod filter;
mod frames;
mod outbox;
mod place;
mod server;
mod table;

pub use antiphon_cluster::Emitter;
pub use builder::{Postgres, PostgresBuilder};
pub use error::Error;
pub use outbox::Outbox;
pub use tokio_postgres;
