//! Ways to put a server behind HTTP: as an axum router, or with listeners of its own.
//!
//! What is listened on is a [`Listener`], and a [`Serving`] is all that one server listens on, with
//! the app that answers what isn't the server's. It is run in the runtime of its caller, or with a
//! runtime for each core ([`per_core`]). Each listener has a task that accepts, and each connection
//! one of its own ([`connection`]), in which its TLS handshake is made ([`tls`]).

mod app;
mod connection;
pub(crate) mod flash;
#[cfg(feature = "http2")]
mod http2;
pub(crate) mod listener;
pub(crate) mod per_core;
mod refused;
mod requests;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(unix)]
mod unix;

use std::{
    convert::Infallible,
    error::Error,
    future::{Future, pending, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::{
    net::{TcpListener, ToSocketAddrs},
    sync::mpsc,
    task::JoinSet,
};
use tower_service::Service;

use crate::server::{FlashPolicy, Server};
use app::App;
use connection::Accepted;
use listener::{Listener, Open};
#[cfg(feature = "tls")]
use tls::Tls;

impl Server {
    /// A router for axum: `Router::new().merge(io.router())`.
    ///
    /// It has the routes below [`path`](Self::path) alone. `nest("/someapi", io.router())` puts a
    /// prefix in front of that path; below the prefix itself a server is by
    /// `nest_service("/someapi", io.service())`, with the client's option `path: "/someapi"`.
    ///
    /// # Panics
    /// The router panics in `merge` if something else has the path already, another server for one:
    /// give each its own, see [`ServerBuilder::path`](crate::ServerBuilder::path).
    #[cfg(feature = "axum")]
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> axum::Router<S> {
        let path = self.path();
        axum::Router::new()
            .route_service(path, self.service())
            .route_service(&format!("{path}/"), self.service())
            .route_service(&format!("{path}/{{*rest}}"), self.service())
    }

    /// Serves on this address until [`close`](Self::close) is called. For programs that need no
    /// HTTP framework. Requests for other paths are answered with 404.
    ///
    /// Up to 4,096 connections may wait to be accepted, or fewer if the system allows fewer
    /// (`net.core.somaxconn`). A connection that says nothing is closed after 30 s.
    ///
    /// # Errors
    /// If the address can't be listened on, or the server was [closed](Self::close): it stays so,
    /// since its adapters and logs are closed, too. Build another one.
    pub async fn listen(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        let addresses = tokio::net::lookup_host(address).await?;
        self.serving([Listener::first_of(addresses)?]).run().await
    }

    /// Serves on a listener until [`close`](Self::close) is called, the last session has ended, and
    /// requests that are under way have been answered. Requests for other paths are answered with
    /// 404.
    ///
    /// How many connections may wait to be accepted is up to the code that made the listener:
    /// [`listen`](Self::listen) says 4,096.
    pub async fn serve(&self, listener: TcpListener) {
        self.log_closed();
        serve(self, vec![listener.into()], App::default(), pending::<()>()).await;
    }

    /// As [`serve`](Self::serve), and gives requests for other paths to `app`: a `Router` of axum,
    /// or any other tower service for requests of hyper.
    ///
    /// It is for programs that face the internet. `axum::serve` waits for a request's head for as
    /// long as a client likes; here a connection that says nothing, or not all of a head, is closed
    /// after 30 s. Handlers find the client's address as [`PeerAddr`](crate::PeerAddr) in the
    /// request's extensions, those of axum also by `ConnectInfo<SocketAddr>`.
    ///
    /// ```no_run
    /// use antiphon::Server;
    /// use axum::{Router, routing::get};
    ///
    /// #[tokio::main]
    /// async fn main() -> std::io::Result<()> {
    ///     let io = Server::new();
    ///     let app = Router::new().route("/", get(async || "hello"));
    ///     let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    ///     io.serve_with(listener, app).await; // until `io.close()` is called
    ///     Ok(())
    /// }
    /// ```
    pub async fn serve_with<A, B>(&self, listener: TcpListener, app: A)
    where
        A: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
        A: Clone + Send + 'static,
        A::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        self.log_closed();
        serve(self, vec![listener.into()], App::new(app), pending::<()>()).await;
    }

    /// An error if the server was closed.
    fn check_open(&self) -> io::Result<()> {
        match self.engine().is_closing() {
            true => Err(io::Error::other(
                "the server was closed, and its adapters and logs with it: to listen again, build \
                 another one with `Server::builder()`",
            )),
            false => Ok(()),
        }
    }

    /// Says in the log that the server was closed.
    fn log_closed(&self) {
        if let Err(error) = self.check_open() {
            tracing::error!(%error, "not served");
        }
    }

    /// Listeners of the server's own, as many as it should have, to be served with what else is
    /// chosen: an app, an end, a runtime for each core.
    ///
    /// ```no_run
    /// use antiphon::{Listener, Server};
    /// use axum::{Router, routing::get};
    ///
    /// #[tokio::main]
    /// async fn main() -> std::io::Result<()> {
    ///     let io = Server::new();
    ///     let app = Router::new().route("/", get(async || "hello"));
    ///     io.serving([Listener::tcp("127.0.0.1:3000")?, Listener::tcp("[::1]:3000")?])
    ///         .app(app)
    ///         .run_until(tokio::signal::ctrl_c())
    ///         .await
    /// }
    /// ```
    pub fn serving(&self, listeners: impl IntoIterator<Item = Listener>) -> Serving {
        Serving {
            server: self.clone(),
            listeners: listeners.into_iter().collect(),
            app: App::default(),
        }
    }

    /// Closes the server when `signal` resolves, and resolves when that is done; also if the server
    /// is [closed](Self::close) by other code.
    ///
    /// It is what `axum::serve` wants for its graceful shutdown. axum waits for open requests, and
    /// polls and WebSockets are such: without the server's close it waits for as long as they last,
    /// and disconnect handlers aren't called.
    ///
    /// ```no_run
    /// use antiphon::Server;
    ///
    /// #[tokio::main]
    /// async fn main() -> std::io::Result<()> {
    ///     let io = Server::new();
    ///     let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    ///     axum::serve(listener, axum::Router::new().merge(io.router()))
    ///         .with_graceful_shutdown(io.closed_by(tokio::signal::ctrl_c()))
    ///         .await
    /// }
    /// ```
    pub fn closed_by<F: Future>(&self, signal: F) -> impl Future<Output = ()> + use<F> {
        let server = self.clone();
        async move {
            {
                let mut signal = pin!(signal);
                let mut closed = pin!(server.engine().closed());
                poll_fn(|context| {
                    let ends = signal.as_mut().poll(context).is_ready();
                    match ends || closed.as_mut().poll(context).is_ready() {
                        true => Poll::Ready(()),
                        false => Poll::Pending,
                    }
                })
                .await;
            }
            server.close().await;
        }
    }

    /// Answers every connection to a listener of its own with the policy of
    /// [`flash_sockets`](crate::ServerBuilder::flash_sockets), until [`close`](Self::close) is
    /// called. Flash looks at port 843 first; a port from 1024 on can only let pages connect to
    /// ports from there on. Name those of the server with [`FlashPolicy::ports`]. Without a policy
    /// it returns at once.
    pub async fn serve_flash_policy(&self, listener: TcpListener) {
        let Some(policy) = self.flash_policy() else {
            return;
        };
        let mut closed = pin!(self.engine().closed());
        let mut next = |context: &mut Context<'_>| listener.poll_accept(context);
        while let Some((stream, _)) = accept(&mut next, closed.as_mut()).await {
            let policy = policy.clone();
            tokio::spawn(async move { policy.answer(stream).await });
        }
    }

    fn flash_policy(&self) -> Option<&FlashPolicy> {
        self.namespaces.shared.flash.as_ref()
    }
}

/// What a server listens on, and the app that it serves beside itself. Made by [`Server::serving`].
#[derive(Debug)]
#[must_use = "nothing is accepted until it is run"]
pub struct Serving {
    server: Server,
    listeners: Vec<Listener>,
    app: App,
}

impl Serving {
    /// Gives requests for other paths than the server's to `app`: a `Router` of axum, or any other
    /// tower service for requests of hyper. Without one they are answered with 404.
    ///
    /// Handlers find the client's address as [`PeerAddr`](crate::PeerAddr) in the request's
    /// extensions, those of axum also by `ConnectInfo<SocketAddr>`; on a Unix socket there is none.
    pub fn app<A, B>(mut self, app: A) -> Self
    where
        A: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
        A: Clone + Send + 'static,
        A::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        self.app = App::new(app);
        self
    }

    /// The addresses of TCP that are listened on: with the port, if 0 was asked for.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        let listeners = self.listeners.iter();
        listeners.filter_map(Listener::local_addr).collect()
    }

    /// Serves until [`Server::close`] is called, the last session has ended, and requests that are
    /// under way have been answered.
    ///
    /// # Errors
    /// If there is nothing to listen on, or the runtime has no I/O driver for it.
    pub async fn run(self) -> io::Result<()> {
        self.run_until(pending::<()>()).await
    }

    /// As [`run`](Self::run), and closes the server when `shutdown` resolves: a signal, or whatever
    /// else ends the program.
    ///
    /// # Errors
    /// As with [`run`](Self::run).
    pub async fn run_until<T>(self, shutdown: impl Future<Output = T>) -> io::Result<()> {
        self.server.check_open()?;
        self.run_open(shutdown).await
    }

    /// The same, also if the server has been closed since it was asked for.
    async fn run_open<T>(self, shutdown: impl Future<Output = T>) -> io::Result<()> {
        if self.listeners.is_empty() {
            let error = "a server needs at least one listener";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        let listeners = self.listeners.into_iter().map(Listener::open);
        let listeners = listeners.collect::<io::Result<_>>()?;
        serve(&self.server, listeners, self.app, shutdown).await;
        Ok(())
    }

    /// The same for another thread.
    fn shared(&self) -> io::Result<Self> {
        let listeners = self.listeners.iter().map(Listener::shared);
        Ok(Self {
            server: self.server.clone(),
            listeners: listeners.collect::<io::Result<_>>()?,
            app: self.app.clone(),
        })
    }
}

