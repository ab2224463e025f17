//! What the broker, its connections and its journal have in common.
//!
//! The broker owns a [`Shared`], and lends it to one [session](crate::session) after the other. What
//! is emitted waits in its line; what the journal asks waits in its [`Asks`] for the session that is
//! there. What a session has learned of its server holds until the next one learns something else.

use std::sync::{OnceLock, atomic::AtomicUsize};

use antiphon_cluster::broker::Line;

use crate::{
    api::Storage, error::Error, replies::Asks, server::Servers, streams::Streams, subject::Subjects,
};

/// The largest payload, until a server has said what its is: the default of NATS.
const MAX_PAYLOAD: usize = 1_024 * 1_024;

/// What the broker has in common with its connections.
pub(crate) struct Shared {
    pub(crate) servers: Servers,
    pub(crate) subjects: Subjects,
    pub(crate) line: Line<Error>,
    /// The largest payload that the server takes.
    pub(crate) max_payload: AtomicUsize,
    /// What is asked of JetStream.
    pub(crate) asks: Asks,
    pub(crate) streams: Streams,
    pub(crate) storage: Storage,
    /// Whether logs are shared, if that was said.
    pub(crate) jetstream: Option<bool>,
    /// Whether the first server had JetStream.
    pub(crate) has_jetstream: OnceLock<bool>,
}

impl Shared {
    pub(crate) fn new(
        servers: Servers,
        subjects: Subjects,
        jetstream: Option<bool>,
        storage: Storage,
    ) -> Self {
        Self {
            servers,
            subjects,
            line: Line::new(),
            max_payload: AtomicUsize::new(MAX_PAYLOAD),
            asks: Asks::default(),
            streams: Streams::default(),
            storage,
            jetstream,
            has_jetstream: OnceLock::new(),
        }
    }
}
