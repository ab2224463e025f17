//! A broker in memory whose journal can be held, or takes its time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use antiphon::{Bytes, Data, Server, Socket, adapter::BoxFuture, recovery::Bounds};
use antiphon_cluster::{
    Cluster, Topic, Wanted,
    broker::{
        Abilities, Broker, Inbox, Refused,
        memory::{Hub, Memory},
    },
    log::{Append, Change, Extent, Journal, Kept, Placed},
};
use tokio::sync::{mpsc, watch};

use crate::{
    ready,
    recovery::builder,
    support::{random, until, within},
};

/// Where questions to a journal wait, if it is closed.
pub struct Gate {
    is_open: watch::Sender<bool>,
    /// How many have come to it.
    came: watch::Sender<usize>,
}

impl Gate {
    fn new() -> Self {
        Self {
            is_open: watch::Sender::new(true),
            came: watch::Sender::new(0),
        }
    }

    pub fn close(&self) {
        self.came.send_replace(0);
        self.is_open.send_replace(false);
    }

    pub fn open(&self) {
        self.is_open.send_replace(true);
    }

    pub fn passes(&self) -> impl Future<Output = ()> + use<> {
        self.came.send_modify(|came| *came += 1);
        let mut is_open = self.is_open.subscribe();
        async move {
            is_open.wait_for(|is_open| *is_open).await.unwrap();
        }
    }

    pub async fn came(&self, times: usize) {
        let mut came = self.came.subscribe();
        let came = came.wait_for(|came| *came >= times);
        within("the question", came).await.unwrap();
    }
}

/// A broker in memory whose journal can be held.
pub struct Held {
    pub memory: Arc<Memory>,
    pub sessions: Gate,
    pub claims: Gate,
    /// Whether a session has been saved that is in the room.
    pub has_saved: watch::Sender<bool>,
    line: Option<Line>,
}

/// A way to others that takes a while, and keeps the order.
struct Line {
    frames: mpsc::UnboundedSender<(Topic, Bytes)>,
    waiting: Mutex<Option<mpsc::UnboundedReceiver<(Topic, Bytes)>>>,
    delays: Mutex<Box<dyn FnMut(usize) -> usize + Send>>,
}

impl Line {
    fn new(seed: u64) -> Self {
        let (frames, waiting) = mpsc::unbounded_channel();
        Self {
            frames,
            waiting: Mutex::new(Some(waiting)),
            delays: Mutex::new(Box::new(random(seed))),
        }
    }

    /// Takes a while: less than 4 ms.
    fn takes_time(&self) -> impl Future<Output = ()> + use<> {
        let mut delays = self.delays.lock().unwrap_or_else(PoisonError::into_inner);
        tokio::time::sleep(Duration::from_micros(delays(4_000) as u64))
    }
}

impl Held {
    pub fn new(hub: &Hub) -> Arc<Self> {
        Self::with(hub, None)
    }

    /// One whose frames and answers take a while, by a seed.
    pub fn slow(hub: &Hub, seed: u64) -> Arc<Self> {
        Self::with(hub, Some(Line::new(seed)))
    }

    fn with(hub: &Hub, line: Option<Line>) -> Arc<Self> {
        Arc::new(Self {
            memory: hub.broker(),
            sessions: Gate::new(),
            claims: Gate::new(),
            has_saved: watch::Sender::new(false),
            line,
        })
    }

    fn takes_time(&self) -> impl Future<Output = ()> + use<> {
        let time = self.line.as_ref().map(Line::takes_time);
        async move {
            if let Some(time) = time {
                time.await;
            }
        }
    }

    fn journal(&self) -> Arc<dyn Journal> {
        Arc::clone(&self.memory).journal().unwrap()
    }
}

impl Broker for Held {
    fn abilities(&self) -> Abilities {
        self.memory.abilities()
    }

    fn run(self: Arc<Self>, wanted: Arc<Wanted>, inbox: Arc<Inbox>) -> BoxFuture<()> {
        let run = Arc::clone(&self.memory).run(wanted, inbox);
        let waiting = self.line.as_ref().and_then(|line| {
            let mut waiting = line.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.take()
        });
        let Some(mut waiting) = waiting else {
            return run;
        };
        Box::pin(async move {
            let sends = async {
                while let Some((topic, frame)) = waiting.recv().await {
                    self.takes_time().await;
                    // Whoever waits for it learns that it is lost.
                    let _ = self.memory.publish(&topic, frame);
                }
            };
            tokio::select! {
                () = run => {}
                () = sends => {}
            }
        })
    }

