//! Where a server takes connections: addresses of TCP and Unix sockets.
//!
//! A [`Listener`] is bound when it is made, so whatever is wrong with an address is an error there,
//! in words. It belongs to no runtime: [`Listener::open`] hands it to the one that it is called in.
//! With a runtime for each core, [`Listener::shared`] gives every other thread one.
//!
//! The file of a Unix socket is removed when the last listener on it is dropped, if it still is the
//! one that was made. One that is found is removed only if it is a socket on which nobody listens.

use std::{
    io,
    net::{self, SocketAddr, ToSocketAddrs},
    task::{Context, Poll, ready},
};

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

#[cfg(feature = "tls")]
use super::Tls;
use super::refused::{BACKLOG, Refused};
#[cfg(unix)]
use super::unix::{self, SocketFile};
use crate::engine::Wire;

/// Where a server takes connections: an address of TCP, or a Unix socket. For
/// [`Server::serving`](crate::Server::serving).
///
/// ```no_run
/// use antiphon::{Listener, Server};
///
/// # async fn run() -> std::io::Result<()> {
/// let io = Server::new();
/// let listeners = [
///     Listener::tcp("127.0.0.1:3000")?,
///     Listener::unix("/run/chat/chat.sock", 0o660)?,
/// ];
/// io.serving(listeners).run().await // until `io.close()` is called
/// # }
/// ```
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

#[derive(Debug)]
enum Kind {
    Tcp {
        listener: net::TcpListener,
        /// It was bound here, and may be bound once more for another thread.
        is_ours: bool,
    },
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixListener, Option<SocketFile>),
}

