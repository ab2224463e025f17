//! The options of a server that aren't the engine's, shared by all of its namespaces and
//! connections.
//!
//! The builder makes them. Only the count of outgoing catch-all listeners changes afterwards: while
//! it is zero, no emit looks for any.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use antiphon_protocol::socket::{Draft, Limits, Parser};
use serde_json::Value;

use crate::engine::ServerTag;
use crate::server::{
    ErrorAcks, FlashPolicy, Recovery, adapter::AdapterFactory, client::handshake::Kept,
    socket::values::Values,
};

/// The name of a type of values, and what a socket has of it.
pub(crate) type SharedData = (Box<str>, fn(&Values) -> Option<Value>);

/// The options of a server that are not the engine's.
pub(crate) struct Shared {
    pub(crate) path: Box<str>,
    pub(crate) connect_timeout: Duration,
    pub(crate) leave_timeout: Duration,
    pub(crate) max_namespaces: usize,
    pub(crate) max_dynamic_namespaces: usize,
    pub(crate) remove_empty_namespaces: bool,
    pub(crate) max_auth: usize,
    pub(crate) max_running_handlers: usize,
    pub(crate) ack_timeout: Duration,
    pub(crate) limits: Limits,
    /// What packets are written as.
    pub(crate) parser: Parser,
    pub(crate) max_emitted_attachments: usize,
    pub(crate) error_acks: ErrorAcks,
    /// What is kept of the requests that open connections.
    pub(crate) kept: Kept,
    pub(crate) flash: Option<FlashPolicy>,
    pub(crate) state: StateMap,
    pub(crate) adapter: Box<dyn AdapterFactory>,
    /// What names this server in the ids of its sockets, if there are others.
    pub(crate) tag: Option<ServerTag>,
    pub(crate) recovery: Option<Arc<Recovery>>,
    /// Values of sockets that other servers are told.
    pub(crate) shared_data: Vec<SharedData>,
    /// How many catch-all listeners of outgoing events there are: mostly none.
    pub(crate) outgoing_listeners: AtomicUsize,
}

impl Shared {
    /// A draft of what goes to clients.
    pub(crate) fn draft(&self) -> Draft {
        Draft::new(self.max_emitted_attachments)
    }

    pub(crate) fn has_outgoing_listeners(&self) -> bool {
        self.outgoing_listeners.load(Ordering::Relaxed) > 0
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Values of the user's, one of each type.
#[derive(Default)]
pub(crate) struct StateMap(HashMap<TypeId, Box<dyn Any + Send + Sync>>);

impl StateMap {
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        self.0.insert(TypeId::of::<T>(), Box::new(value));
    }

    pub(crate) fn get<T: 'static>(&self) -> Option<&T> {
        self.0.get(&TypeId::of::<T>())?.downcast_ref()
    }
}

impl fmt::Debug for StateMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateMap")
            .field("values", &self.0.len())
            .finish()
    }
}
