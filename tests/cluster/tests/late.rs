//! Takeovers that are late: the server that asked for a session is held up, and its client has gone on to
//! another one meanwhile. The journal of one server is held where it is asked for a session, or for its
//! claim.

#![allow(clippy::unwrap_used)]

use antiphon::Server;
use antiphon_cluster::{Cluster, broker::memory::Hub};
use antiphon_test_cluster::{
    held::{Held, Three},
    ready,
    recovery::{Returning, is_silent},
    support::{serve, until, within},
};
use tokio::task::JoinHandle;

/// Three servers: one that has a client, a slow one that it goes to, and one that it goes on to.
struct World {
    servers: [Server; 3],
    clusters: [Cluster; 3],
    brokers: [std::sync::Arc<Held>; 3],
    client: Returning,
}

impl World {
    async fn new() -> Self {
        let hub = Hub::new();
        let brokers = [(); 3].map(|()| Held::new(&hub));
        let Three {
            servers,
            clusters,
            brokers,
        } = Three::new(brokers).await;
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
    fn comes_to_the_slow_one(&self) -> JoinHandle<Option<Returning>> {
        let (session, slow) = (self.client.session.clone(), self.servers[1].clone());
        tokio::spawn(async move { session.comes(serve(&slow).await).await })
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

    /// The client is where it went last, and the slow server has closed the connection that it left.
    async fn stays(&self, mut live: Returning, late: JoinHandle<Option<Returning>>) {
        let late = within("the slow server", late).await.unwrap();
        assert!(late.is_none(), "the slow server has let it in");
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

/// It is on its way to the slow server, and is given to the next one as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_on_while_it_is_taken_over_is_the_same_socket() {
    let world = World::new().await;
    let slow = &world.slow().claims;
    slow.close();
    let late = world.comes_to_the_slow_one();
    slow.came(1).await;
    late.abort();
    let mut live = world.goes_on().await;
    slow.open();
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
    assert_eq!(late.expect("it is let in").sid, world.client.sid);
    ready(&world.clusters[1]).await;
}
