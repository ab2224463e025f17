//! What makes the adapters of a server, and knows what its servers share.

use std::sync::Arc;

use super::{Adapter, Local};
use crate::{
    engine::Relay,
    server::recovery::{Bounds, Log},
};

/// Makes the adapter of each namespace, given its name and its sockets on this server.
///
/// It is called once for each, and seldom once more: if two threads make a namespace at once, one
/// adapter is dropped without a [`start`](Adapter::start). A
/// [parent](crate::ParentNamespace) has one, too: see [`Local::is_parent`]. Functions and closures of
/// this shape are one.
pub trait AdapterFactory: Send + Sync + 'static {
    /// The adapter of a namespace.
    fn make(&self, namespace: &str, local: Local) -> Arc<dyn Adapter>;

    /// The log of a namespace that has [recovery](crate::Recovery), if the servers share one: asked
    /// for before [`make`](Self::make). By default there is none, and each server has its own.
    fn log(&self, namespace: &str, bounds: Bounds) -> Option<Arc<dyn Log>> {
        let _ = (namespace, bounds);
        None
    }

    /// What passes requests on to the servers that have their sessions, so that a client may come
    /// to any server with each request. Asked once, when the server is built. None by default.
    fn relay(&self) -> Option<Arc<dyn Relay>> {
        None
    }
}

impl<F> AdapterFactory for F
where
    F: Fn(&str, Local) -> Arc<dyn Adapter> + Send + Sync + 'static,
{
    fn make(&self, namespace: &str, local: Local) -> Arc<dyn Adapter> {
        self(namespace, local)
    }
}
