//! Events that are emitted by a transaction of the user's own: if and when it commits.

#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::BTreeSet, time::Duration};

use antiphon::Bytes;
use antiphon_postgres::tokio_postgres::{Client, GenericClient};
use antiphon_test_cluster::{
    collect, joined, number,
    support::{Received, until},
};
use support::{Two, client, down};

/// Puts an event with a number into a transaction.
async fn put(two: &Two, transaction: &impl GenericClient, number: u32) {
    let outbox = two.nodes[0].outbox();
    outbox.of("/").emit("n", &number).unwrap();
    outbox.publish(transaction).await.unwrap();
}

async fn say(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap();
}

#[tokio::test]
async fn an_event_comes_when_its_transaction_commits_and_never_if_it_doesnt() {
    let two = Two::new().await;
    let ([mut here, mut there], _) = two.pair.clients(["a", "b"]).await;
    let mut client = client(&two.postgres.url()).await;
    let transaction = client.transaction().await.unwrap();
    put(&two, &transaction, 1).await;
    two.pair.two().emit("n", 2);
    for client in [&mut here, &mut there] {
        assert_eq!(number(client).await, 2);
    }
    transaction.commit().await.unwrap();
    for client in [&mut here, &mut there] {
        assert_eq!(number(client).await, 1);
    }
    let transaction = client.transaction().await.unwrap();
    put(&two, &transaction, 3).await;
    transaction.rollback().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    put(&two, &transaction, 4).await;
    transaction.commit().await.unwrap();
    for client in [&mut here, &mut there] {
        assert_eq!(number(client).await, 4);
    }
}

