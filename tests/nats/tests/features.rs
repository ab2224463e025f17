//! What several servers must do together, over a NATS server.

#![allow(clippy::unwrap_used)]

use antiphon::{Server, ServerBuilder, adapter::BoxFuture};
use antiphon_nats::Nats;
use antiphon_test_cluster::{Pair, recovery, support::until, test_features, test_recovery};
use antiphon_test_nats::NatsServer;

async fn pair() -> Pair {
    built(NatsServer::start(), Server::builder).await
}

async fn built(server: NatsServer, builder: impl Fn() -> ServerBuilder) -> Pair {
    let mut adapters = Vec::new();
    for _ in 0..2 {
        adapters.push(Nats::connect(&server.url()).await.unwrap());
    }
    for node in &adapters {
        until("both servers", || node.servers().len() == 2).await;
    }
    let adapters: [Nats; 2] = adapters.try_into().unwrap();
    let settled = (adapters.clone(), server);
    let settle = move || -> BoxFuture<()> {
        // The NATS server lives as long as the pair.
        let (adapters, _) = &settled;
        let adapters = adapters.clone();
        Box::pin(async move {
            for node in adapters {
                node.subscribed().await;
            }
        })
    };
    Pair::built(adapters, settle, builder)
}

test_features!(pair);

mod coming_back {
    //! Clients that come back to another server: the log that both share is in JetStream.

    use super::*;

    async fn pair() -> Pair {
        built(NatsServer::jetstream(), recovery::builder).await
    }

    test_recovery!(pair);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_emitter_is_logged_once() {
        let server = NatsServer::jetstream();
        let emitter = Nats::builder(&server.url()).emitter().await.unwrap();
        let pair = built(server, recovery::builder).await;
        recovery::an_emitter_is_logged_once(pair, emitter).await;
    }
}
