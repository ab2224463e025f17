//! No sticky sessions: requests of a session that come to another server go on to the one that has
//! it.
//!
//! The id of a session ends with the tag of its server ([`peers::tag`]). The engine gives a request
//! of another's session to the router, which is its [`Relay`](crate::relay) and owns a [`Passing`].
//! [`Peers`] knows who has the tag and where it is, by its heartbeats, and the [`Pool`] has
//! connections to it. An owner that is dead, unknown or without an address is an error, by which the
//! session is unknown to its client.

mod address;
mod peers;
mod pool;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use antiphon::adapter::{NodeId, NotRelayed, RelayBody, ServerTag};
use http::{Request, Response};

pub use address::Address;

use peers::Peers;
use pool::Pool;

/// A server that has just started waits so long to know the others before it says that there is no
/// such one.
const STARTING: Duration = Duration::from_secs(3);

/// What a router needs to pass requests on.
#[derive(Debug)]
pub(crate) struct Passing {
    me: ServerTag,
    peers: Peers,
    pool: Arc<Pool>,
    passed: AtomicU64,
    failed: AtomicU64,
}

impl Passing {
    pub(crate) fn new(me: &NodeId) -> Self {
        Self {
            me: peers::tag(me),
            peers: Peers::default(),
            pool: Arc::new(Pool::new()),
            passed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// A server has come, and advertises this.
    pub(crate) fn joined(&self, node: &NodeId, advertised: &str) {
        self.peers.joined(node.clone(), advertised);
    }

    /// A server is gone.
    pub(crate) fn gone(&self, node: &NodeId) {
        if let Some(address) = self.peers.gone(node) {
            self.pool.forget(&address);
        }
    }

    /// How many requests were passed on, and how many couldn't be.
    pub(crate) fn counts(&self) -> [u64; 2] {
        [&self.passed, &self.failed].map(|count| count.load(Ordering::Relaxed))
    }

    fn failed(&self, error: &NotRelayed) {
        let count = 1 + self.failed.fetch_add(1, Ordering::Relaxed);
        // Sessions end, and clients come back to them. The rest is to be seen to, and the first of
        // many says what is to be said.
        if !matches!(error, NotRelayed::Unknown) && count.is_power_of_two() {
            tracing::warn!(%error, count, "a request of another server's session was not passed on");
        }
    }

    async fn address(
        &self,
        to: ServerTag,
        started: impl Future<Output = ()>,
    ) -> Result<Address, NotRelayed> {
        let mut known = self.peers.address(to);
        if known.is_none() && tokio::time::timeout(STARTING, started).await.is_ok() {
            known = self.peers.address(to);
        }
        known
            .ok_or(NotRelayed::Unknown)?
            .ok_or(NotRelayed::NoAddress)
    }

    /// What names this server in the ids of its sessions.
    pub(crate) const fn tag(&self) -> ServerTag {
        self.me
    }

    /// Passes a request on to the server with this tag, and counts it. `started` resolves when it is
    /// known who is there.
    pub(crate) async fn relay(
        &self,
        to: ServerTag,
        request: Request<RelayBody>,
        started: impl Future<Output = ()>,
    ) -> Result<Response<RelayBody>, NotRelayed> {
        let passed = self.pass_on(to, request, started).await;
        match &passed {
            Ok(_) => {
                self.passed.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => self.failed(error),
        }
        passed
    }

    async fn pass_on(
        &self,
        to: ServerTag,
        mut request: Request<RelayBody>,
        started: impl Future<Output = ()>,
    ) -> Result<Response<RelayBody>, NotRelayed> {
        let address = self.address(to, started).await?;
        let asked = request.uri().path_and_query();
        if let Some(path) = asked.and_then(|asked| address.path(asked)) {
            *request.uri_mut() = path.into();
        }
        self.pool.send(&address, request).await
    }
}
