//! A broker in the memory of one process: for tests of what runs on several servers, and for
//! several servers of one program.
//!
//! ```
//! use antiphon_cluster::{Cluster, broker::memory::Hub};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let hub = Hub::new();
//! let one = antiphon::Server::builder().adapter(Cluster::new(hub.broker())).build();
//! let two = antiphon::Server::builder().adapter(Cluster::new(hub.broker())).build();
//! one.to("lobby").emit("news", "for the sockets of both");
//! # two.close().await;
//! # one.close().await;
//! # }
//! ```

mod journal;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    future::ready,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use antiphon::{adapter::BoxFuture, recovery::Bounds};
use bytes::Bytes;
use tokio::sync::watch;

use super::{Abilities, Broker, Inbox, Refused};
use crate::{
    Topic, Wanted,
    log::{Append, Change, Extent, Journal, Kept, Placed},
};
use journal::{Journals, Log};

/// The largest frame that it takes.
const MAX_FRAME: usize = 512 * 1_024 * 1_024;

/// What the brokers of one process meet at. A cheap handle.
#[derive(Clone, Default)]
pub struct Hub(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    next: u64,
    members: BTreeMap<u64, Arc<Inbox>>,
    subscriptions: HashMap<Topic, HashSet<u64>>,
    /// Patterns, which every frame is held against.
    patterns: HashSet<Topic>,
    journals: Journals,
}

