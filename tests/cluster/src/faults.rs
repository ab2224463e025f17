//! What becomes of two servers when their broker, or the connection to it, fails: the same for every
//! broker that is a process.
//!
//! A test makes a [`Two`] of its broker, and calls these by [`test_faults!`](crate::test_faults).

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use antiphon::{
    Bytes, EmitError, Server, ServerBuilder,
    adapter::{AdapterError, AdapterFactory, BoxFuture},
};
use antiphon_cluster::Cluster;

use crate::{
    Client, Pair, collect, down, joined, number, ready,
    support::{until, within},
};

/// A broker that tests can break.
pub trait Broken {
    /// Ends it as a crash does.
    fn kill(&mut self);

    /// Starts it again, at the same address.
    fn restart(&mut self);

    /// Stops it from running, without ending it.
    fn freeze(&self);

    /// Lets it run again.
    fn thaw(&self);
}

/// Two servers, the handles of their connections, and their broker.
pub struct Two<B> {
    pub pair: Pair,
    pub nodes: [Cluster; 2],
    pub broker: B,
}

impl<B> Two<B> {
    /// Two servers that have been connected so, once they know each other.
    pub async fn new<A>(broker: B, adapters: [A; 2], cluster: impl Fn(&A) -> Cluster) -> Self
    where
        A: AdapterFactory,
    {
        Self::built(broker, adapters, cluster, Server::builder).await
    }

    /// The same with servers that are built so.
    pub async fn built<A>(
        broker: B,
        adapters: [A; 2],
        cluster: impl Fn(&A) -> Cluster,
        builder: impl Fn() -> ServerBuilder,
    ) -> Self
    where
        A: AdapterFactory,
    {
        let nodes = [cluster(&adapters[0]), cluster(&adapters[1])];
        for node in &nodes {
            until("both servers", || node.servers().len() == 2).await;
            ready(node).await;
        }
        let settled = nodes.clone();
        let settle = move || -> BoxFuture<()> {
            let nodes = settled.clone();
            Box::pin(async move {
                for node in nodes {
                    node.subscribed().await;
                }
            })
        };
        let pair = Pair::built(adapters, settle, builder);
        Self {
            pair,
            nodes,
            broker,
        }
    }

    /// Both are well.
    pub async fn ready(&self) {
        for node in &self.nodes {
            ready(node).await;
        }
    }

    /// Emits and waits until the client of the same server has it, so that none falls behind.
    pub async fn emit_here(&self, here: &mut Client, number: u32) -> Result<(), EmitError> {
        emit_here(&self.pair, here, number).await
    }
}

/// Emits and waits until the client of the same server has it, so that none falls behind.
pub async fn emit_here(pair: &Pair, here: &mut Client, number: u32) -> Result<(), EmitError> {
    let emitted = pair.one().emit("n", number).into_result();
    assert_eq!(crate::number(here).await, number);
    emitted.map(drop)
}

pub async fn a_broker_that_crashes_and_starts_again_is_found_again<B: Broken>(mut two: Two<B>) {
    let ([mut here, mut there], ids) = two.pair.clients(["a", "b"]).await;
    two.broker.kill();
    for node in &two.nodes {
        let reason = down(node).await;
        assert!(reason.contains("at 127.0.0.1"), "{reason}");
    }
    for number in 0..3 {
        let refused = two.emit_here(&mut here, number).await;
        assert!(
            matches!(
                refused,
                Err(EmitError::Adapter(AdapterError::Unreachable { .. }))
            ),
            "{refused:?}"
        );
    }
    // Nothing waits for the connection.
    let fetched = within("an error", two.pair.one().broadcast().sockets());
    assert!(matches!(
        fetched.await,
        Err(AdapterError::Unreachable { .. })
    ));
    assert!(two.nodes[0].stats().refused >= 4);

    two.broker.restart();
    two.ready().await;
    two.pair.one().to("b").emit("n", 10).into_result().unwrap();
    assert_eq!(number(&mut there).await, 10);
    two.pair.two().to("a").emit("n", 11).into_result().unwrap();
    assert_eq!(number(&mut here).await, 11);
    let fetched = two.pair.one().broadcast().sockets().await.unwrap();
    assert_eq!(fetched.missing, []);
    let found = fetched.sockets.iter();
    let found: HashSet<_> = found.map(|one| one.id.as_str().to_owned()).collect();
    assert_eq!(found, ids.into_iter().collect());
}

