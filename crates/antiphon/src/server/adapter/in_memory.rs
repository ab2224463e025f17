//! The adapter of a server that stands alone: everything ends at its own sockets.
//!
//! A namespace owns one if its server has no other. Nothing can fail, and every question is
//! answered at once, but for what clients owe.

use std::future::ready;

use super::{
    Adapter, AdapterError, Answers, BoxFuture, Flags, Local, Outgoing, RemoteSocket, ServerAnswer,
    SocketAnswer,
};
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
    fn broadcast(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
    ) -> Result<(), AdapterError> {
        self.local.broadcast(event, target, flags);
        Ok(())
    }

    fn broadcast_with_ack(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
        answers: Answers<SocketAnswer>,
    ) {
        let local = &self.local;
        answers.expect(local.broadcast_with_ack(event, target, flags, &answers));
    }

    fn join(&self, target: &Target, rooms: &[Room], _: Flags) -> Result<(), AdapterError> {
        self.local.join(target, rooms);
        Ok(())
    }

    fn leave(&self, target: &Target, rooms: &[Room], _: Flags) -> Result<(), AdapterError> {
        self.local.leave(target, rooms);
        Ok(())
    }

    fn disconnect(&self, target: &Target, close: bool, _: Flags) -> Result<(), AdapterError> {
        self.local.disconnect(target, close);
        Ok(())
    }

    fn fetch(&self, target: &Target, _: Flags, found: Answers<RemoteSocket>) {
        let sockets = self.local.fetch(target).into_iter();
        sockets.for_each(|socket| found.give(socket));
    }

    fn server_count(&self) -> BoxFuture<Result<usize, AdapterError>> {
        Box::pin(ready(Ok(1)))
    }

    fn server_side_emit(&self, _: &Outgoing) -> Result<(), AdapterError> {
        Ok(())
    }

    fn server_side_emit_with_ack(&self, _: &Outgoing, _: Answers<ServerAnswer>) {}
}
