//! The certificate of a server that speaks TLS, and what a client has to know of it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::ring, pki_types::ServerName};

use crate::Result;

/// A certificate for `localhost` and its key, in files that go with it.
pub struct Identity {
    folder: PathBuf,
    client: Arc<ClientConfig>,
}

impl Identity {
    pub fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("antiphon-bench-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        fs::write(folder.join("chain.pem"), made.cert.pem())?;
        fs::write(folder.join("key.pem"), made.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone())?;
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            folder,
            client: Arc::new(client),
        })
    }

    /// The files that a server is told of: its chain, and the key.
    pub fn files(&self) -> [PathBuf; 2] {
        let at = |name: &str| Path::join(&self.folder, name);
        [at("chain.pem"), at("key.pem")]
    }

    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        // What is left is in the system's folder for such.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A client's end of a new connection.
pub fn connection(config: &Arc<ClientConfig>) -> Result<Box<ClientConnection>> {
    let name = ServerName::try_from("localhost")?;
    Ok(Box::new(ClientConnection::new(Arc::clone(config), name)?))
}
