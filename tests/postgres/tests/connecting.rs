//! How the first connection goes: what is wrong is an error that says what to do.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;

use antiphon_cluster::Health;
use antiphon_postgres::{Error, Postgres};
use antiphon_test_cluster::{
    faults::servers_that_wait_for_nothing_begin_alone_and_find_the_broker_when_it_comes,
    support::within,
};
use antiphon_test_postgres::{PostgresServer, free_port};
use support::{Two, client, ready};

async fn error(url: &str) -> Error {
    let connects = within("an error", Postgres::connect(url));
    connects.await.unwrap_err()
}

/// What listens here greets everybody with this, or says nothing.
fn listens(greeting: &'static [u8]) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(greeting);
            held.push(stream);
        }
    });
    format!("postgres://user:secret@{address}/x")
}

#[tokio::test]
async fn a_wrong_url_or_name_is_an_error_also_for_those_that_wait() {
    let wrong = Postgres::builder("http://127.0.0.1").wait().connect().await;
    assert!(matches!(wrong, Err(Error::Url { .. })), "{wrong:?}");
    let builder = Postgres::builder("postgres://127.0.0.1").wait();
    let wrong = builder.clone().prefix("no-name").connect().await;
    assert!(matches!(wrong, Err(Error::Name { .. })), "{wrong:?}");
    let wrong = builder.attachments("no-name").connect_node().await;
    assert!(matches!(wrong, Err(Error::Name { .. })), "{wrong:?}");
}

