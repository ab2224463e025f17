//! Two servers at a Postgres.

// Not every test uses all of it.
#![allow(dead_code, unreachable_pub, unused_imports, clippy::unwrap_used)]

use antiphon::{Server, ServerBuilder};
use antiphon_cluster::Cluster;
use antiphon_postgres::{
    Postgres, PostgresBuilder,
    tokio_postgres::{self, Client, NoTls},
};
use antiphon_test_cluster::{Pair, faults};
pub use antiphon_test_cluster::{down, down_for, ready};
use antiphon_test_postgres::PostgresServer;

/// Two servers, the handles of their connections, and their Postgres.
pub struct Two {
    pub pair: Pair,
    pub nodes: [Postgres; 2],
    pub postgres: PostgresServer,
}

impl Two {
    pub async fn new() -> Self {
        Self::built(|builder| builder).await
    }

    /// With options. The second server has a user of its own.
    pub async fn built(options: impl Fn(PostgresBuilder) -> PostgresBuilder) -> Self {
        Self::both(options, Server::builder).await
    }

    /// The same with servers that are built so.
    pub async fn both(
        options: impl Fn(PostgresBuilder) -> PostgresBuilder,
        builder: impl Fn() -> ServerBuilder,
    ) -> Self {
        // `RUST_LOG=antiphon=debug` shows what servers say.
        let _ = tracing_subscriber::fmt()
            .with_test_writer()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .try_init();
        let postgres = PostgresServer::start();
        postgres.sql("CREATE ROLE second SUPERUSER LOGIN PASSWORD 'secret'");
        let urls = [
            postgres.url(),
            postgres.url_of("second:secret@", "postgres"),
        ];
        let [one, two] = urls.map(|url| options(Postgres::builder(&url)).connect());
        let nodes = [one.await.unwrap(), two.await.unwrap()];
        let cluster = |node: &Postgres| Cluster::clone(node);
        let two = faults::Two::built(postgres, nodes.clone(), cluster, builder).await;
        Self {
            pair: two.pair,
            nodes,
            postgres: two.broker,
        }
    }

    /// Both are well.
    pub async fn ready(&self) {
        for node in &self.nodes {
            ready(node).await;
        }
    }
}

/// A connection of a user's own.
pub async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
