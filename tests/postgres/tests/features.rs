//! What several servers must do together, over a Postgres.

#![allow(clippy::unwrap_used)]

use antiphon_postgres::Postgres;
use antiphon_test_cluster::{Pair, features, support::until, test_features};
use antiphon_test_postgres::PostgresServer;

async fn pair() -> Pair {
    on(PostgresServer::start()).await
}

async fn on(server: PostgresServer) -> Pair {
    let mut adapters = Vec::new();
    for _ in 0..2 {
        adapters.push(Postgres::connect(&server.url()).await.unwrap());
    }
    for node in &adapters {
        until("both servers", || node.servers().len() == 2).await;
    }
    let adapters: [Postgres; 2] = adapters.try_into().unwrap();
    let settled = (adapters.clone(), server);
    Pair::new(adapters, move || {
        // The Postgres lives as long as the pair.
        let (adapters, _) = &settled;
        let adapters = adapters.clone();
        Box::pin(async move {
            for node in adapters {
                node.subscribed().await;
            }
        })
    })
}

test_features!(pair);

#[tokio::test]
async fn values_of_other_servers_sockets_are_known() {
    let pair = pair().await;
    features::values_of_other_servers_sockets_are_known(pair).await;
}

#[tokio::test]
async fn a_program_that_is_no_server_emits() {
    let server = PostgresServer::start();
    let emitter = Postgres::builder(&server.url()).emitter().await.unwrap();
    features::a_program_that_is_no_server_emits(on(server).await, emitter).await;
}
