//! The connection of a server to the others: a broker, what is wanted of it, and the one task that
//! reads what it hears.
//!
//! A router owns a [`Link`] and is its [`Ears`]. The link's tasks own neither: they end with it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, Once, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use antiphon::adapter::AdapterError;
use bytes::Bytes;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    task::{AbortHandle, JoinHandle},
};

use crate::{
    ClusterStats, Topic, Wanted,
    broker::{Broker, Event, Inbox},
};

/// So many events of the broker are handled before others get their turn.
const BATCH: usize = 64;

/// Frames that have waited for so long are late.
const LATE: Duration = Duration::from_secs(1);

/// So often is looked at how the logs are.
const LOOK: Duration = Duration::from_millis(500);

/// What hears what comes.
pub(crate) trait Ears: Send + Sync + 'static {
    /// The connection.
    fn link(&self) -> &Link;

    /// The broker has heard this.
    fn heard(self: &Arc<Self>, event: Event);

    /// Whether what was heard last had waited for too long.
    fn late(&self, is_late: bool);

    /// Looks at how the logs are.
    fn look(&self);

    /// Does what it is time for, and returns when to do so again.
    fn tick(&self, now: Instant) -> Instant;
}

/// The connection of a server to the others.
pub(crate) struct Link {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) wanted: Arc<Wanted>,
    pub(crate) runtime: Handle,
    /// The version of what is wanted that has been subscribed to.
    confirmed: watch::Sender<u64>,
    /// The task has to look at the time again.
    wake: Arc<Notify>,
    tasks: Mutex<Vec<AbortHandle>>,
    published: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
    received: AtomicU64,
    dropped: AtomicU64,
    malformed: AtomicU64,
    /// It has been said that there is no shared log.
    said_no_log: Once,
}

fn count(counter: &AtomicU64, more: u64) -> u64 {
    counter.fetch_add(more, Ordering::Relaxed)
}

impl Link {
    /// A link of the current runtime, which doesn't connect yet.
    pub(crate) fn new(broker: Arc<dyn Broker>) -> Self {
        Self {
            broker,
            wanted: Arc::new(Wanted::new()),
            runtime: Handle::current(),
            confirmed: watch::Sender::new(0),
            wake: Arc::default(),
            tasks: Mutex::default(),
            published: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            received: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            said_no_log: Once::new(),
        }
    }

    /// A namespace with recovery wants a log that the servers share, and there is none. What isn't
    /// meant so can't be seen otherwise before a client comes back to another server.
    pub(crate) fn no_log(&self) {
        self.said_no_log.call_once(|| {
            tracing::warn!(
                "what connects the servers keeps no logs: each server recovers its own sessions, and \
                 clients that come back to another one begin anew"
            );
        });
    }

    /// Connects, and gives what comes to the owner of the link.
    pub(crate) fn start<E: Ears>(ears: &Arc<E>) {
        let link = ears.link();
        let inbox = Arc::new(Inbox::new());
        let runs = Arc::clone(&link.broker).run(Arc::clone(&link.wanted), Arc::clone(&inbox));
        let reads = read(Arc::downgrade(ears), inbox, Arc::clone(&link.wake));
        let spawned = [link.runtime.spawn(runs), link.runtime.spawn(reads)];
        let handles = spawned.iter().map(JoinHandle::abort_handle);
        link.tasks().extend(handles);
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what waits, and gives the connection up.
    pub(crate) async fn close(&self) {
        self.broker.close().await;
        self.tasks().drain(..).for_each(|task| task.abort());
    }

    /// Sends a frame to those that have subscribed to a topic.
    pub(crate) fn publish(&self, topic: &Topic, frame: Bytes) -> Result<(), AdapterError> {
        let published = self.broker.publish(topic, frame);
        let counter = match published {
            Ok(()) => &self.published,
            Err(_) => &self.refused,
        };
        count(counter, 1);
        Ok(published?)
    }

    /// A topic isn't wanted any more, but for sockets that may come back for so long.
    pub(crate) fn give_up(&self, topic: &Topic, linger: Option<Duration>) {
        let linger = linger.unwrap_or_default();
        self.wanted.give_up(topic, linger, Instant::now());
        self.wake.notify_one();
    }

    /// The owner has to be asked for the time again.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Resolves when what is wanted now has been subscribed to.
    pub(crate) async fn subscribed(&self) {
        let wanted = self.wanted.version();
        let mut confirmed = self.confirmed.subscribe();
        // The sender is here.
        let _ = confirmed.wait_for(|version| *version >= wanted).await;
    }

    /// Something that came isn't understood.
    pub(crate) fn malformed(&self, topic: &str, error: &dyn fmt::Display) {
        // The first of many says what is to be said.
        let before = count(&self.malformed, 1);
        if before == 0 || before.is_power_of_two() {
            tracing::warn!(
                topic,
                %error,
                count = before + 1,
                "ignored a frame that isn't understood: see who else publishes under this topic"
            );
        }
    }

    /// What has happened so far.
    pub(crate) fn stats(&self) -> ClusterStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ClusterStats {
            published: read(&self.published),
            refused: read(&self.refused),
            lost: read(&self.lost),
            received: read(&self.received),
            dropped: read(&self.dropped),
            malformed: read(&self.malformed),
            topics: self.wanted.len(),
            ..ClusterStats::default()
        }
    }

    fn note(&self, event: &Event) {
        match event {
            Event::Frame { .. } => {
                count(&self.received, 1);
            }
            Event::Lost { frames } => {
                count(&self.lost, *frames);
            }
            Event::Dropped { frames } => {
                count(&self.dropped, *frames);
            }
            Event::Subscribed { version } => {
                self.confirmed.send_replace(*version);
            }
            Event::Up | Event::Down { .. } | Event::Refused { .. } | Event::Refusing { .. } => {}
        }
    }
}

/// Reads what the broker hears, and looks at the time, as long as there is an owner.
async fn read<E: Ears>(ears: Weak<E>, inbox: Arc<Inbox>, wake: Arc<Notify>) {
    let mut events = Vec::with_capacity(BATCH);
    let mut heard = 0;
    let mut next_look = Instant::now() + LOOK;
    loop {
        let now = Instant::now();
        let Some(deadline) = ears.upgrade().map(|ears| {
            let lingers = ears.link().wanted.expire(now);
            let deadline = ears.tick(now);
            if now >= next_look {
                ears.look();
                next_look = now + LOOK;
            }
            let deadline = deadline.min(next_look);
            lingers.map_or(deadline, |lingers| lingers.min(deadline))
        }) else {
            return;
        };
        let waited = tokio::select! {
            waited = inbox.take(BATCH, &mut events) => waited,
            () = tokio::time::sleep_until(deadline.into()) => continue,
            () = wake.notified() => continue,
        };
        let Some(ears) = ears.upgrade() else {
            return;
        };
        heard += events.len();
        for event in events.drain(..) {
            ears.link().note(&event);
            ears.heard(event);
        }
        ears.late(waited > LATE);
        drop(ears);
        // Many frames may wait, and others want to run. What comes alone isn't worth another look at
        // the I/O.
        if heard >= BATCH {
            heard = 0;
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tasks().drain(..).for_each(|task| task.abort());
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("wanted", &self.wanted)
            .finish_non_exhaustive()
    }
}
