//! What the tasks of one broker have in common: what waits to be published, by which connections
//! questions go, and which connections there are.
//!
//! The broker owns a [`Shared`], and so does each task. A [`Lane`] is what goes one [`Way`]: threads
//! that emit put frames into its queue, and the task that publishes lends it its connections for
//! questions ([`Asks`]). Each task says of its [`Side`] that it is up or down; the router is told
//! that there is a connection when all are up, and of each that is lost.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

use antiphon_cluster::{
    Topic,
    broker::{Batch, Inbox, Queue, Refused, Stamp},
};
use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, watch};

use crate::{
    append::Sender,
    counter::Counter,
    error::Error,
    nodes::Reach,
    refusing::Refusing,
    server::{Server, Way},
};

/// What the tasks of a broker have in common.
pub(crate) struct Shared {
    pub(crate) server: Server,
    home: Lane,
    /// `None` where there is one Redis.
    keyed: Option<Lane>,
    pub(crate) counter: Counter,
    links: watch::Sender<Links>,
    /// Which version of what is wanted is subscribed to, by each that listens.
    confirmed: Mutex<BTreeMap<Way, u64>>,
    inbox: OnceLock<Arc<Inbox>>,
    /// What is refused while the connections hold.
    refusing: Refusing,
    /// What names this process to inboxes, by chance.
    sender: u64,
}

/// What waits to be published by one [`Way`], and the connections by which that is done.
pub(crate) struct Lane {
    pub(crate) way: Way,
    pub(crate) queue: Queue,
    /// The connections, for questions.
    reach: Mutex<Option<Reach>>,
    /// Whether it has anything to do.
    is_used: watch::Sender<bool>,
    /// A node has said that it doesn't have something any more.
    pub(crate) moved: Notify,
}

/// Questions may be asked. Dropped, also with the task that publishes, it lets the connection go.
pub(crate) struct Asks<'s>(&'s Lane);

impl Asks<'_> {
    /// The connections are others now.
    pub(crate) fn renew(&self, reach: Reach) {
        *self.0.reach() = Some(reach);
    }
}

impl Drop for Asks<'_> {
    fn drop(&mut self) {
        *self.0.reach() = None;
    }
}

impl Lane {
    fn new(way: Way, is_used: bool) -> Self {
        Self {
            way,
            queue: Queue::new(),
            reach: Mutex::default(),
            is_used: watch::Sender::new(is_used),
            moved: Notify::new(),
        }
    }

    fn reach(&self) -> MutexGuard<'_, Option<Reach>> {
        self.reach.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks questions by these connections, as long as what is returned is kept.
    pub(crate) fn ask_by(&self, reach: Reach) -> Asks<'_> {
        *self.reach() = Some(reach);
        Asks(self)
    }

    /// The connection by which questions about this key are asked.
    pub(crate) fn connection(&self, key: &str) -> Result<MultiplexedConnection, Refused> {
        let connection = self.reach().as_ref().and_then(|reach| reach.to(key));
        connection.ok_or_else(|| Refused::Down {
            reason: "Redis isn't connected".to_owned(),
        })
    }

    /// A node has said that it doesn't have something any more.
    pub(crate) fn look_again(&self) {
        self.moved.notify_one();
    }

    /// Resolves when it has something to do.
    pub(crate) async fn used(&self) {
        // The sender is here.
        let _ = self.is_used.subscribe().wait_for(|is_used| *is_used).await;
    }
}

/// Which of the connections, or sets of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Publishing(Way),
    Subscribing(Way),
    /// With the number of the streams that have one connection.
    Reading(usize),
}

