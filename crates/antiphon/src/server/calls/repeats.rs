//! Calls that are made twice: a browser repeats a POST by itself if a connection that it had used
//! before is reset. The repeat has the same parameter `t`, and gets the answer of the first.
//!
//! A call is remembered under its `t` and a hash of all else that makes it this one (URL, headers,
//! address, body), so no caller gets the answer of another by guessing `t`. At most 4,096 calls and
//! 16 MiB of answers are kept, until 60 s after their deadlines; the oldest goes first.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::{HeaderName, request::Parts, uri::PathAndQuery};

use super::call::Call;
use crate::{engine::peer_address, recent::Recent};

/// How long a call is remembered after its deadline.
const MEMORY: Duration = Duration::from_secs(60);

/// How many calls are remembered.
const MOST_CALLS: usize = 4_096;

/// Bytes of answers that are remembered.
const MOST_BYTES: usize = 16 << 20;

/// Longer values of `t` aren't remembered: clients send some twenty characters.
const LONGEST_T: usize = 64;

/// Whether a header says how a request has come, and not who makes it: it may differ if a browser
/// or a proxy makes the same one again. All others count, since a credential may be in any.
fn is_of_the_way(name: &HeaderName) -> bool {
    const NAMES: [&str; 17] = [
        "baggage",
        "cf-ray",
        "connection",
        "content-length",
        "date",
        "expect",
        "keep-alive",
        "te",
        "traceparent",
        "tracestate",
        "transfer-encoding",
        "via",
        "x-amzn-trace-id",
        "x-cloud-trace-context",
        "x-correlation-id",
        "x-request-id",
        "x-request-start",
    ];
    NAMES.binary_search(&name.as_str()).is_ok() || name.as_str().starts_with("x-b3-")
}

/// A parameter of the query.
fn parameter(request: &Parts, name: &str) -> Option<String> {
    let query = request.uri.query()?;
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
}

/// The calls of late, by their `t`. Beyond a bound the oldest is forgotten.
pub(super) struct Repeats {
    calls: Mutex<Recent<RepeatKey, Arc<Call>>>,
    hasher: RandomState,
}

impl Default for Repeats {
    fn default() -> Self {
        Self {
            calls: Mutex::new(Recent::new(MOST_CALLS, MOST_BYTES)),
            hasher: RandomState::new(),
        }
    }
}

/// Which call it is. A repeat is the same in all its parts: another's `t` gives nobody its answer.
///
/// The hash is keyed by this process, so nobody can look for a call that has the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RepeatKey {
    t: Arc<str>,
    rest: u64,
}

impl Repeats {
    /// The key of a call that has a `t`: all that a middleware or a handler could tell it by.
    pub(super) fn key(&self, request: &Parts, body: &[u8]) -> Option<RepeatKey> {
        let t = parameter(request, "t").filter(|t| (1..=LONGEST_T).contains(&t.len()))?;
        let mut headers: Vec<_> = request
            .headers
            .iter()
            .filter(|(name, _)| !is_of_the_way(name))
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        // Those of one name keep their order.
        headers.sort_by_key(|(name, _)| *name);
        let address = peer_address(request).map(|address| address.ip());
        let url = request.uri.path_and_query().map(PathAndQuery::as_str);
        Some(RepeatKey {
            t: t.into(),
            rest: self.hasher.hash_one((url, headers, address, body)),
        })
    }

    /// The call that this is a repeat of.
    pub(super) fn get(&self, key: &RepeatKey, now: Instant) -> Option<Arc<Call>> {
        let mut calls = self.lock();
        calls.forget_expired(now);
        calls.get(key).cloned()
    }

    /// Remembers a call. Another that was faster is given back: this one is a repeat of it.
    pub(super) fn insert(self: &Arc<Self>, key: RepeatKey, call: &Arc<Call>) -> Option<Arc<Call>> {
        let mut calls = self.lock();
        if let Some(first) = calls.get(&key) {
            return Some(Arc::clone(first));
        }
        let (repeats, of) = (Arc::downgrade(self), key.clone());
        call.on_reply(move |call, bytes| {
            if let Some(repeats) = repeats.upgrade() {
                repeats.answered(&of, call, bytes);
            }
        });
        // All have the same time for their answers: so these deadlines are in order.
        calls.insert(key, Arc::clone(call), call.deadline + MEMORY);
        None
    }

    /// A call that was remembered has its answer.
    pub(super) fn answered(&self, key: &RepeatKey, call: &Arc<Call>, bytes: usize) {
        let mut calls = self.lock();
        if calls.get(key).is_some_and(|known| Arc::ptr_eq(known, call)) {
            calls.resize(key, bytes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Recent<RepeatKey, Arc<Call>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
