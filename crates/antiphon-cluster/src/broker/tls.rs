//! TLS for brokers that make their connections themselves.
//!
//! The authorities that are trusted are those of the operating system, or of the variable
//! `SSL_CERT_FILE`. They are read once.
//! The cryptography is what the program has chosen for `rustls`, or `ring`.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::ServerName,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

pub use tokio_rustls::client::TlsStream;

/// Begins TLS on a connection to this host, whose certificate has to be one of it.
///
/// # Errors
/// If the other side isn't trusted, speaks no TLS, or hangs up; and if the system trusts nobody.
pub async fn begin<S>(host: &str, stream: S) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(config()?).connect(name, stream).await
}

fn config() -> io::Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let mut trusted = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // Some systems have certificates that `rustls` doesn't take.
    let (added, _) = trusted.add_parsable_certificates(found.certs);
    if added == 0 {
        let problems: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        let problem = "this system trusts no certificates, by which a server could be known";
        return Err(io::Error::other(format!(
            "{problem} {}",
            problems.join("; ")
        )));
    }
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(ring::default_provider()));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}