impl From<Kind> for Listener {
    fn from(kind: Kind) -> Self {
        Self {
            kind,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl Listener {
    /// Listens on an address of TCP: if a name has several, on the first that can be listened on.
    /// Up to 4,096 connections may wait to be accepted, or fewer if the system allows fewer
    /// (`net.core.somaxconn`). `[::]` takes IPv4, too, on most systems.
    ///
    /// It looks names up in this thread.
    ///
    /// # Errors
    /// If the address can't be listened on. The error has the kind that the system says, and a text
    /// that says what to do.
    pub fn tcp(address: impl ToSocketAddrs) -> io::Result<Self> {
        Self::first_of(address.to_socket_addrs()?)
    }

    /// As [`tcp`](Self::tcp), on the first of these addresses that can be listened on.
    pub(super) fn first_of(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<Self> {
        let nothing = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
        let mut failed = nothing;
        for address in addresses {
            match bind(address, false) {
                Ok(kind) => return Ok(kind.into()),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Listens on a Unix socket, whose file gets these permissions: `0o660` lets the owner and the
    /// group connect, `0o666` everyone who can reach the folder.
    ///
    /// A file that is there is replaced if it is a socket on which nobody listens, as one that a
    /// process left behind that was killed. The file is removed when the server has ended.
    ///
    /// Requests that come here have no [address](crate::Handshake::address).
    ///
    /// # Errors
    /// If there is something else, if another process listens there, or if the file can't be made.
    #[cfg(unix)]
    pub fn unix(path: impl AsRef<std::path::Path>, mode: u32) -> io::Result<Self> {
        let (listener, file) = unix::bind(path.as_ref(), mode)?;
        Ok(Kind::Unix(listener, Some(file)).into())
    }

    /// The address that is listened on: with the port, if 0 was asked for. Returns `None` for a Unix
    /// socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp { listener, .. } => listener.local_addr().ok(),
            #[cfg(unix)]
            Kind::Unix(..) => None,
        }
    }

    /// Encrypts its connections, and speaks nothing else on it. A client that speaks plain HTTP gets a
    /// 400 that says so. A handshake has 10 s; of more than 4,096 at a time the oldest are given up.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: &Tls) -> Self {
        self.tls = Some(tls.clone());
        self
    }

    /// The same with another way in.
    fn with(&self, kind: Kind) -> Self {
        Self {
            kind,
            #[cfg(feature = "tls")]
            tls: self.tls.clone(),
        }
    }

    /// The same, for several threads that each have one. Where the system spreads connections over
    /// listeners that share an address (socket(7), `SO_REUSEPORT` on Linux), it is bound anew as
    /// such: the first time it was bound alone, since those share their address with others of
    /// another process, too.
    pub(super) fn shareable(mut self) -> io::Result<Self> {
        match self.kind {
            Kind::Tcp {
                listener,
                is_ours: true,
            } if cfg!(target_os = "linux") => {
                let address = listener.local_addr()?;
                drop(listener);
                self.kind = bind(address, true)?;
            }
            kind => self.kind = kind,
        }
        Ok(self)
    }

    /// The listener of another thread: one of its own, or the same, from which the thread accepts
    /// that is idle.
    pub(super) fn shared(&self) -> io::Result<Self> {
        let kind = match &self.kind {
            Kind::Tcp {
                listener,
                is_ours: true,
            } if cfg!(target_os = "linux") => bind(listener.local_addr()?, true)?,
            Kind::Tcp { listener, is_ours } => Kind::Tcp {
                listener: listener.try_clone()?,
                is_ours: *is_ours,
            },
            #[cfg(unix)]
            Kind::Unix(listener, file) => Kind::Unix(listener.try_clone()?, file.clone()),
        };
        Ok(self.with(kind))
    }

    /// Hands it to the runtime of the caller.
    pub(super) fn open(self) -> io::Result<Open> {
        let kind = match self.kind {
            Kind::Tcp { listener, .. } => {
                listener.set_nonblocking(true)?;
                OpenKind::Tcp(TcpListener::from_std(listener)?)
            }
            #[cfg(unix)]
            Kind::Unix(listener, file) => {
                listener.set_nonblocking(true)?;
                OpenKind::Unix(tokio::net::UnixListener::from_std(listener)?, file)
            }
        };
        Ok(Open {
            kind,
            #[cfg(feature = "tls")]
            tls: self.tls,
        })
    }
}

/// A listener of the program's own. How many connections may wait to be accepted is up to it.
impl From<net::TcpListener> for Listener {
    fn from(listener: net::TcpListener) -> Self {
        let is_ours = false;
        Kind::Tcp { listener, is_ours }.into()
    }
}

/// A listener of the program's own, whose file is left alone.
#[cfg(unix)]
impl From<std::os::unix::net::UnixListener> for Listener {
    fn from(listener: std::os::unix::net::UnixListener) -> Self {
        Kind::Unix(listener, None).into()
    }
}

/// A listener of a runtime.
pub(super) struct Open {
    kind: OpenKind,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<Tls>,
}

enum OpenKind {
    Tcp(TcpListener),
    /// With its file, which goes with it.
    #[cfg(unix)]
    Unix(
        tokio::net::UnixListener,
        #[expect(dead_code, reason = "a guard")] Option<SocketFile>,
    ),
}

impl From<TcpListener> for Open {
    fn from(listener: TcpListener) -> Self {
        Self {
            kind: OpenKind::Tcp(listener),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl Open {
    /// The next connection, and the address of its client.
    pub(super) fn poll_accept(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(Wire, Option<SocketAddr>)>> {
        Poll::Ready(Ok(match &self.kind {
            OpenKind::Tcp(listener) => {
                let (stream, peer) = ready!(listener.poll_accept(context))?;
                (Wire::Tcp(stream), Some(peer))
            }
            #[cfg(unix)]
            OpenKind::Unix(listener, _) => {
                let (stream, _) = ready!(listener.poll_accept(context))?;
                (Wire::Unix(stream), None)
            }
        }))
    }
}

/// A listener on this address, which may share it.
fn bind(address: SocketAddr, shares: bool) -> io::Result<Kind> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // Elsewhere it would let two processes share the port.
        #[cfg(not(windows))]
        socket.set_reuse_address(true)?;
        #[cfg(target_os = "linux")]
        socket.set_reuse_port(shares)?;
        #[cfg(not(target_os = "linux"))]
        let _ = shares;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG.cast_signed())?;
        Ok(Kind::Tcp {
            listener: socket.into(),
            is_ours: true,
        })
    };
    bound().map_err(|error| Refused::new(address, error, advice).into())
}

/// What to do about an error of an address.
fn advice(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::AddrInUse => Some("another listener has the port: end it, or take another"),
        io::ErrorKind::PermissionDenied => Some(
            "ports below 1024 are for root, for programs with CAP_NET_BIND_SERVICE, and from \
             `net.ipv4.ip_unprivileged_port_start` on for all",
        ),
        io::ErrorKind::AddrNotAvailable => Some("no interface of this machine has the address"),
        _ => None,
    }
}