impl Hub {
    /// A hub without brokers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A broker for one server.
    #[must_use]
    pub fn broker(&self) -> Arc<Memory> {
        let mut state = self.state();
        state.next += 1;
        Arc::new(Memory {
            hub: self.clone(),
            number: state.next,
            link: watch::Sender::new(Link::Up),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a frame to all that have subscribed to its topic.
    pub fn publish(&self, topic: &Topic, frame: &Bytes) {
        self.state().publish(topic, frame);
    }

    /// All logs and sessions are lost, as those of a broker that begins anew.
    pub fn forget(&self) {
        self.state().journals = Journals::default();
    }

    /// The sessions of all logs, in the form in which servers have saved them.
    #[must_use]
    pub fn sessions(&self) -> Vec<Bytes> {
        self.state().journals.sessions()
    }

    /// The newest entries of all logs are lost, as those of a broker that has not stored them.
    pub fn forget_newest(&self, count: usize) {
        self.state().journals.forget_newest(count);
    }
}

impl State {
    fn publish(&self, topic: &Topic, frame: &Bytes) {
        let patterns = self.patterns.iter();
        let patterns = patterns.filter(|pattern| pattern.covers(topic.name()));
        let mut name = None;
        for covering in patterns.chain([topic]) {
            let members = self.subscriptions.get(covering).into_iter().flatten();
            for inbox in members.filter_map(|number| self.members.get(number)) {
                let name = name.get_or_insert_with(|| Arc::from(topic.name()));
                inbox.frame(Arc::clone(name), frame.clone());
            }
        }
    }

    fn subscribe(&mut self, number: u64, topic: Topic) {
        if topic.is_pattern() {
            self.patterns.insert(topic.clone());
        }
        self.subscriptions.entry(topic).or_default().insert(number);
    }

    fn unsubscribe(&mut self, number: u64, topic: &Topic) {
        if let Some(members) = self.subscriptions.get_mut(topic) {
            members.remove(&number);
            if members.is_empty() {
                self.subscriptions.remove(topic);
                self.patterns.remove(topic);
            }
        }
    }

    fn leave(&mut self, number: u64) {
        self.members.remove(&number);
        self.subscriptions.retain(|_, members| {
            members.remove(&number);
            !members.is_empty()
        });
        let Self {
            subscriptions,
            patterns,
            ..
        } = self;
        patterns.retain(|pattern| subscriptions.contains_key(pattern));
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Hub")
            .field("members", &state.members.len())
            .field("topics", &state.subscriptions.len())
            .finish()
    }
}

/// The broker of one server.
#[derive(Debug)]
pub struct Memory {
    hub: Hub,
    number: u64,
    link: watch::Sender<Link>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Up,
    Cut,
    Closed,
}

impl Memory {
    /// Cuts its connection: nothing is sent or heard until it is [mended](Self::mend).
    pub fn cut(&self) {
        self.set(Link::Cut);
    }

    /// Mends its connection.
    pub fn mend(&self) {
        self.set(Link::Up);
    }

    fn set(&self, to: Link) {
        self.link.send_if_modified(|link| {
            let changes = *link != Link::Closed && *link != to;
            if changes {
                *link = to;
            }
            changes
        });
    }

    fn is_up(&self) -> Result<(), Refused> {
        match *self.link.borrow() {
            Link::Up => Ok(()),
            Link::Cut => Err(Refused::Down {
                reason: "the connection was cut".to_owned(),
            }),
            Link::Closed => Err(Refused::Closed),
        }
    }

    /// Does something with a log, if the connection is there.
    fn with_log<R: Send + 'static>(
        &self,
        topic: &Topic,
        work: impl FnOnce(&mut Log) -> R,
    ) -> BoxFuture<Result<R, Refused>> {
        let done = self
            .is_up()
            .map(|()| work(self.hub.state().journals.log(topic)));
        Box::pin(ready(done))
    }

    /// Subscribes to what is wanted, and follows the changes until the connection is cut.
    async fn connected(&self, wanted: &Wanted, inbox: &Arc<Inbox>) {
        let (mut version, topics) = wanted.all();
        {
            let mut state = self.hub.state();
            state.members.insert(self.number, Arc::clone(inbox));
            for topic in topics {
                state.subscribe(self.number, topic);
            }
        }
        inbox.subscribed(version);
        inbox.up();
        let mut link = self.link.subscribe();
        loop {
            tokio::select! {
                biased;
                _ = link.wait_for(|link| *link != Link::Up) => break,
                () = wanted.changed(version) => {}
            }
            // Behind so far that all is asked for again.
            let Some((now, changes)) = wanted.since(version) else {
                break;
            };
            let mut state = self.hub.state();
            for change in changes {
                match change.is_wanted {
                    true => state.subscribe(self.number, change.topic),
                    false => state.unsubscribe(self.number, &change.topic),
                }
            }
            drop(state);
            version = now;
            inbox.subscribed(version);
        }
        self.hub.state().leave(self.number);
    }
}

impl Broker for Memory {
    fn abilities(&self) -> Abilities {
        Abilities {
            max_frame: MAX_FRAME,
            echoes: true,
        }
    }

    fn run(self: Arc<Self>, wanted: Arc<Wanted>, inbox: Arc<Inbox>) -> BoxFuture<()> {
        Box::pin(async move {
            let mut link = self.link.subscribe();
            loop {
                let now = link.wait_for(|link| *link != Link::Cut).await;
                if now.is_ok_and(|link| *link == Link::Closed) {
                    return;
                }
                self.connected(&wanted, &inbox).await;
                inbox.down("the connection was cut");
            }
        })
    }

    fn publish(&self, topic: &Topic, frame: Bytes) -> Result<(), Refused> {
        let bytes = frame.len();
        if bytes > MAX_FRAME {
            let limit = MAX_FRAME;
            return Err(Refused::TooLarge { bytes, limit });
        }
        self.is_up()?;
        self.hub.publish(topic, &frame);
        Ok(())
    }

    fn subscribers(&self, topic: &Topic) -> BoxFuture<Result<Option<usize>, Refused>> {
        let state = self.hub.state();
        let count = state.subscriptions.get(topic).map_or(0, HashSet::len);
        Box::pin(ready(Ok(Some(count))))
    }

    fn journal(self: Arc<Self>) -> Option<Arc<dyn Journal>> {
        Some(self)
    }

    fn close(&self) -> BoxFuture<()> {
        self.set(Link::Closed);
        Box::pin(ready(()))
    }
}

impl Journal for Memory {
    fn append(&self, topic: &Topic, append: Append<'_>) -> Result<(), Refused> {
        self.is_up()?;
        // Frames are given in the order of the places.
        let mut state = self.hub.state();
        if let Some(placed) = state.journals.log(topic).append(append) {
            state.publish(topic, &placed.encode());
        }
        Ok(())
    }

    fn open(&self, topic: &Topic, _: Bounds, heard: u64) -> BoxFuture<Result<Extent, Refused>> {
        let hub = self.hub.clone();
        let topic = topic.clone();
        let is_up = self.is_up();
        Box::pin(async move {
            is_up?;
            let mut state = hub.state();
            let (extent, broken) = state.journals.log(&topic).open(heard);
            if let Some(placed) = broken {
                state.publish(&topic, &placed.encode());
            }
            Ok(extent)
        })
    }

    fn read(
        &self,
        topic: &Topic,
        after: u64,
        bytes: usize,
    ) -> BoxFuture<Result<Vec<Placed>, Refused>> {
        self.with_log(topic, |log| log.read(after, bytes))
    }

    fn session(&self, topic: &Topic, pid: &str) -> BoxFuture<Result<Option<Kept>, Refused>> {
        self.with_log(topic, |log| log.session(pid))
    }

    fn claim(
        &self,
        topic: &Topic,
        pid: &str,
        from: &str,
        to: &str,
    ) -> BoxFuture<Result<bool, Refused>> {
        self.with_log(topic, |log| log.claim(pid, from, to))
    }

    fn save(
        &self,
        topic: &Topic,
        owner: &str,
        changes: Vec<Change>,
        time: Duration,
    ) -> BoxFuture<Result<Vec<bool>, Refused>> {
        self.with_log(topic, |log| log.save(owner, changes, time))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.hub.state().leave(self.number);
    }
}
