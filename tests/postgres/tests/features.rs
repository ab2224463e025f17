//! What several servers must do together, over a Postgres.

#![allow(clippy::unwrap_used)]

use antiphon_postgres::{NodePostgres, Postgres};
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

/// The same between servers that speak as Node's adapter does.
mod node {
    use super::*;

    async fn pair() -> Pair {
        on(PostgresServer::start()).await
    }

    async fn on(server: PostgresServer) -> Pair {
        let builder = Postgres::builder(&server.url());
        let one = builder.clone().connect_node().await.unwrap();
        let two = builder.connect_node().await.unwrap();
        let adapters: [NodePostgres; 2] = [one, two];
        let settled = (adapters.clone(), server);
        let pair = Pair::new(adapters, move || {
            let (adapters, _) = &settled;
            let adapters = adapters.clone();
            Box::pin(async move {
                for node in adapters {
                    node.subscribed().await;
                }
            })
        });
        for namespace in [pair.one(), pair.two()] {
            while namespace.server_count().await != Ok(2) {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
        pair
    }

    test_features! { pair;
        a_broadcast_reaches_the_sockets_of_both_servers
        attachments_and_arguments_as_they_came_travel
        a_socket_that_is_silent_is_counted_and_its_server_isnt_missing
        sockets_of_both_servers_are_found_moved_and_disconnected
        outgoing_listeners_hear_what_another_server_emits
        values_of_other_servers_sockets_are_known
    }

    #[tokio::test]
    async fn a_program_that_is_no_server_emits() {
        let server = PostgresServer::start();
        let builder = Postgres::builder(&server.url());
        let emitter = builder.node_emitter().await.unwrap();
        features::a_program_that_is_no_server_emits(on(server).await, emitter).await;
    }

    #[tokio::test]
    async fn events_that_are_alike_or_large_all_come_in_order() {
        let pair = pair().await;
        let ([here, there], _) = pair.clients(["a", "b"]).await;
        let seen = [here, there].map(antiphon_test_cluster::collect);
        let mut expected = Vec::new();
        for number in 0..300 {
            // Twice the same, and a row of the table in between.
            pair.one().emit("n", number).into_result().unwrap();
            pair.one().emit("n", number).into_result().unwrap();
            expected.extend([number, number]);
            if number % 10 == 0 {
                let large = pair.one().except("x".repeat(9_000)).emit("n", number);
                large.into_result().unwrap();
                expected.push(number);
            }
        }
        for seen in seen {
            until("the last", || seen.lock().unwrap().len() == expected.len()).await;
            assert_eq!(*seen.lock().unwrap(), expected);
        }
    }
}
