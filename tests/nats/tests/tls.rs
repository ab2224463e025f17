//! A NATS server with TLS, whose certificate must be trusted.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used)]

mod support;

use antiphon_nats::{Error, Nats};
use antiphon_test_cluster::tls::{Certificate, trusts};
use antiphon_test_nats::NatsServer;
use support::Two;

#[tokio::test]
async fn a_certificate_that_is_trusted_is_needed_and_enough() {
    let own = Certificate::new("nats");
    let nats = |own: &Certificate| {
        let (certificate, key) = (&own.certificate, &own.key);
        let tls = format!("tls {{ cert_file: \"{certificate}\", key_file: \"{key}\" }}");
        NatsServer::with(&tls)
    };
    let nats = nats(&own);
    if let Some(url) = trusts() {
        let two = Two::built(nats, &url, antiphon::Server::builder).await;
        let (mut clients, _) = two.pair.clients(["a", "b"]).await;
        return two.pair.comes_to_both(&mut clients).await;
    }
    // The server wants it, or the URL does.
    for url in [nats.url(), nats.url().replace("nats://", "tls://")] {
        let error = Nats::connect(&url).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains("certificate"), "{error}");
        own.trusted("a_certificate_that_is_trusted_is_needed_and_enough", &url);
    }
}

/// A login never goes out in the clear if the URL says so.
#[tokio::test]
async fn a_server_without_tls_is_not_logged_in_at_by_a_url_with_it() {
    let nats = NatsServer::start();
    let url = nats.url_of("user:secret@").replace("nats://", "tls://");
    let error = Nats::connect(&url).await.unwrap_err();
    assert!(
        matches!(error, Error::Unreachable { .. } | Error::Silent { .. }),
        "{error:?}"
    );
    assert!(!error.to_string().contains("secret"), "{error}");
}