pub async fn crashes_under_load_double_nothing_and_nothing_is_lost_once_all_is_well<B: Broken>(
    mut two: Two<B>,
) {
    let ([mut here, there], _) = two.pair.clients(["a", "a"]).await;
    let seen = collect(there);
    let (mut next, mut taken) = (0, 0);
    for _ in 0..3 {
        for step in 0..200 {
            if step == 100 {
                two.broker.kill();
            }
            // While the connection is lost this is refused, and those here get it all the same.
            taken += u64::from(two.emit_here(&mut here, next).await.is_ok());
            next += 1;
        }
        down(&two.nodes[0]).await;
        down(&two.nodes[1]).await;
        two.broker.restart();
        two.ready().await;
    }
    let first = next;
    for _ in 0..200 {
        two.emit_here(&mut here, next).await.unwrap();
        taken += 1;
        next += 1;
    }
    let is_last = || seen.lock().unwrap().last() == Some(&(next - 1));
    until("the last", is_last).await;
    let seen = seen.lock().unwrap();
    assert!(seen.is_sorted_by(|one, other| one < other), "{seen:?}");
    let since = seen.iter().filter(|number| **number >= first);
    assert_eq!(since.count(), 200);
    // What was refused didn't come late.
    assert!(seen.len() as u64 <= taken, "{} of {taken}", seen.len());
}

pub async fn a_broker_that_hangs_fills_a_bounded_queue_and_blocks_nobody<B: Broken>(two: Two<B>) {
    let ([mut here, there], _) = two.pair.clients(["a", "a"]).await;
    drop(there);
    two.broker.freeze();
    let large = Bytes::from(vec![0; 512 << 10]);
    // More than the system takes for a connection, and the queue behind it.
    let full = (0..400).find_map(|_| {
        let begun = Instant::now();
        let emitted = two.pair.one().to("nobody here").emit("n", large.clone());
        // Less than the 5 s after which the broker is given up, and more than a busy machine takes.
        assert!(begun.elapsed() < Duration::from_secs(4));
        emitted.into_result().err()
    });
    assert!(
        matches!(full, Some(EmitError::Adapter(AdapterError::Full))),
        "{full:?}"
    );
    let _ = two.emit_here(&mut here, 1).await;
    assert!(down(&two.nodes[0]).await.contains("hasn't answered in 5 s"));
    let _ = two.emit_here(&mut here, 2).await;
    assert!(two.nodes[0].stats().lost > 100);

    two.broker.thaw();
    two.ready().await;
    let (mut there, _) = joined(&two.pair.servers[1], "b").await;
    two.pair.settle().await;
    two.emit_here(&mut here, 3).await.unwrap();
    assert_eq!(number(&mut there).await, 3);
}

pub async fn events_of_one_thread_come_in_order_whatever_rooms_they_go_to<B>(two: Two<B>) {
    let ([here, there], _) = two.pair.clients(["a", "b"]).await;
    drop(here);
    two.pair.two().to("b").local().join(["c", "d"]);
    two.pair.settle().await;
    let seen = collect(there);
    let one = two.pair.one();
    for number in 0..3_000 {
        match number % 4 {
            0 => drop(one.emit("n", number)),
            room => drop(one.to(["b", "c", "d"][room - 1]).emit("n", number)),
        }
    }
    until("the last", || seen.lock().unwrap().last() == Some(&2_999)).await;
    assert_eq!(*seen.lock().unwrap(), (0..3_000).collect::<Vec<_>>());
}