#[tokio::test]
async fn a_wrong_login_or_database_says_so() {
    let postgres = PostgresServer::start();
    for login in ["", "postgres@", "postgres:wrong@", "nobody:secret@"] {
        let error = error(&postgres.url_of(login, "postgres")).await;
        assert!(matches!(error, Error::Login { .. }), "{login}: {error:?}");
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
    let error = error(&postgres.url_of("postgres:secret@", "none")).await;
    assert!(matches!(error, Error::NoDatabase { .. }), "{error:?}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn a_postgres_that_is_away_is_an_error() {
    let error = error(&format!("postgres://127.0.0.1:{}", free_port())).await;
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let error = self::error("postgres://no-such-host.invalid").await;
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn of_several_servers_one_that_can_be_written_to_is_taken() {
    let postgres = PostgresServer::start();
    let (away, there) = (free_port(), postgres.port());
    let url = format!("postgres://postgres:secret@127.0.0.1:{away},127.0.0.1:{there}/postgres");
    ready(&Postgres::connect(&url).await.unwrap()).await;
}

#[tokio::test]
async fn what_doesnt_answer_or_is_no_postgres_is_an_error_in_time() {
    for greeting in [&b""[..], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let error = error(&listens(greeting)).await;
        assert!(
            matches!(error, Error::Silent { seconds: 5, .. }),
            "{error:?}"
        );
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_postgres_with_too_many_connections_says_so() {
    let postgres = PostgresServer::with(&["max_connections=4", "superuser_reserved_connections=0"]);
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(client(&postgres.url()).await);
    }
    let error = error(&postgres.url()).await;
    assert!(matches!(error, Error::Full { .. }), "{error:?}");
}

#[tokio::test]
async fn a_postgres_that_nothing_can_be_written_to_says_so() {
    let postgres = PostgresServer::start();
    postgres.sql("CREATE ROLE reader SUPERUSER LOGIN PASSWORD 'secret'");
    postgres.sql("ALTER ROLE reader SET default_transaction_read_only = on");
    let error = error(&postgres.url_of("reader:secret@", "postgres")).await;
    assert!(matches!(error, Error::Standby { .. }), "{error:?}");
}

#[tokio::test]
async fn a_user_who_may_not_make_the_tables_learns_what_is_to_be_said_and_that_is_enough() {
    let postgres = PostgresServer::start();
    postgres
        .sql("CREATE ROLE able LOGIN PASSWORD 'secret'; CREATE ROLE mute LOGIN PASSWORD 'secret'");
    let able = postgres.url_of("able:secret@", "postgres");
    let Error::NotMade { sql, .. } = error(&able).await else {
        panic!("it was made");
    };
    let off = Postgres::builder(&able).create(false).connect().await;
    assert!(
        matches!(&off, Err(Error::NotSetUp { sql: same, .. }) if *same == sql),
        "{off:?}"
    );
    postgres.sql(&sql);
    ready(
        &Postgres::builder(&able)
            .create(false)
            .connect()
            .await
            .unwrap(),
    )
    .await;
    ready(&Postgres::connect(&able).await.unwrap()).await;
    // Another user lacks the rights.
    let mute = postgres.url_of("mute:secret@", "postgres");
    let Error::Forbidden { answer, sql, .. } = error(&mute).await else {
        panic!("it was allowed");
    };
    assert!(answer.contains("INSERT on antiphon_events"), "{answer}");
    postgres.sql(&sql);
    ready(&Postgres::connect(&mute).await.unwrap()).await;
    // The same for the wire of Node.
    let Err(Error::NotMade { sql, .. }) = Postgres::builder(&able).connect_node().await else {
        panic!("it was made");
    };
    postgres.sql(&sql);
    Postgres::builder(&able).connect_node().await.unwrap();
}

/// What it can't hold isn't lost later, one by one.
#[tokio::test]
async fn a_table_of_attachments_that_is_another_one_is_an_error_that_says_what_to_do() {
    let postgres = PostgresServer::start();
    let client = client(&postgres.url()).await;
    let id = "id bigserial UNIQUE";
    let created = "created_at timestamptz DEFAULT NOW()";
    let payload = "payload bytea";
    for (columns, part) in [
        ([id, created, "data bytea"].join(", "), "payload"),
        ([id, created, "payload text"].join(", "), "text"),
        ([id, payload].join(", "), "created_at"),
        (["id text", created, payload].join(", "), "text"),
        (["id bigint", created, payload].join(", "), "no default"),
        (
            [id, created, payload, "shop text NOT NULL"].join(", "),
            "shop",
        ),
    ] {
        let make = format!("DROP TABLE IF EXISTS other; CREATE TABLE other ({columns})");
        client.batch_execute(&make).await.unwrap();
        let builder = Postgres::builder(&postgres.url()).attachments("other");
        let refused = within("an error", builder.connect_node()).await;
        let error = refused.expect_err(&columns);
        let Error::OtherTable { problem, sql, .. } = &error else {
            panic!("{columns}: {error:?}");
        };
        assert!(problem.contains(part), "{columns}: {problem}");
        // What it says to do is enough.
        let mend = format!("DROP TABLE other; {sql}");
        client.batch_execute(&mend).await.unwrap();
        let builder = Postgres::builder(&postgres.url()).attachments("other");
        builder.connect_node().await.unwrap();
    }
    // More than is needed is no harm.
    let more = [
        id,
        created,
        payload,
        "shop text",
        "at int NOT NULL DEFAULT 1",
    ]
    .join(", ");
    let make = format!("DROP TABLE other; CREATE TABLE other ({more})");
    client.batch_execute(&make).await.unwrap();
    let builder = Postgres::builder(&postgres.url()).attachments("other");
    builder.connect_node().await.unwrap();
}

#[tokio::test]
async fn functions_of_another_version_are_replaced() {
    let postgres = PostgresServer::start();
    ready(&Postgres::connect(&postgres.url()).await.unwrap()).await;
    let comment = "COMMENT ON FUNCTION antiphon_emit IS 'antiphon 0'";
    postgres.sql(comment);
    let off = Postgres::builder(&postgres.url()).create(false);
    let off = off.connect().await;
    assert!(matches!(off, Err(Error::NotSetUp { .. })), "{off:?}");
    ready(&Postgres::connect(&postgres.url()).await.unwrap()).await;
    let comment = postgres.sql("SELECT obj_description('antiphon_emit'::regproc, 'pg_proc')");
    assert_ne!(comment, "antiphon 0");
}

#[tokio::test]
async fn many_servers_that_start_at_once_make_one_set_of_tables() {
    let postgres = PostgresServer::start();
    let url = postgres.url();
    let connects = (0..8).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { Postgres::connect(&url).await.unwrap() })
    });
    for connects in connects.collect::<Vec<_>>() {
        let node = connects.await.unwrap();
        ready(&node).await;
    }
}

#[tokio::test]
async fn servers_that_dont_wait_for_their_postgres_begin_alone_and_find_it_when_it_comes() {
    let mut postgres = PostgresServer::start();
    postgres.kill();
    let builder = Postgres::builder(&postgres.url()).wait();
    let [one, two] = [builder.clone().connect(), builder.connect()];
    let nodes = [one.await.unwrap(), two.await.unwrap()].map(|node| (*node).clone());
    servers_that_wait_for_nothing_begin_alone_and_find_the_broker_when_it_comes(nodes, || {
        postgres.restart();
    })
    .await;
}

#[tokio::test]
async fn clusters_with_two_prefixes_dont_hear_each_other() {
    let two = Two::new().await;
    let other = Postgres::builder(&two.postgres.url()).prefix("shop");
    let other = other.connect().await.unwrap();
    within("its start", other.started()).await;
    assert_eq!(other.health(), Health::Ready);
    assert_eq!(other.servers().len(), 1);
    assert_eq!(two.nodes[0].servers().len(), 2);
    // Each has its own function.
    two.postgres.sql("SELECT shop_emit('/', '{}', 'n', '[1]')");
}
