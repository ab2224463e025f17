//! Namespaces that clients cause: how they come, and how they go.
//!
//! A client that asks for a name gets a [`Lease`] of its namespace: one that the application has
//! made, or a child of the first parent whose rule takes the name. As long as a lease is held, or a
//! socket is in the child, it stays. A child that nobody is in goes away if the server's options say
//! so, or nobody has ever been let in; one with recovery when nobody can come back to it any more.
//!
//! Leases are taken, and children removed, under the lock of all namespaces: so no socket joins one
//! that goes. How many there may be is bounded, since their names are the clients' choice.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    lease::{Lease, Uses},
    namespaces::Namespaces,
    parent::ParentNamespace,
    pattern::is_barred,
    rule::JoinRequest,
};
use crate::server::{ConnectError, Namespace, adapter::Local};

/// Why a client gets no namespace.
#[derive(Debug)]
pub(crate) enum NoNamespace {
    /// There is none of this name.
    Unknown,
    /// The application refuses it, or there are too many.
    Refused(ConnectError),
}

impl Namespaces {
    /// The namespace of this name, if nobody has to be asked whether a client may join it, and no hook
    /// fails that is told of it now.
    pub(crate) fn lease(&self, name: &str) -> Option<Lease> {
        let lease = catch_unwind(AssertUnwindSafe(|| self.hold(name))).ok()??;
        let asks = lease
            .parent()
            .is_some_and(|parent| !parent.rule().is_pattern());
        (!asks).then_some(lease)
    }

    /// Whether clients can cause namespaces at all.
    pub(crate) fn has_parents(&self) -> bool {
        !self.parents().is_empty()
    }

    /// The namespace that a client asks for, whether it is there or not: namespaces that are there
    /// first, then the parents in their order.
    pub(crate) async fn resolve(&self, request: &JoinRequest) -> Result<Lease, NoNamespace> {
        let name = request.name();
        if name.contains(is_barred) {
            return Err(NoNamespace::Unknown);
        }
        let parents = match self.hold(name) {
            None => self.parents(),
            // A child is the business of the parent that it belongs to, as long as it is there.
            Some(child) => match child.parent() {
                Some(parent) if !parent.rule().is_pattern() => Arc::new(vec![parent.clone()]),
                _ => return Ok(child),
            },
        };
        for parent in &**parents {
            match parent.rule().admits(request).await {
                Ok(true) => return self.child(name, parent),
                Ok(false) => {}
                Err(error) => return Err(NoNamespace::Refused(error)),
            }
        }
        Err(NoNamespace::Unknown)
    }

    /// A lease of the namespace with this name, if there is one.
    fn hold(&self, name: &str) -> Option<Lease> {
        let lease = self.read().get(name).map(Namespace::hold)?;
        self.begun(lease.clone());
        Some(lease)
    }

    /// The child of this name, made if there is none.
    fn child(&self, name: &str, parent: &ParentNamespace) -> Result<Lease, NoNamespace> {
        let found = match self.hold(name) {
            Some(found) => found,
            None => self.cause(name, parent)?,
        };
        // Another parent's, or the application's own, that has come meanwhile.
        let is_ours = found
            .parent()
            .is_none_or(|of| of == parent || of.rule().is_pattern());
        is_ours.then_some(found).ok_or(NoNamespace::Unknown)
    }

    fn cause(&self, name: &str, parent: &ParentNamespace) -> Result<Lease, NoNamespace> {
        let most = self.shared.max_dynamic_namespaces;
        if self.caused.load(Ordering::Relaxed) >= most {
            return Err(self.too_many(most));
        }
        // Made before the lock is taken: the factory of its adapter is the user's.
        let made = self.make(name, Some(parent));
        let mut by_name = self.write();
        let lease = match by_name.get(name) {
            Some(there) => there.hold(),
            None if self.caused.load(Ordering::Relaxed) >= most => {
                drop(by_name);
                return Err(self.too_many(most));
            }
            None => {
                self.caused.fetch_add(1, Ordering::Relaxed);
                let lease = made.hold();
                by_name.insert(name.into(), made);
                lease
            }
        };
        drop(by_name);
        self.begun(lease.clone());
        Ok(lease)
    }

