//! TLS of our own listeners: certificates, and handshakes that can't hold up anything.
//!
//! A [`Tls`] is shared by the listeners that it was given to. It owns the configuration that new
//! connections get, which can be replaced while the others go on, and knows the handshakes that are
//! under way: beyond a bound the oldest of them is given up, since those of honest clients are over
//! soon. Each runs in the task of its connection, with a deadline.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    io,
    path::PathBuf,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
};
use tokio_rustls::TlsAcceptor;

use crate::engine::Wire;

/// How long a handshake may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Handshakes that are under way at a time.
const HANDSHAKES: usize = 4_096;

/// How long a client that speaks plain HTTP may take to read that it must not.
const GOODBYE: Duration = Duration::from_secs(2);

/// Of such a client so much is read at the most: a connection that is closed with unread bytes is
/// reset.
const UNREAD: u64 = 64 << 10;

const PLAIN_HTTP: &str =
    "This port speaks TLS: use https:// or wss:// instead of http:// or ws://.\n";

/// The certificate of a server, for [`Listener::tls`](crate::Listener::tls). Cheap to clone: all
/// clones have the same certificate, and get a new one together.
///
/// ```no_run
/// use antiphon::{Listener, Server, Tls};
///
/// #[tokio::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let io = Server::new();
///     let tls = Tls::from_files("chain.pem", "key.pem")?;
///     let listener = Listener::tcp("0.0.0.0:443")?.tls(&tls);
///
///     // `kill -HUP` after the files have been renewed.
///     let mut renewed = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
///     tokio::spawn(async move {
///         while renewed.recv().await.is_some() {
///             if let Err(error) = tls.reload() {
///                 eprintln!("the old certificate stays: {error}");
///             }
///         }
///     });
///     io.serving([listener]).run().await?;
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    config: ArcSwap<ServerConfig>,
    files: Option<Files>,
    handshakes: Mutex<Handshakes>,
}

struct Files {
    chain: PathBuf,
    key: PathBuf,
}

impl Tls {
    /// Reads the certificate, with those that lead from it to a root behind it, and its private key
    /// from files in PEM, as certbot writes them: `fullchain.pem` and `privkey.pem`.
    ///
    /// TLS 1.2 and 1.3 are spoken. Clients that come back resume by tickets, whose keys are only in
    /// memory. HTTP/1.1 is offered by ALPN, and HTTP/2 before it with the feature `http2`.
    ///
    /// # Errors
    /// If a file can't be read, or key and certificate don't belong together.
    pub fn from_files(
        chain: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, TlsError> {
        let files = Files {
            chain: chain.into(),
            key: key.into(),
        };
        Ok(Self::of(files.read()?, Some(files)))
    }

    /// A configuration of the program's own. If it offers no protocols by ALPN, it gets what
    /// [`from_files`](Self::from_files) offers.
    #[must_use]
    pub fn new(config: ServerConfig) -> Self {
        Self::of(config, None)
    }

    fn of(config: ServerConfig, files: Option<Files>) -> Self {
        Self(Arc::new(Shared {
            config: ArcSwap::from_pointee(with_alpn(config)),
            files,
            handshakes: Mutex::default(),
        }))
    }

    /// Reads the files anew: connections that come from now on get the new certificate, and those
    /// that there are go on. Call it when the files have been renewed; nothing watches them.
    ///
    /// # Errors
    /// As with [`from_files`](Self::from_files); then the old certificate stays. Also if it was
    /// made without files.
    pub fn reload(&self) -> Result<(), TlsError> {
        let files = self.0.files.as_ref().ok_or(TlsError::NoFiles)?;
        self.replace(files.read()?);
        Ok(())
    }

    /// As [`reload`](Self::reload), with a configuration of the program's own.
    pub fn replace(&self, config: ServerConfig) {
        self.0.config.store(Arc::new(with_alpn(config)));
    }

    /// Shakes hands. Returns `None` if that came to nothing: the client has gone, has had its time, or
    /// speaks something else.
    pub(super) async fn accept(&self, wire: Wire) -> Option<Wire> {
        wire.hurry();
        let (_under_way, mut given_up) = self.begin();
        let mut shaken = pin!(self.shake(wire));
        let unless_given_up = poll_fn(|context| {
            if Pin::new(&mut given_up).poll(context).is_ready() {
                let error = "too many handshakes, and this one was the oldest";
                return Poll::Ready(Err(io::Error::other(error)));
            }
            shaken.as_mut().poll(context)
        });
        let failed = match tokio::time::timeout(DEADLINE, unless_given_up).await {
            Ok(Ok(accepted)) => return accepted,
            Ok(Err(error)) => error,
            Err(late) => late.into(),
        };
        tracing::debug!(error = %failed, "a TLS handshake failed");
        None
    }

    async fn shake(&self, wire: Wire) -> io::Result<Option<Wire>> {
        let wire = match wire {
            Wire::Tcp(tcp) if speaks_http(&tcp).await? => {
                refuse(tcp).await;
                return Ok(None);
            }
            wire => wire,
        };
        let acceptor = TlsAcceptor::from(self.0.config.load_full());
        let stream = acceptor.accept(wire).await?;
        // What was agreed on by ALPN, the first bytes say, too.
        Ok(Some(Wire::Tls(Box::new(stream))))
    }

    /// Notes a handshake: what is returned first ends the note. The receiver resolves if it is given
    /// up.
    fn begin(&self) -> (UnderWay<'_>, oneshot::Receiver<Infallible>) {
        let (give_up, given_up) = oneshot::channel();
        let mut handshakes = self.handshakes();
        if handshakes.under_way.len() >= HANDSHAKES {
            handshakes.under_way.pop_first();
        }
        let number = handshakes.next;
        handshakes.next += 1;
        handshakes.under_way.insert(number, give_up);
        drop(handshakes);
        (UnderWay { tls: self, number }, given_up)
    }

    fn handshakes(&self) -> MutexGuard<'_, Handshakes> {
        let handshakes = self.0.handshakes.lock();
        handshakes.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handshakes that are under way, in the order in which they began. One whose sender is dropped
/// is given up.
#[derive(Default)]
struct Handshakes {
    next: u64,
    under_way: BTreeMap<u64, oneshot::Sender<Infallible>>,
}

/// A handshake that is noted.
struct UnderWay<'t> {
    tls: &'t Tls,
    number: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.tls.handshakes().under_way.remove(&self.number);
    }
}

