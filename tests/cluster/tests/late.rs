//! Takeovers that are late: the server that asked for a session is held up, and its client has gone on to
//! another one meanwhile. The journal of one server is held where it is asked for a session, or for its
//! claim.

#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use antiphon::{Bytes, Data, Server, Socket, adapter::BoxFuture, recovery::Bounds};
use antiphon_cluster::{
    Cluster, Topic, Wanted,
    broker::{
        Abilities, Broker, Inbox, Refused,
        memory::{Hub, Memory},
    },
    log::{Append, Change, Extent, Journal, Kept, Placed},
};
use antiphon_test_cluster::{
    ready,
    recovery::{Returning, builder, is_silent},
    support::{until, within},
};
use tokio::{sync::watch, task::JoinHandle};

/// Where questions to a journal wait, if it is closed.
struct Gate {
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

    fn close(&self) {
        self.came.send_replace(0);
        self.is_open.send_replace(false);
    }

    fn open(&self) {
        self.is_open.send_replace(true);
    }

    fn passes(&self) -> impl Future<Output = ()> + use<> {
        self.came.send_modify(|came| *came += 1);
        let mut is_open = self.is_open.subscribe();
        async move {
            is_open.wait_for(|is_open| *is_open).await.unwrap();
        }
    }

    async fn came(&self, times: usize) {
        let mut came = self.came.subscribe();
        let came = came.wait_for(|came| *came >= times);
        within("the question", came).await.unwrap();
    }
}

/// A broker in memory whose journal can be held.
struct Held {
    memory: Arc<Memory>,
    sessions: Gate,
    claims: Gate,
    /// Whether a session has been saved that is in the room.
    has_saved: watch::Sender<bool>,
}

impl Held {
    fn journal(&self) -> Arc<dyn Journal> {
        Arc::clone(&self.memory).journal().unwrap()
    }
}

impl Broker for Held {
    fn abilities(&self) -> Abilities {
        self.memory.abilities()
    }

    fn run(self: Arc<Self>, wanted: Arc<Wanted>, inbox: Arc<Inbox>) -> BoxFuture<()> {
        Arc::clone(&self.memory).run(wanted, inbox)
    }

    fn publish(&self, topic: &Topic, frame: Bytes) -> Result<(), Refused> {
        self.memory.publish(topic, frame)
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
        let (log, pid) = (log.clone(), pid.to_owned());
        Box::pin(async move {
            passes.await;
            journal.session(&log, &pid).await
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
        Box::pin(async move {
            passes.await;
            journal.claim(&log, &pid, &from, &to).await
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

/// Three servers: one that has a client, a slow one that it goes to, and one that it goes on to.
struct World {
    servers: [Server; 3],
    clusters: [Cluster; 3],
    brokers: [Arc<Held>; 3],
    client: Returning,
}

impl World {
    async fn new() -> Self {
        let hub = Hub::new();
        let brokers = [(); 3].map(|()| {
            Arc::new(Held {
                memory: hub.broker(),
                sessions: Gate::new(),
                claims: Gate::new(),
                has_saved: watch::Sender::new(false),
            })
        });
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
        let mut client = Returning::joined(&servers[0], "a").await;
        servers[1].to("a").emit("n", 0);
        assert_eq!(client.numbers(1).await, [0]);
        Self {
            servers,
            clusters,
            brokers,
            client,
        }
    }

    fn slow(&self) -> &Held {
        &self.brokers[1]
    }

    /// The client comes to the slow server, which doesn't learn that it goes away from there.
    fn comes_to_the_slow_one(&self) -> JoinHandle<Returning> {
        let (session, slow) = (self.client.session.clone(), self.servers[1].clone());
        tokio::spawn(async move { session.back(&slow).await })
    }

    async fn slow_one_is_silent(&self) {
        let mut health = self.clusters[1].watch_health();
        let silent = health.wait_for(is_silent);
        within("its health", silent).await.unwrap();
    }

    /// The client goes on when the slow server has waited for a while, as a client does.
    async fn goes_on(&self) -> Returning {
        self.slow_one_is_silent().await;
        let live = self.client.back(&self.servers[2]).await;
        assert_eq!(live.sid, self.client.sid, "it is the same socket");
        live
    }

    /// The client is where it went last, and the slow server has let in somebody else.
    async fn stays(&self, mut live: Returning, late: JoinHandle<Returning>) {
        let late = within("the slow server", late).await.unwrap();
        assert_ne!(late.sid, self.client.sid, "the slow server has the session");
        self.servers[1].to("a").emit("n", 1);
        assert_eq!(live.numbers(1).await, [1]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_learns_late_where_a_session_is_does_not_end_the_client_s_next_one() {
    let world = World::new().await;
    let slow = &world.slow().sessions;
    slow.close();
    let late = world.comes_to_the_slow_one();
    slow.came(1).await;
    let live = world.goes_on().await;
    slow.open();
    world.stays(live, late).await;
}

/// The first server can't be asked: both take what was saved, and the one that claims it later looks
/// again who has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_claims_late_does_not_end_the_client_s_next_session() {
    let world = World::new().await;
    until("it is saved", || *world.brokers[0].has_saved.borrow()).await;
    world.brokers[0].memory.cut();
    let slow = &world.slow().claims;
    slow.close();
    let late = world.comes_to_the_slow_one();
    slow.came(1).await;
    let live = world.goes_on().await;
    slow.open();
    world.stays(live, late).await;
}

/// It is on its way to the slow server, where the next one finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_on_while_it_is_taken_over_is_the_same_socket() {
    let world = World::new().await;
    let slow = &world.slow().claims;
    slow.close();
    let late = world.comes_to_the_slow_one();
    slow.came(1).await;
    late.abort();
    let next = &world.brokers[2].sessions;
    next.close();
    let goes_on = world.goes_on();
    let opens = async {
        next.came(1).await;
        next.open();
        // The first has told it that it doesn't have it.
        next.came(2).await;
        slow.open();
    };
    let (mut live, ()) = tokio::join!(goes_on, opens);
    world.servers[0].to("a").emit("n", 1);
    assert_eq!(live.numbers(1).await, [1]);
}

/// Nothing is emitted: clients that come back wait, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_not_told_is_seen_by_operators() {
    let world = World::new().await;
    let slow = &world.slow().sessions;
    slow.close();
    let late = world.comes_to_the_slow_one();
    world.slow_one_is_silent().await;
    assert_eq!(world.clusters[1].stats().waiting, 0);
    slow.open();
    let late = within("the slow server", late).await.unwrap();
    assert_eq!(late.sid, world.client.sid);
    ready(&world.clusters[1]).await;
}