    /// Clients want more namespaces than there may be.
    fn too_many(&self, most: usize) -> NoNamespace {
        if self.too_many_said.happened(1).is_some() {
            tracing::warn!(
                most,
                "refusing namespaces: clients have caused as many as there may be; see \
                 `max_dynamic_namespaces` and `remove_empty_namespaces`"
            );
        }
        NoNamespace::Refused(ConnectError::new("too many namespaces on this server"))
    }

    /// The children of a parent, by its part on this server.
    pub(crate) fn children_of(&self, parent: &Local) -> Vec<Namespace> {
        let by_name = self.read();
        let all = by_name.values();
        let children = all.filter(|one| {
            one.parent()
                .is_some_and(|of| of.as_namespace().joins().is(parent))
        });
        children.cloned().collect()
    }

    /// The application has asked for a namespace by its name: it stays. Called with the lock of all.
    pub(super) fn pin(&self, namespace: &Namespace) {
        if let Some(uses) = namespace.uses()
            && !uses.is_pinned.swap(true, Ordering::AcqRel)
        {
            self.caused.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Removes a child that nobody uses.
    fn remove(&self, namespace: &Namespace) {
        // Not under the lock: the application is told of what was kept for sessions that are over.
        namespace.recovery().inspect(|ordered| ordered.expire());
        let removed = {
            let mut by_name = self.write();
            match by_name.get(namespace.name()) {
                Some(there) if there == namespace && namespace.is_unused() => {
                    self.caused.fetch_sub(1, Ordering::Relaxed);
                    // Before another one of its name can start.
                    namespace.adapter().removed();
                    by_name.remove(namespace.name())
                }
                _ => None,
            }
        };
        if removed.is_some() {
            tracing::debug!(
                namespace = namespace.name(),
                "removed a namespace: nobody is in it"
            );
        }
    }
}

impl Namespace {
    /// Somebody has left it, or was not let in. If it is a child that nobody uses any more it goes away,
    /// if the options say so. One that nobody has ever been let into goes in any case: clients that the
    /// middlewares refuse leave nothing behind.
    pub(crate) fn left(&self) {
        let is_joined = |uses: &Uses| uses.is_joined.load(Ordering::Relaxed);
        let has_been_joined = self.uses().is_none_or(is_joined);
        let may_go = self.shared().remove_empty_namespaces || !has_been_joined;
        if !may_go || !self.is_deserted() {
            return;
        }
        let Some(namespaces) = self.namespaces() else {
            return;
        };
        match self.recovery() {
            Some(ordered) if ordered.outlives_server() => {}
            Some(ordered) if has_been_joined => self.await_return(ordered.duration()),
            _ => namespaces.remove(self),
        }
    }

    /// Waits until nobody can come back any more.
    fn await_return(&self, time: Duration) {
        let (Some(uses), Some(runtime)) = (self.uses(), self.runtime()) else {
            return;
        };
        if uses.is_awaited.swap(true, Ordering::AcqRel) {
            return;
        }
        let namespace = self.clone();
        runtime.spawn(async move {
            let Some(uses) = namespace.uses() else { return };
            loop {
                let before = uses.ever.load(Ordering::Acquire);
                tokio::time::sleep(time).await;
                let is_same = uses.ever.load(Ordering::Acquire) == before;
                namespace.recovery().inspect(|ordered| ordered.expire());
                if is_same && namespace.is_unused() {
                    break;
                }
                if !namespace.is_deserted() {
                    // The next one that leaves waits again: maybe it has left just now.
                    uses.is_awaited.store(false, Ordering::Release);
                    return namespace.left();
                }
            }
            uses.is_awaited.store(false, Ordering::Release);
            if let Some(namespaces) = namespace.namespaces() {
                namespaces.remove(&namespace);
            }
        });
    }
}
