//! The floor over TLS: what a bare tokio-rustls server costs that echoes.

use std::{io, net::SocketAddr, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::{Answers, OPENING};

/// Serves with a certificate and a key of these files.
#[tokio::main(flavor = "current_thread")]
pub async fn run(address: SocketAddr, chain: &str, key: &str) -> io::Result<()> {
    let acceptor = acceptor(chain, key).map_err(io::Error::other)?;
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // The load says what was lost by it.
            if let Err(error) = serve(stream, acceptor).await {
                eprintln!("a connection failed: {error}");
            }
        });
    }
}

fn acceptor(
    chain: &str,
    key: &str,
) -> Result<TlsAcceptor, Box<dyn std::error::Error + Send + Sync>> {
    let chain = CertificateDer::pem_file_iter(chain)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = acceptor.accept(stream).await?;
    let mut buffer = vec![0; 16 << 10];
    if stream.read(&mut buffer).await? == 0 {
        return Ok(());
    }
    stream.write_all(&OPENING.concat()).await?;
    stream.flush().await?;
    let (mut answers, mut kept) = (Answers::default(), 0);
    loop {
        let count = match stream.read(&mut buffer[kept..]).await {
            Ok(0) => return Ok(()),
            // It has gone without a word.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            count => count?,
        };
        let length = kept + count;
        kept = answers.take(&mut buffer[..length])?.len();
        buffer.copy_within(length - kept..length, 0);
        if !answers.own.is_empty() {
            stream.write_all(&answers.own).await?;
            stream.flush().await?;
            answers.own.clear();
        }
    }
}
