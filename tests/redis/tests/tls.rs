//! A Redis with TLS, whose certificate must be trusted.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used)]

mod support;

use antiphon_redis::{Error, Redis};
use antiphon_test_cluster::tls::{Certificate, trusts};
use antiphon_test_redis::{RedisServer, free_port};
use support::ready;

#[tokio::test]
async fn a_certificate_that_is_trusted_is_needed_and_enough() {
    if let Some(url) = trusts() {
        return ready(&Redis::connect(&url).await.unwrap()).await;
    }
    let own = Certificate::new("redis");
    let port = free_port().to_string();
    let options = [
        ["--tls-port", &port],
        ["--tls-cert-file", &own.certificate],
        ["--tls-key-file", &own.key],
        ["--tls-ca-cert-file", &own.certificate],
        ["--tls-auth-clients", "no"],
    ];
    let _redis = RedisServer::with(&options.concat());
    let url = format!("rediss://127.0.0.1:{port}");
    let error = Redis::connect(&url).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
    own.trusted("a_certificate_that_is_trusted_is_needed_and_enough", &url);
}
