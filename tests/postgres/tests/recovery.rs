//! Clients that come back to another server, and what becomes of the log that both share when their
//! Postgres fails.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use antiphon_postgres::Postgres;
use antiphon_test_cluster::{
    Pair,
    recovery::{self, Load, one_of_each},
    test_recovery,
};
use support::{Two, client, down};

/// Two servers with recovery.
async fn two() -> Two {
    Two::both(|builder| builder, recovery::builder).await
}

async fn pair() -> Pair {
    let two = two().await;
    two.pair.keeping(two.postgres)
}

test_recovery!(pair);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emitter_is_logged_once() {
    let two = two().await;
    let emitter = Postgres::builder(&two.postgres.url());
    let emitter = emitter.emitter().await.unwrap();
    recovery::an_emitter_is_logged_once(two.pair, emitter).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_while_connections_are_terminated() {
    const EACH: u64 = 1_000;

    let two = two().await;
    let mut clients = one_of_each(&two.pair).await;
    let load = Load::begin(&two.pair, EACH);
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        two.postgres.cut();
    }
    load.came(&mut clients).await;
    two.ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_crashes_comes_back_with_all() {
    const EACH: u64 = 500;

    let mut two = two().await;
    let mut clients = one_of_each(&two.pair).await;
    let load = Load::begin(&two.pair, EACH);
    tokio::time::sleep(Duration::from_millis(200)).await;
    two.postgres.kill();
    for node in &two.nodes {
        down(node).await;
    }
    two.postgres.restart();
    load.came(&mut clients).await;
    // Sessions outlive it, too.
    let mut back = clients[0].back_at_last(&two.pair.servers[1]).await;
    two.pair.one().to("a").emit("n", 1);
    assert_eq!(back.numbers(1).await, [1]);
    two.ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_logged_events_wait_is_seen_and_that_it_is_over() {
    let two = two().await;
    let (freeze, thaw) = (async || two.postgres.freeze(), async || two.postgres.thaw());
    recovery::a_silent_log_is_seen(&two.pair, &two.nodes, freeze, thaw).await;
    // As a migration does it.
    let migration = client(&two.postgres.url()).await;
    let lock = async || {
        let lock = "BEGIN; LOCK antiphon_entries IN ACCESS EXCLUSIVE MODE";
        migration.batch_execute(lock).await.unwrap();
    };
    let unlock = async || migration.batch_execute("ROLLBACK").await.unwrap();
    recovery::a_silent_log_is_seen(&two.pair, &two.nodes, lock, unlock).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_log_that_is_gone_clients_begin_anew() {
    let two = two().await;
    let mut clients = one_of_each(&two.pair).await;
    two.pair.one().to("a").emit("n", 1);
    for client in &mut clients {
        assert_eq!(client.numbers(1).await, [1]);
    }
    let away = clients[0].session.clone();
    two.postgres.sql(
        "TRUNCATE antiphon_logs, antiphon_entries, antiphon_senders, antiphon_sessions, \
         antiphon_events",
    );
    two.postgres.cut();
    for node in &two.nodes {
        down(node).await;
    }
    two.ready().await;
    two.pair.two().to("a").emit("n", 3);
    for client in &mut clients {
        assert_eq!(client.numbers(1).await, [3]);
    }
    // What was before can't be recovered, and nobody pretends that.
    let back = away.back(&two.pair.servers[1]).await;
    assert_ne!(back.sid, away.sid);
    clients[1].back_at_last(&two.pair.servers[0]).await;
}

/// Events of transactions are logged like those of servers: once, in the order of their ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_transactions_are_logged_once() {
    let two = two().await;
    let mut clients = one_of_each(&two.pair).await;
    let mut first = client(&two.postgres.url()).await;
    let mut second = client(&two.postgres.url()).await;
    let emit = |number: u32| format!("SELECT antiphon_emit('/', '{{a}}', 'n', '[{number}]')");
    // The first takes its ids before the second, and commits after it.
    let long = first.transaction().await.unwrap();
    long.batch_execute(&emit(2)).await.unwrap();
    let short = second.transaction().await.unwrap();
    short.batch_execute(&emit(1)).await.unwrap();
    let outbox = two.nodes[0].outbox();
    outbox.of("/").to("a").emit("n", &3).unwrap();
    outbox.publish(&long).await.unwrap();
    short.commit().await.unwrap();
    for client in &mut clients {
        assert_eq!(client.numbers(1).await, [1]);
    }
    let away = clients[0].session.clone();
    long.commit().await.unwrap();
    assert_eq!(clients[1].numbers(2).await, [2, 3]);
    let mut back = away.back_at_last(&two.pair.servers[1]).await;
    assert_eq!(back.numbers(2).await, [2, 3]);
    two.pair.one().to("a").emit("n", 4);
    assert_eq!(back.numbers(1).await, [4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_above_their_number_are_deleted() {
    let bounded = || {
        let recovery = antiphon::Recovery::new().max_events(50);
        antiphon::Server::builder().recovery(recovery)
    };
    let often = |builder: antiphon_postgres::PostgresBuilder| {
        builder.keep(Duration::from_millis(300), 100_000)
    };
    let two = Two::both(often, bounded).await;
    for number in 0..3_000 {
        two.pair.one().emit("n", number);
    }
    let entries = || -> usize {
        let entries = two.postgres.sql("SELECT count(*) FROM antiphon_entries");
        entries.parse().unwrap()
    };
    let written = || {
        let last = two
            .postgres
            .sql("SELECT max(last - base) FROM antiphon_logs");
        last == "3000"
    };
    antiphon_test_cluster::support::until("all", written).await;
    antiphon_test_cluster::support::until("the sweep", || entries() < 1_200).await;
}
