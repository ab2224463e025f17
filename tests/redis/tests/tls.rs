//! A Redis with TLS, whose certificate must be trusted.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use antiphon_redis::{Error, Redis};
use antiphon_test_redis::{RedisServer, free_port};
use support::ready;

/// Set for the process of this test that trusts the certificate.
const URL: &str = "ANTIPHON_TEST_TLS_URL";

/// A certificate of its own for this machine, and its key.
fn certificate(folder: &Path) -> [String; 2] {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let config = "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = more\n\
        [name]\nCN = localhost\n\
        [more]\nsubjectAltName = IP:127.0.0.1\nbasicConstraints = CA:FALSE\n";
    fs::write(path("config"), config).unwrap();
    let status = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"])
        .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-config", &path("config")])
        .args(["-keyout", &path("key"), "-out", &path("certificate")])
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("openssl is needed").success());
    [path("certificate"), path("key")]
}

#[tokio::test]
async fn a_certificate_that_is_trusted_is_needed_and_enough() {
    if let Ok(url) = env::var(URL) {
        return ready(&Redis::connect(&url).await.unwrap()).await;
    }
    let folder = env::temp_dir().join(format!("antiphon-tls-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let [certificate, key] = certificate(&folder);
    let port = free_port().to_string();
    let options = [
        ["--tls-port", &port],
        ["--tls-cert-file", &certificate],
        ["--tls-key-file", &key],
        ["--tls-ca-cert-file", &certificate],
        ["--tls-auth-clients", "no"],
    ];
    let _redis = RedisServer::with(&options.concat());
    let url = format!("rediss://127.0.0.1:{port}");
    let error = Redis::connect(&url).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
    // What is trusted is asked of the system, here by a variable that a process is started with.
    let test = "a_certificate_that_is_trusted_is_needed_and_enough";
    let trusting = Command::new(env::current_exe().unwrap())
        .args(["--exact", test])
        .env("SSL_CERT_FILE", &certificate)
        .env(URL, &url)
        .output();
    let trusting = trusting.unwrap();
    fs::remove_dir_all(folder).unwrap();
    assert!(trusting.status.success(), "{trusting:?}");
}