    fn publish(&self, topic: &Topic, frame: Bytes) -> Result<(), Refused> {
        let Some(line) = &self.line else {
            return self.memory.publish(topic, frame);
        };
        // The line's end is kept until the broker is closed.
        line.frames
            .send((topic.clone(), frame))
            .map_err(|_| Refused::Closed)
    }

    fn subscribers(&self, topic: &Topic) -> BoxFuture<Result<Option<usize>, Refused>> {
        self.memory.subscribers(topic)
    }

    fn journal(self: Arc<Self>) -> Option<Arc<dyn Journal>> {
        Some(self)
    }

    fn close(&self) -> BoxFuture<()> {
        self.memory.close()
    }
}

impl Journal for Held {
    fn append(&self, log: &Topic, append: Append<'_>) -> Result<(), Refused> {
        self.journal().append(log, append)
    }

    fn open(&self, log: &Topic, bounds: Bounds, heard: u64) -> BoxFuture<Result<Extent, Refused>> {
        self.journal().open(log, bounds, heard)
    }

    fn read(
        &self,
        log: &Topic,
        after: u64,
        bytes: usize,
    ) -> BoxFuture<Result<Vec<Placed>, Refused>> {
        self.journal().read(log, after, bytes)
    }

    fn session(&self, log: &Topic, pid: &str) -> BoxFuture<Result<Option<Kept>, Refused>> {
        let (passes, journal) = (self.sessions.passes(), self.journal());
        let (there, back) = (self.takes_time(), self.takes_time());
        let (log, pid) = (log.clone(), pid.to_owned());
        Box::pin(async move {
            passes.await;
            there.await;
            let session = journal.session(&log, &pid).await;
            back.await;
            session
        })
    }

    fn claim(
        &self,
        log: &Topic,
        pid: &str,
        from: &str,
        to: &str,
    ) -> BoxFuture<Result<bool, Refused>> {
        let (passes, journal) = (self.claims.passes(), self.journal());
        let (log, pid) = (log.clone(), pid.to_owned());
        let (from, to) = (from.to_owned(), to.to_owned());
        let (there, back) = (self.takes_time(), self.takes_time());
        Box::pin(async move {
            passes.await;
            there.await;
            let claimed = journal.claim(&log, &pid, &from, &to).await;
            back.await;
            claimed
        })
    }

    fn save(
        &self,
        log: &Topic,
        owner: &str,
        changes: Vec<Change>,
        time: Duration,
    ) -> BoxFuture<Result<Vec<bool>, Refused>> {
        let mut sessions = changes.iter().filter_map(|(_, session)| session.as_ref());
        let is_in_room = sessions.any(|session| session.windows(3).any(|part| part == br#""a""#));
        let saved = self.journal().save(log, owner, changes, time);
        let has_saved = self.has_saved.clone();
        Box::pin(async move {
            let saved = saved.await;
            has_saved.send_modify(|has_saved| *has_saved |= is_in_room);
            saved
        })
    }
}

/// Three servers with such brokers.
pub struct Three {
    pub servers: [Server; 3],
    pub clusters: [Cluster; 3],
    pub brokers: [Arc<Held>; 3],
}

impl Three {
    /// Servers that know each other. A client enters a room by an event.
    pub async fn new(brokers: [Arc<Held>; 3]) -> Self {
        let clusters = brokers.clone().map(|broker| Cluster::new(broker));
        let servers = clusters.clone().map(|cluster| {
            let io = builder().adapter(cluster).build();
            io.of("/")
                .on("enter", async |socket: Socket, Data(room): Data<String>| {
                    socket.join(room);
                });
            io
        });
        for cluster in &clusters {
            until("all servers", || cluster.servers().len() == 3).await;
            ready(cluster).await;
            cluster.subscribed().await;
        }
        Self {
            servers,
            clusters,
            brokers,
        }
    }
}
