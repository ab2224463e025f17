//! What becomes of two servers when their Postgres, or the connection to it, fails.

#![allow(clippy::unwrap_used)]

mod support;

use antiphon_cluster::Health;
use antiphon_postgres::{Error, Postgres};
use antiphon_test_cluster::{
    collect,
    faults::{self, Broken},
    joined, number,
    support::until,
};
use antiphon_test_postgres::PostgresServer;
use support::{Two, client, down, down_for, ready};

/// As the tests of all brokers have it.
struct Server(PostgresServer);

impl Broken for Server {
    fn kill(&mut self) {
        self.0.kill();
    }

    fn restart(&mut self) {
        self.0.restart();
    }

    fn freeze(&self) {
        self.0.freeze();
    }

    fn thaw(&self) {
        self.0.thaw();
    }
}

async fn two() -> faults::Two<Server> {
    let two = Two::new().await;
    faults::Two {
        pair: two.pair,
        nodes: two.nodes.map(|node| (*node).clone()),
        broker: Server(two.postgres),
    }
}

antiphon_test_cluster::test_faults!(two);

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_terminated_under_load_double_nothing() {
    let two = Two::new().await;
    let ([mut here, there], _) = two.pair.clients(["a", "a"]).await;
    let seen = collect(there);
    let mut taken = Vec::new();
    for step in 0..600 {
        if step % 100 == 50 {
            two.postgres.cut();
        }
        if two.pair.one().emit("n", step).into_result().is_ok() {
            taken.push(step);
        }
        assert_eq!(number(&mut here).await, step);
    }
    two.ready().await;
    two.pair.one().emit("n", 600).into_result().unwrap();
    until("the last", || seen.lock().unwrap().last() == Some(&600)).await;
    let seen = seen.lock().unwrap();
    assert!(seen.is_sorted_by(|one, other| one < other), "{seen:?}");
    let lost = two.nodes[0].stats().lost as usize;
    // What the other server missed is known to be lost: its own connection was cut as well.
    assert!(seen.len() > taken.len().saturating_sub(lost), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_the_table_and_in_notifications_is_counted_and_left_out() {
    let two = Two::new().await;
    let ([_here, mut there], _) = two.pair.clients(["a", "b"]).await;
    two.postgres.sql(
        "INSERT INTO antiphon_events (topic, payload) VALUES \
         ('antiphon:control', 'garbage'), ('antiphon:namespace:/', '\\x02ffffff'), \
         ('\\xff00', ''), ('', ''), ('antiphon:namespace:/', ''); \
         NOTIFY antiphon_events, 'garbage'",
    );
    until("the count", || two.nodes[1].stats().malformed == 3).await;
    two.pair.one().to("b").emit("n", 1).into_result().unwrap();
    assert_eq!(number(&mut there).await, 1);
    assert_eq!(two.nodes[1].health(), Health::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_somebody_locks_is_told_and_unlocked_it_is_used() {
    let two = Two::new().await;
    let ([_here, mut there], _) = two.pair.clients(["a", "b"]).await;
    let mut client = client(&two.postgres.url()).await;
    let transaction = client.transaction().await.unwrap();
    let lock = "LOCK TABLE antiphon_events IN ACCESS EXCLUSIVE MODE";
    transaction.batch_execute(lock).await.unwrap();
    for node in &two.nodes {
        down_for(node, "holds a lock").await;
    }
    transaction.rollback().await.unwrap();
    two.ready().await;
    two.pair.one().to("b").emit("n", 1).into_result().unwrap();
    assert_eq!(number(&mut there).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_emptied_or_dropped_are_made_again() {
    let two = Two::new().await;
    let ([_here, mut there], _) = two.pair.clients(["a", "b"]).await;
    for (step, sql) in [
        "TRUNCATE antiphon_events",
        "TRUNCATE antiphon_state",
        "DROP TABLE antiphon_events, antiphon_state",
    ]
    .into_iter()
    .enumerate()
    {
        two.postgres.sql(sql);
        if step > 0 {
            down(&two.nodes[0]).await;
            down(&two.nodes[1]).await;
        }
        two.ready().await;
        two.pair
            .one()
            .to("b")
            .emit("n", step)
            .into_result()
            .unwrap();
        assert_eq!(number(&mut there).await as usize, step);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_taken_are_told_and_given_back_they_are_used() {
    let two = Two::new().await;
    two.postgres.sql("CREATE ROLE able LOGIN PASSWORD 'secret'");
    let url = two.postgres.url_of("able:secret@", "postgres");
    // The rights that the error names are enough.
    let Err(Error::Forbidden { sql, .. }) = Postgres::connect(&url).await else {
        panic!("it has no rights");
    };
    two.postgres.sql(&sql);
    let node = Postgres::connect(&url).await.unwrap();
    ready(&node).await;
    two.postgres
        .sql("REVOKE INSERT ON antiphon_events FROM able");
    let reason = down_for(&node, "GRANT").await;
    assert!(!reason.contains("secret"), "{reason}");
    two.postgres.sql("GRANT INSERT ON antiphon_events TO able");
    ready(&node).await;
}

/// Between servers that speak as Node's adapter does.
mod node {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn garbage_and_lost_connections_are_survived() {
        let postgres = PostgresServer::start();
        let builder = Postgres::builder(&postgres.url());
        let one = builder.clone().connect_node().await.unwrap();
        let two = builder.connect_node().await.unwrap();
        let [here, there] = [&one, &two].map(|node| {
            let io = antiphon::Server::builder().adapter(node.clone()).build();
            io.of("/").on("enter", async || ());
            io
        });
        let (mut client, _) = joined(&there, "b").await;
        for node in [&one, &two] {
            node.subscribed().await;
        }
        postgres.sql(
            "NOTIFY \"socket.io#/\", 'garbage'; NOTIFY \"socket.io#/\"; \
             NOTIFY \"socket.io#/\", '{\"uid\":\"x\",\"type\":3,\"attachmentId\":\"77\"}'; \
             INSERT INTO socket_io_attachments (id, payload) VALUES (78, 'garbage'); \
             NOTIFY \"socket.io#/\", '{\"uid\":\"x\",\"type\":3,\"attachmentId\":\"78\"}'",
        );
        until("the count", || two.stats().malformed == 3).await;
        assert_eq!(two.stats().dropped, 1);
        here.emit("n", 1).into_result().unwrap();
        assert_eq!(number(&mut client).await, 1);
        for _ in 0..3 {
            postgres.cut();
            for node in [&one, &two] {
                let mut health = node.watch_health();
                let ready = health.wait_for(|health| *health == Health::Ready);
                antiphon_test_cluster::support::within("its health", ready)
                    .await
                    .unwrap();
            }
        }
        while here.of("/").server_count().await != Ok(2) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        // A server that hasn't noticed yet that its connection is lost hears nothing, or says nothing.
        let emitting = here.clone();
        let emits = tokio::spawn(async move {
            loop {
                emitting.emit("n", 2);
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        });
        while number(&mut client).await != 2 {}
        emits.abort();
        // Postgres has no channel for it.
        let refused = here.of(&format!("/{}", "x".repeat(60))).emit("n", 1);
        let refused = refused.into_result().unwrap_err();
        assert!(refused.to_string().contains("63"), "{refused}");
    }
}
