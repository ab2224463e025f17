//! What carries frames between servers: the line between the router and Redis, NATS, Postgres.
//!
//! A [`Broker`] is bytes by topic. It doesn't know what a frame says, keeps no list of
//! subscriptions of its own, and tries nothing again: the router declares the topics that it wants
//! ([`Wanted`]), and what the broker hears goes to the router's [`Inbox`], which never waits.
//!
//! ```text
//! Wanted --- since, all ---> Broker::run --- frame, subscribed, up, down ---> Inbox -> router
//! router --- publish ------> Broker
//! ```

mod backoff;
mod bundle;
pub mod entry;
mod inbox;
mod line;
pub mod memory;
mod queue;
mod refused;
mod store;
#[cfg(feature = "tls")]
pub mod tls;

use std::sync::Arc;

use antiphon::adapter::BoxFuture;
use bytes::Bytes;

pub use backoff::{Backoff, SETTLE};
pub use bundle::Stamp;
pub(crate) use inbox::Event;
pub use inbox::Inbox;
pub use line::Line;
pub use queue::{Batch, Queue, Size};
pub use refused::Refused;
pub use store::Store;

use crate::{Topic, Wanted, log::Journal};

/// What connects the servers of a cluster.
pub trait Broker: Send + Sync + 'static {
    /// What it can do. It is asked once.
    fn abilities(&self) -> Abilities;

    /// Connects, makes true what is wanted, and gives what comes to the inbox, until it is dropped.
    /// It is called once.
    ///
    /// When a connection is lost it says so, connects again by itself, asks for
    /// [all that is wanted](Wanted::all), subscribes, and only then says that it is
    /// [up](Inbox::up). It reads no more slowly than frames come: the inbox drops what it can't
    /// take.
    fn run(self: Arc<Self>, wanted: Arc<Wanted>, inbox: Arc<Inbox>) -> BoxFuture<()>;

    /// Sends a frame to all servers that have subscribed to a topic. It never waits: frames are put
    /// into a queue, which is bounded. Frames of one thread are sent in order.
    ///
    /// # Errors
    /// [`Refused`] if the frame won't be sent.
    fn publish(&self, topic: &Topic, frame: Bytes) -> Result<(), Refused>;

    /// How many connections have subscribed to a topic. `None` if the broker doesn't count.
    fn subscribers(&self, topic: &Topic) -> BoxFuture<Result<Option<usize>, Refused>>;

    /// What keeps logged events and sessions, if it can: then servers share the logs of namespaces
    /// with recovery. By default it can't.
    fn journal(self: Arc<Self>) -> Option<Arc<dyn Journal>> {
        None
    }

    /// What recovery in the format of Node's adapter for Redis streams needs, if it can do that. By
    /// default it can't.
    fn store(self: Arc<Self>) -> Option<Arc<dyn Store>> {
        None
    }

    /// Sends what waits, and gives the connection up.
    fn close(&self) -> BoxFuture<()>;
}

/// What a broker can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// The largest frame that it takes, in bytes.
    pub max_frame: usize,
    /// Whether who publishes gets its own frame, too, if it has subscribed to the topic. The
    /// connection is probed by that.
    pub echoes: bool,
}