pub async fn what_was_emitted_before_the_end_is_sent<B>(two: Two<B>) {
    let ([here, there], _) = two.pair.clients(["b", "a"]).await;
    drop(here);
    let seen = collect(there);
    for number in 0..2_000 {
        two.pair.one().to("a").emit("n", number);
    }
    within("the end", two.pair.servers[0].close()).await;
    until("the last", || seen.lock().unwrap().last() == Some(&1_999)).await;
    assert_eq!(*seen.lock().unwrap(), (0..2_000).collect::<Vec<_>>());
    let refused = two.pair.one().emit("n", 1).into_result();
    assert!(matches!(
        refused,
        Err(EmitError::Adapter(AdapterError::Closed))
    ));
}

pub async fn ten_thousand_rooms_are_heard_and_given_up_also_after_a_crash<B: Broken>(
    mut two: Two<B>,
) {
    let ([_here, mut there], _) = two.pair.clients(["a", "b"]).await;
    two.pair.settle().await;
    let before = two.nodes[1].stats().topics;
    let rooms: Vec<_> = (0..10_000).map(|number| format!("room {number}")).collect();
    two.pair.two().to("b").local().join(rooms.clone());
    two.pair.settle().await;
    for number in [0, 4_999, 9_999] {
        two.pair.one().to(&*rooms[number]).emit("n", number);
        assert_eq!(crate::number(&mut there).await as usize, number);
    }
    two.broker.kill();
    down(&two.nodes[1]).await;
    two.broker.restart();
    two.ready().await;
    two.pair.one().to(&*rooms[77]).emit("n", 77);
    assert_eq!(number(&mut there).await, 77);
    two.pair.two().to("b").local().leave(rooms);
    until("the leave", || two.nodes[1].stats().topics == before).await;
}

/// Of two servers that don't wait for their broker and have begun without it. `restart` starts it.
pub async fn servers_that_wait_for_nothing_begin_alone_and_find_the_broker_when_it_comes(
    nodes: [Cluster; 2],
    restart: impl FnOnce(),
) {
    assert!(down(&nodes[0]).await.contains("can't be reached"));
    let servers = nodes.each_ref().map(|node| {
        let io = Server::builder().adapter(node.clone()).build();
        io.of("/").on("enter", async || ());
        io
    });
    let (mut client, _) = joined(&servers[0], "a").await;
    assert!(servers[0].emit("here", 1).into_result().is_err());
    client.expect(r#"42["here",1]"#).await;
    let asked = servers[0].of("/").broadcast().sockets().await;
    assert!(
        matches!(asked, Err(AdapterError::Unreachable { .. })),
        "{asked:?}"
    );
    // It isn't known that there are no others.
    let mut started = std::pin::pin!(nodes[0].started());
    let begun = tokio::time::timeout(Duration::ZERO, &mut started);
    assert!(begun.await.is_err());

    restart();
    within("its start", started).await;
    for node in &nodes {
        ready(node).await;
        until("both servers", || node.servers().len() == 2).await;
    }
    servers[1].emit("all", 1).into_result().unwrap();
    client.expect(r#"42["all",1]"#).await;
}

/// A test for each of the faults, of the two servers that an async function gives.
#[macro_export]
macro_rules! test_faults {
    ($two:path) => {
        $crate::test_faults! { $two;
            a_broker_that_crashes_and_starts_again_is_found_again
            crashes_under_load_double_nothing_and_nothing_is_lost_once_all_is_well
            a_broker_that_hangs_fills_a_bounded_queue_and_blocks_nobody
            events_of_one_thread_come_in_order_whatever_rooms_they_go_to
            what_was_emitted_before_the_end_is_sent
            ten_thousand_rooms_are_heard_and_given_up_also_after_a_crash
        }
    };
    ($two:path; $($fault:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $fault() {
                $crate::faults::$fault($two().await).await;
            }
        )*
    };
}