/// Whether a client has begun with the name of a method, which is in capitals: a handshake begins with
/// 0x16.
async fn speaks_http(tcp: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(tcp.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase())
}

/// Tells a client of plain HTTP what it has come to.
async fn refuse(mut tcp: TcpStream) {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=UTF-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{PLAIN_HTTP}",
        PLAIN_HTTP.len()
    );
    let told = async {
        tcp.write_all(answer.as_bytes()).await?;
        tcp.shutdown().await?;
        tokio::io::copy(&mut tcp.take(UNREAD), &mut tokio::io::sink()).await
    };
    // Whether it has read it changes nothing.
    let _ = tokio::time::timeout(GOODBYE, told).await;
}

impl Files {
    fn read(&self) -> Result<ServerConfig, TlsError> {
        let at = |path: &PathBuf| {
            let path = path.clone();
            move |error| TlsError::Pem { path, error }
        };
        let chain = CertificateDer::pem_file_iter(&self.chain).map_err(at(&self.chain))?;
        let chain: Result<Vec<_>, _> = chain.collect();
        let chain = chain.map_err(at(&self.chain))?;
        if chain.is_empty() {
            return Err(at(&self.chain)(pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(at(&self.key))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.ticketer = ring::Ticketer::new()?;
        Ok(config)
    }
}

fn with_alpn(mut config: ServerConfig) -> ServerConfig {
    if config.alpn_protocols.is_empty() {
        let http2 = cfg!(feature = "http2").then(|| b"h2".to_vec());
        config.alpn_protocols = http2.into_iter().chain([b"http/1.1".to_vec()]).collect();
    }
    config
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.0.files.as_ref();
        f.debug_struct("Tls")
            .field("chain", &files.map(|files| &files.chain))
            .field("key", &files.map(|files| &files.key))
            .finish_non_exhaustive()
    }
}

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file can't be read, or has nothing of what it should have in PEM.
    #[error("{} can't be used: {error}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        error: pem::Error,
    },
    /// Key and certificate don't belong together, or are of a kind that isn't known.
    #[error("the certificate can't be used: {0}")]
    Certificate(#[from] rustls::Error),
    /// There are no files to be read anew.
    #[error("it was made without files: use `Tls::replace`")]
    NoFiles,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls() -> Tls {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
        Tls::new(config)
    }

    #[test]
    fn of_too_many_handshakes_the_oldest_is_given_up() {
        let tls = tls();
        let mut under_way: Vec<_> = (0..HANDSHAKES).map(|_| tls.begin()).collect();
        let is_given_up = |handshake: &mut (UnderWay<'_>, oneshot::Receiver<Infallible>)| {
            handshake.1.try_recv() == Err(oneshot::error::TryRecvError::Closed)
        };
        assert!(!under_way.iter_mut().any(is_given_up));
        under_way.push(tls.begin());
        let given_up: Vec<_> = under_way.iter_mut().map(is_given_up).collect();
        assert!(given_up[0] && !given_up[1..].contains(&true));
        assert_eq!(tls.handshakes().under_way.len(), HANDSHAKES);
        under_way.clear();
        assert_eq!(tls.handshakes().under_way.len(), 0);
    }
}