/// How the connections are that there have to be.
#[derive(Debug, Clone)]
struct Links(BTreeMap<Side, Link>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Link {
    New,
    Up,
    Down(Error),
}

impl Links {
    fn new(sides: impl IntoIterator<Item = Side>) -> Self {
        Self(sides.into_iter().map(|side| (side, Link::New)).collect())
    }

    /// Whether all are there. Returns `None` if they aren't yet, and nothing has gone wrong.
    fn outcome(&self) -> Option<Result<(), Error>> {
        let error = self.0.values().find_map(|link| match link {
            Link::Down(error) => Some(error.clone()),
            _ => None,
        });
        match error {
            Some(error) => Some(Err(error)),
            None => self
                .0
                .values()
                .all(|link| *link == Link::Up)
                .then_some(Ok(())),
        }
    }
}

impl Shared {
    /// What the tasks have in common that begin now: so many of them read streams.
    pub(crate) fn new(server: Server, readers: usize) -> Self {
        let channels = &server.channels;
        let is_cluster = server.cluster().is_some();
        let reads = (0..readers).map(Side::Reading);
        // Which ways there are, and whether they are used from the beginning: keys of logs are, once
        // there is a log.
        let by_home = !(is_cluster && channels.are_sharded);
        let has_keys = channels.are_sharded || channels.streams.is_some();
        let by_key = is_cluster && (has_keys || channels.logs.is_some());
        let ways = [
            (Side::Publishing(Way::Home), by_home),
            (Side::Subscribing(Way::Home), by_home),
            (Side::Publishing(Way::Keyed), by_key && has_keys),
            (Side::Subscribing(Way::Keyed), by_key),
        ];
        let ways = ways
            .into_iter()
            .filter_map(|(side, is_used)| is_used.then_some(side));
        let links = Links::new(ways.chain(reads));
        let confirms = [(Way::Home, by_home), (Way::Keyed, by_key)];
        let confirms = confirms.into_iter().filter(|(_, is_used)| *is_used);
        Self {
            home: Lane::new(Way::Home, by_home),
            keyed: by_key.then(|| Lane::new(Way::Keyed, has_keys)),
            counter: Counter::default(),
            links: watch::Sender::new(links),
            confirmed: Mutex::new(confirms.map(|(way, _)| (way, 0)).collect()),
            inbox: OnceLock::new(),
            refusing: Refusing::default(),
            sender: RandomState::new().build_hasher().finish(),
            server,
        }
    }

    /// Puts together what other inboxes take apart. Where there are several nodes, the inboxes have to
    /// know by which of its connections this process has sent it.
    pub(crate) fn bundled(&self, batch: Batch, way: Way, connection: u64) -> Batch {
        if !self.server.channels.are_ours() {
            return batch;
        }
        let is_stamped = way == Way::Home && self.server.cluster().is_some();
        batch.bundled(is_stamped.then_some(Stamp {
            sender: self.sender,
            connection,
        }))
    }

    /// How the first attempt to connect goes.
    pub(crate) async fn connected(&self) -> Result<(), Error> {
        let mut links = self.links.subscribe();
        // The sender is here.
        let links = links.wait_for(|links| links.outcome().is_some()).await;
        let outcome = links.ok().and_then(|links| links.outcome());
        outcome.unwrap_or(Ok(()))
    }

    /// What is published this way.
    pub(crate) fn lane(&self, way: Way) -> &Lane {
        match (&self.keyed, way) {
            (Some(keyed), Way::Keyed) => keyed,
            _ => &self.home,
        }
    }

    /// What is published, or asked, under keys.
    pub(crate) fn lane_of_keys(&self) -> &Lane {
        self.lane(Way::Keyed)
    }

    /// There are logs from now on.
    pub(crate) fn keep_logs(&self) {
        if let Some(keyed) = &self.keyed
            && !keyed.is_used.send_replace(true)
        {
            let side = Side::Publishing(Way::Keyed);
            self.links.send_modify(|links| {
                links.0.entry(side).or_insert(Link::New);
            });
        }
    }

    /// The ways by which something is listened to.
    pub(crate) fn listens(&self) -> Vec<Way> {
        self.confirmed().keys().copied().collect()
    }

    fn confirmed(&self) -> MutexGuard<'_, BTreeMap<Way, u64>> {
        self.confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wanted as of this version, and goes this way, has been subscribed to.
    pub(crate) fn subscribed(&self, way: Way, version: u64, inbox: &Inbox) {
        let mut confirmed = self.confirmed();
        confirmed.insert(way, version);
        if let Some(version) = confirmed.values().min() {
            inbox.subscribed(*version);
        }
    }

    /// A connection is there.
    pub(crate) fn up(&self, side: Side) {
        self.set(side, Link::Up);
    }

    /// A connection is lost, or couldn't be made.
    pub(crate) fn down(&self, side: Side, error: Error) {
        self.set(side, Link::Down(error));
    }

    fn set(&self, side: Side, link: Link) {
        self.links.send_if_modified(|links| {
            let before = links.outcome();
            let is_down = matches!(link, Link::Down(_));
            // What it had taken is lost, whatever is wrong with others.
            let is_lost = links.0.insert(side, link) == Some(Link::Up) && is_down;
            if is_lost {
                self.refusing.forget();
            }
            let after = links.outcome();
            let has_changed = is_lost || before != after;
            // Told under the lock, so that the last word that the router hears is the last one.
            match (after, self.inbox.get()) {
                (Some(Ok(())), Some(inbox)) if has_changed => inbox.up(),
                (Some(Err(error)), Some(inbox)) if has_changed => inbox.down(error.to_string()),
                _ => {}
            }
            has_changed
        });
    }

    /// Whether anything was refused that hasn't been taken since.
    pub(crate) fn is_refusing(&self) -> bool {
        self.refusing.is_so()
    }

    /// Something under this topic was refused, by itself.
    pub(crate) fn not_taken(&self, topic: &str, reason: &Error) {
        if !self.refusing.refused(topic, Instant::now()) {
            return;
        }
        match self.inbox.get() {
            Some(inbox) if self.server.channels.listens => inbox.refusing(reason.to_string()),
            // A program that is no server has no health.
            _ => tracing::warn!("Redis refuses what is to be published: {reason}"),
        }
    }

    /// Something under this topic was taken.
    pub(crate) fn took(&self, topic: &str) {
        if self.refusing.took(topic)
            && let Some(inbox) = self.inbox.get()
        {
            inbox.taking();
        }
    }

    /// An entry was not appended to a log.
    pub(crate) fn not_appended(&self, log: &Topic, sender: &Sender, reason: &Error) {
        self.not_taken(log.name(), reason);
        if let Some(inbox) = self.inbox.get() {
            let (from, log) = (Arc::clone(&sender.from), Topic::new(log.name()));
            inbox.refused(log, from, sender.number, reason.to_string());
        }
    }

    /// Frames that were to be published are lost.
    pub(crate) fn lost(&self, frames: usize) {
        if let Some(inbox) = self.inbox.get()
            && frames > 0
        {
            inbox.lost(frames as u64);
        }
    }

    /// The broker begins, and hears by this inbox from now on. It does so once.
    pub(crate) fn begin(&self, inbox: &Arc<Inbox>) {
        let _ = self.inbox.set(Arc::clone(inbox));
    }

    /// Sends what waits, and lets nothing more be published.
    pub(crate) async fn close(&self) {
        let keyed = async {
            if let Some(keyed) = &self.keyed {
                keyed.queue.close().await;
            }
        };
        tokio::join!(self.home.queue.close(), keyed);
    }
}