#[tokio::test]
async fn what_a_savepoint_took_back_doesnt_come_and_the_rest_does() {
    let two = Two::new().await;
    let ([_here, mut there], _) = two.pair.clients(["a", "b"]).await;
    let client = client(&two.postgres.url()).await;
    say(&client, "BEGIN").await;
    put(&two, &client, 1).await;
    say(&client, "SAVEPOINT s").await;
    put(&two, &client, 2).await;
    say(&client, "ROLLBACK TO s").await;
    put(&two, &client, 3).await;
    say(&client, "COMMIT").await;
    assert_eq!(number(&mut there).await, 1);
    assert_eq!(number(&mut there).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_end_in_any_order_lose_nothing_double_nothing_and_hold_nobody_up() {
    let two = Two::new().await;
    let ([here, there], _) = two.pair.clients(["a", "b"]).await;
    let seen = [collect(here), collect(there)];
    // One is open all the time, and has the lowest id of all.
    let mut first = client(&two.postgres.url()).await;
    let long = first.transaction().await.unwrap();
    put(&two, &long, 0).await;
    let mut tasks = Vec::new();
    for task in 0..8_u32 {
        let mut client = client(&two.postgres.url()).await;
        let node = two.nodes[0].clone();
        tasks.push(tokio::spawn(async move {
            let mut random = antiphon_test_cluster::support::random(u64::from(task));
            let mut committed = Vec::new();
            for step in 0..60 {
                let transaction = client.transaction().await.unwrap();
                for part in 0..2 {
                    let number = 1 + task * 1_000 + step * 2 + part;
                    let outbox = node.outbox();
                    outbox.of("/").emit("n", &number).unwrap();
                    outbox.publish(&transaction).await.unwrap();
                    let pause = Duration::from_micros(random(3_000) as u64);
                    tokio::time::sleep(pause).await;
                }
                match random(4) {
                    0 => transaction.rollback().await.unwrap(),
                    _ => {
                        transaction.commit().await.unwrap();
                        committed.push(1 + task * 1_000 + step * 2);
                        committed.push(1 + task * 1_000 + step * 2 + 1);
                    }
                }
            }
            committed
        }));
    }
    let mut committed = BTreeSet::new();
    for task in tasks {
        committed.extend(task.await.unwrap());
    }
    for seen in &seen {
        until("all", || seen.lock().unwrap().len() >= committed.len()).await;
    }
    long.commit().await.unwrap();
    for seen in seen {
        until("the first", || seen.lock().unwrap().last() == Some(&0)).await;
        let seen = seen.lock().unwrap().clone();
        let (_, others) = seen.split_last().unwrap();
        assert_eq!(others.len(), committed.len());
        assert_eq!(others.iter().copied().collect::<BTreeSet<_>>(), committed);
        // Each task's come in its order.
        for task in 0..8 {
            let of = others
                .iter()
                .filter(|number| (**number - 1) / 1_000 == task);
            assert!(of.is_sorted());
        }
    }
}

#[tokio::test]
async fn an_outbox_does_all_that_an_emitter_does() {
    let two = Two::new().await;
    let ([mut here, mut there], ids) = two.pair.clients(["a", "b"]).await;
    let client = client(&two.postgres.url()).await;
    let outbox = two.nodes[0].outbox();
    outbox.of("/").to(&*ids[1]).join("c").unwrap();
    let args = (1, Bytes::from_static(b"x"));
    outbox.of("/").to("c").emit("binary", &args).unwrap();
    outbox.of("/").except("c").emit("n", &7).unwrap();
    outbox.of("/").to("c").disconnect().unwrap();
    outbox.publish(&client).await.unwrap();
    there.expect_prefix(r#"451-["binary",1"#).await;
    assert_eq!(there.next().await, Received::Binary(b"x".to_vec()));
    there.expect("41").await;
    assert_eq!(number(&mut here).await, 7);
}

#[tokio::test]
async fn any_client_emits_in_sql_also_by_a_trigger() {
    let two = Two::new().await;
    let ([mut here, mut there], ids) = two.pair.clients(["a", "ä, r"]).await;
    let client = client(&two.postgres.url()).await;
    let emit = "SELECT antiphon_emit('/', ARRAY['a', 'ä, r'], 'ev\"ent ü', \
                '[1, {\"a\": [true, null]}, \"ü\"]')";
    say(&client, emit).await;
    for client in [&mut here, &mut there] {
        client
            .expect(r#"42["ev\"ent ü",1,{"a": [true, null]},"ü"]"#)
            .await;
    }
    let long = "x".repeat(100_000);
    say(
        &client,
        &format!("SELECT antiphon_emit('/', '{{}}', 'e', '[\"{long}\"]')"),
    )
    .await;
    for client in [&mut here, &mut there] {
        client.expect(&format!("42[\"e\",\"{long}\"]")).await;
    }
    let except = format!(
        "SELECT antiphon_emit('/', '{{}}', 'n', '[1]', ARRAY['{}'])",
        ids[0]
    );
    say(&client, &except).await;
    assert_eq!(number(&mut there).await, 1);

    say(
        &client,
        "CREATE TABLE orders (id int PRIMARY KEY);
         CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           PERFORM antiphon_emit('/', '{}', 'n', jsonb_build_array(NEW.id));
           RETURN NULL;
         END $$;
         CREATE TRIGGER told AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION told()",
    )
    .await;
    say(&client, "BEGIN; INSERT INTO orders VALUES (2); ROLLBACK").await;
    say(&client, "INSERT INTO orders VALUES (3), (4)").await;
    for client in [&mut here, &mut there] {
        assert_eq!(number(client).await, 3);
        assert_eq!(number(client).await, 4);
    }
    assert_eq!(two.nodes[1].stats().malformed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_while_servers_are_away_comes_once_they_are_back() {
    let two = Two::new().await;
    let ([here, there], _) = two.pair.clients(["a", "b"]).await;
    let seen = [collect(here), collect(there)];
    let client = client(&two.postgres.url()).await;
    for number in 0..40 {
        // Both connections die while one event after the other is committed.
        if number % 10 == 5 {
            two.postgres.cut();
        }
        put(&two, &client, number).await;
    }
    for seen in seen {
        until("the last", || seen.lock().unwrap().last() == Some(&39)).await;
        assert_eq!(*seen.lock().unwrap(), (0..40).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_before_a_crash_comes_after_it_and_once() {
    let mut two = Two::new().await;
    let ([here, there], _) = two.pair.clients(["a", "b"]).await;
    let seen = [collect(here), collect(there)];
    for round in 0..3 {
        let client = client(&two.postgres.url()).await;
        // Numbers of transactions that leave nothing behind are given again after a crash.
        for _ in 0..20 {
            say(&client, "BEGIN; SELECT pg_current_xact_id(); ROLLBACK").await;
        }
        for step in 0..5 {
            put(&two, &client, round * 10 + step).await;
        }
        // Not seen by anyone: they are notified, but can't read.
        two.postgres.cut();
        for step in 5..10 {
            put(&two, &client, round * 10 + step).await;
        }
        two.postgres.kill();
        for node in &two.nodes {
            down(node).await;
        }
        two.postgres.restart();
        two.ready().await;
    }
    for seen in seen {
        until("the last", || seen.lock().unwrap().last() == Some(&29)).await;
        assert_eq!(*seen.lock().unwrap(), (0..30).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_deleted_when_they_are_old_and_those_of_a_long_transaction_are_read_before() {
    let keep = |builder: antiphon_postgres::PostgresBuilder| {
        // Longer than a busy machine keeps a reader from reading.
        builder.keep(Duration::from_secs(3), 100_000)
    };
    let two = Two::built(keep).await;
    let ([_here, mut there], _) = two.pair.clients(["a", "b"]).await;
    let mut client = client(&two.postgres.url()).await;
    let long = client.transaction().await.unwrap();
    put(&two, &long, 1).await;
    for step in 10..2_010 {
        two.pair.one().emit("n", step);
        assert_eq!(number(&mut there).await, step);
    }
    let rows = || -> usize {
        let rows = two.postgres.sql("SELECT count(*) FROM antiphon_events");
        rows.parse().unwrap()
    };
    // Those of the last moments alone: heartbeats go on.
    until("the sweep", || rows() < 100).await;
    long.commit().await.unwrap();
    assert_eq!(number(&mut there).await, 1);
    assert_eq!(two.nodes[1].stats().dropped, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_above_their_number_are_deleted_and_a_server_that_missed_them_knows() {
    let few =
        |builder: antiphon_postgres::PostgresBuilder| builder.keep(Duration::from_secs(3_600), 100);
    let two = Two::built(few).await;
    let before = two.nodes[1].stats().dropped;
    // It can't connect again for a while.
    two.postgres.sql("ALTER ROLE second NOLOGIN");
    two.postgres
        .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'second'");
    down(&two.nodes[1]).await;
    let rows = || -> usize {
        let rows = two.postgres.sql("SELECT count(*) FROM antiphon_events");
        rows.parse().unwrap()
    };
    for _ in 0..2 {
        for number in 0..300 {
            two.pair.one().emit("n", number);
        }
        tokio::time::sleep(Duration::from_millis(2_500)).await;
    }
    until("the sweep", || rows() < 310).await;
    two.postgres.sql("ALTER ROLE second LOGIN");
    until("it is told", || two.nodes[1].stats().dropped > before).await;
    two.ready().await;
    let (mut there, _) = joined(&two.pair.servers[1], "c").await;
    two.pair.one().emit("n", 1_000);
    assert_eq!(number(&mut there).await, 1_000);
}
