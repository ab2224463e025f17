//! A Postgres with TLS, whose certificate must be trusted.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used)]

use std::fs;

use antiphon_postgres::{Error, Postgres};
use antiphon_test_cluster::{
    ready,
    tls::{Certificate, trusts},
};
use antiphon_test_postgres::{PostgresServer, hand_over};

#[tokio::test]
async fn a_certificate_that_is_trusted_is_needed_and_enough() {
    if let Some(url) = trusts() {
        return ready(&Postgres::connect(&url).await.unwrap()).await;
    }
    let own = Certificate::new("postgres");
    // Nobody gets in without.
    let rule = format!("{}.rule", own.certificate);
    fs::write(&rule, "hostssl all all 127.0.0.1/32 scram-sha-256\n").unwrap();
    for file in [&own.key, &rule] {
        hand_over(file);
    }
    let postgres = PostgresServer::with(&[
        "ssl=on",
        &format!("ssl_cert_file={}", own.certificate),
        &format!("ssl_key_file={}", own.key),
        &format!("hba_file={rule}"),
    ]);
    let error = Postgres::connect(&postgres.url()).await.unwrap_err();
    assert!(matches!(error, Error::NoTls { .. }), "{error:?}");
    assert!(error.to_string().contains("sslmode=require"), "{error}");
    let url = format!("{}?sslmode=require", postgres.url());
    let error = Postgres::connect(&url).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
    own.trusted("a_certificate_that_is_trusted_is_needed_and_enough", &url);
}
