//! The adapter of a server that stands alone: everything ends at its own sockets.

use std::{future::Future, pin::Pin};

use super::{Adapter, AdapterError, Answers, Flags, Local, Outgoing, RemoteSocket};
use crate::server::{Room, Target};

/// The adapter of a server that stands alone.
#[derive(Debug, Clone)]
pub struct InMemory {
    local: Local,
}

impl InMemory {
    /// The adapter of a namespace.
    #[must_use]
    pub const fn new(local: Local) -> Self {
        Self { local }
    }
}

impl Adapter for InMemory {
    fn broadcast(&self, event: &Outgoing, target: &Target, flags: Flags) {
        self.local.broadcast(event, target, flags);
    }

    fn broadcast_with_ack(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
        answers: Answers,
    ) -> Pin<Box<dyn Future<Output = usize> + Send>> {
        let count = self
            .local
            .broadcast_with_ack(event, target, flags, &answers);
        Box::pin(std::future::ready(count))
    }

    fn join(&self, target: &Target, rooms: &[Room], _: Flags) {
        self.local.join(target, rooms);
    }

    fn leave(&self, target: &Target, rooms: &[Room], _: Flags) {
        self.local.leave(target, rooms);
    }

    fn disconnect(&self, target: &Target, close: bool, _: Flags) {
        self.local.disconnect(target, close);
    }

    fn fetch(
        &self,
        target: &Target,
        _: Flags,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<RemoteSocket>, AdapterError>> + Send>> {
        Box::pin(std::future::ready(Ok(self.local.fetch(target))))
    }
}
