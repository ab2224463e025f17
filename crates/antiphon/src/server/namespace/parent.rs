//! Namespaces that clients cause: a parent says which names there may be, and its children share
//! what is registered on it.
//!
//! `Namespaces` owns the parents, in the order of their registration, and all children. A
//! [`ParentNamespace`] is a handle: inside it is a namespace that no client can join, for its
//! handlers and its adapter, by which parents of other servers are told. Its [`Rule`] says which
//! children it has.

use std::{fmt, sync::Arc};

use super::rule::Rule;
use crate::server::Namespace;

/// Namespaces that clients cause, one for each name that fits: what
/// [`Server::of_pattern`](crate::Server::of_pattern) and
/// [`Server::of_matching`](crate::Server::of_matching) give. A cheap handle.
///
/// Its children share what is registered here, also what is registered later. What is emitted here
/// goes to the sockets of all children. Sockets are in the children: [`children`](Self::children) has
/// those of this server, and each can be asked for its sockets.
#[derive(Clone)]
pub struct ParentNamespace {
    namespace: Namespace,
    rule: Arc<Rule>,
}

impl ParentNamespace {
    /// Names of parents begin so, which no client's do.
    const MARK: &'static str = "*";

    pub(super) fn new(rule: Rule, number: usize, make: impl FnOnce(&str) -> Namespace) -> Self {
        let mark = Self::MARK;
        let name = match &rule {
            Rule::Pattern(pattern) => format!("{mark}{}", pattern.as_str()),
            Rule::Function(_) => format!("{mark}{number}"),
        };
        Self {
            namespace: make(&name),
            rule: Arc::new(rule),
        }
    }

    /// The pattern of its children's names. Returns `None` if a function decides.
    #[must_use]
    pub fn pattern(&self) -> Option<&str> {
        match &*self.rule {
            Rule::Pattern(pattern) => Some(pattern.as_str()),
            Rule::Function(_) => None,
        }
    }

    /// Its children on this server: those that clients are in or have been in, and those that the
    /// application has asked for.
    #[must_use]
    pub fn children(&self) -> Vec<Namespace> {
        let namespaces = self.namespace.namespaces();
        namespaces.map_or_else(Vec::new, |all| all.children_of(self.namespace.joins()))
    }

    pub(crate) fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The namespace that has its handlers.
    pub(crate) const fn as_namespace(&self) -> &Namespace {
        &self.namespace
    }
}

impl PartialEq for ParentNamespace {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.rule, &other.rule)
    }
}

impl Eq for ParentNamespace {}

impl fmt::Debug for ParentNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParentNamespace")
            .field("name", &self.namespace.name())
            .finish_non_exhaustive()
    }
}
