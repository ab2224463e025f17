//! What several servers must do together, over a NATS server.

#![allow(clippy::unwrap_used)]

use antiphon_nats::Nats;
use antiphon_test_cluster::{Pair, support::until, test_features};
use antiphon_test_nats::NatsServer;

async fn pair() -> Pair {
    let server = NatsServer::start();
    let mut adapters = Vec::new();
    for _ in 0..2 {
        adapters.push(Nats::connect(&server.url()).await.unwrap());
    }
    for node in &adapters {
        until("both servers", || node.servers().len() == 2).await;
    }
    let adapters: [Nats; 2] = adapters.try_into().unwrap();
    let settled = (adapters.clone(), server);
    Pair::new(adapters, move || {
        // The NATS server lives as long as the pair.
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