/// Serves on these listeners until the server is closed, by `shutdown` or otherwise, and what is
/// under way has ended.
async fn serve<T>(
    server: &Server,
    listeners: Vec<Open>,
    app: App,
    shutdown: impl Future<Output = T>,
) {
    let (open, mut ended) = mpsc::channel(1);
    // In tasks: what is spawned by one costs no wake-up.
    let mut accepting = JoinSet::new();
    for listener in listeners {
        let open = open.downgrade();
        accepting.spawn(accept_all(server.clone(), listener, app.clone(), open));
    }
    server.closed_by(shutdown).await;
    while let Some(accepted) = accepting.join_next().await {
        if let Err(error) = accepted
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
    drop(open);
    // Clients that asked get an answer, if this program ends next.
    let _ = tokio::time::timeout(server.engine().patience(), ended.recv()).await;
}

/// Takes the connections of one listener until the server is closed and its last session has ended.
async fn accept_all(server: Server, listener: Open, app: App, open: mpsc::WeakSender<Infallible>) {
    let mut drained = pin!(server.engine().drained());
    let mut next = |context: &mut Context<'_>| listener.poll_accept(context);
    while let Some((wire, address)) = accept(&mut next, drained.as_mut()).await {
        let connection = Accepted {
            server: server.clone(),
            app: app.clone(),
            address,
            open: open.clone(),
        };
        #[cfg(feature = "tls")]
        if let Some(tls) = &listener.tls {
            tokio::spawn(connection.secured(wire, tls.clone()));
            continue;
        }
        tokio::spawn(connection.plain(wire));
    }
}

/// The next connection, or nothing once `end` resolves.
async fn accept<T>(
    next: &mut impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
    mut end: Pin<&mut impl Future<Output = ()>>,
) -> Option<T> {
    loop {
        let accepted = poll_fn(|context| {
            if end.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            next(context).map(Some)
        });
        match accepted.await? {
            Ok(accepted) => return Some(accepted),
            Err(error) => {
                // Mostly too many open files: some will be closed.
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
