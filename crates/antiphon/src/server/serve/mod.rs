//! Ways to put a server behind HTTP: as an axum router, or with a listener of its own.

pub(crate) mod flash;
pub(crate) mod per_core;

use std::{
    cell::Cell,
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, ToSocketAddrs},
    runtime::Handle,
    sync::mpsc,
};
use tower_service::Service;

use crate::engine::{
    EngineBody, EngineResponse, EngineService, First, PeerAddr, ReadAhead, first_request, is_below,
};
use crate::server::{FlashPolicy, Server};

impl Server {
    /// A router for axum: `Router::new().merge(io.router())`.
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
    /// If the address can't be listened on.
    pub async fn listen(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        self.serve(bind(address).await?).await;
        Ok(())
    }

    /// Serves on a listener until [`close`](Self::close) is called, the last session has ended, and
    /// requests that are under way have been answered. Requests for other paths are answered with
    /// 404.
    ///
    /// How many connections may wait to be accepted is up to the code that made the listener:
    /// [`listen`](Self::listen) says 4,096.
    pub async fn serve(&self, listener: TcpListener) {
        self.serve_with(listener, NotFound).await;
    }

    /// As [`serve`](Self::serve), and gives requests for other paths to `app`: a `Router` of axum,
    /// or any other tower service for requests of hyper.
    ///
    /// It is for programs that face the internet. `axum::serve` waits for a request's head for as
    /// long as a client likes; here a connection that says nothing, or not all of a head, is closed
    /// after 30 s. Handlers find the client's address as [`PeerAddr`] in the request's extensions,
    /// those of axum also by `ConnectInfo<SocketAddr>`.
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
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (open, mut ended) = mpsc::channel(1);
        let mut drained = pin!(self.engine().drained());
        while let Some((stream, peer)) = accept(&listener, drained.as_mut()).await {
            tokio::spawn(connection(
                self.clone(),
                app.clone(),
                stream,
                PeerAddr(peer),
                open.downgrade(),
            ));
        }
        drop(open);
        // Clients that asked get an answer, if this program ends next.
        let _ = tokio::time::timeout(self.engine().patience(), ended.recv()).await;
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
        while let Some((stream, _)) = accept(&listener, closed.as_mut()).await {
            let policy = policy.clone();
            tokio::spawn(async move { policy.answer(stream).await });
        }
    }

    fn flash_policy(&self) -> Option<&FlashPolicy> {
        self.namespaces.shared.flash.as_ref()
    }
}

/// Connections that may wait to be accepted, on each listener.
pub(crate) const BACKLOG: u32 = 4_096;

/// A listener on the first of these addresses that can be listened on.
async fn bind(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
    let mut failed = None;
    for address in tokio::net::lookup_host(address).await? {
        let listener = || {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            // Elsewhere it would let two processes share the port.
            #[cfg(not(windows))]
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        };
        match listener() {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = Some(error),
        }
    }
    let nothing = || io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    Err(failed.unwrap_or_else(nothing))
}

/// The next connection, or nothing once `end` resolves.
async fn accept(
    listener: &TcpListener,
    mut end: Pin<&mut impl Future<Output = ()>>,
) -> Option<(TcpStream, SocketAddr)> {
    loop {
        let mut next = pin!(listener.accept());
        let accepted = std::future::poll_fn(|context| {
            if end.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            next.as_mut().poll(context).map(Some)
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

/// Held by the connections of a listener that speak HTTP: they may have something to answer.
/// Connections that have said nothing yet aren't waited for.
type OpenConnection = mpsc::Sender<Infallible>;

/// One connection, up to where a task of its own goes on with it: the memory of this one is given
/// back then.
async fn connection<A, B>(
    server: Server,
    app: A,
    stream: TcpStream,
    peer: PeerAddr,
    open: mpsc::WeakSender<Infallible>,
) where
    A: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    A: Clone + Send + 'static,
    A::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = match server.flash_policy() {
        Some(policy) => policy.answer_or_pass(stream).await,
        None => Some(stream),
    };
    let Some(stream) = stream else { return };
    let engine = Arc::clone(server.engine());
    let begun = move || open.upgrade();
    if let First::Http {
        stream,
        answer,
        begun,
    } = first_request(engine, server.path(), stream, peer, begun).await
    {
        tokio::spawn(http(server, app, stream, peer, answer, begun));
    }
}

/// A connection of HTTP. The answer to its first request may be there already. When the server is
/// closed and the last session has ended, it ends with the request that is under way.
async fn http<A, B>(
    server: Server,
    app: A,
    stream: ReadAhead,
    peer: PeerAddr,
    first: Option<Box<EngineResponse>>,
    _open: Option<OpenConnection>,
) where
    A: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    A: Clone + Send + 'static,
    A::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (path, service) = (server.path().to_owned(), server.service());
    let first = Cell::new(first);
    let answer = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let first = first.take();
        request.extensions_mut().insert(peer);
        let ours = is_below(request.uri().path(), &path);
        let (ours, others) = match (&first, ours) {
            (Some(_), _) => (None, None),
            (None, true) => (Some(whole(&mut service.clone(), request)), None),
            (None, false) => (None, Some((app.clone(), request))),
        };
        async move {
            if let Some(ours) = ours {
                return Ok(ours.await?.map(Either::Left));
            }
            if let Some((app, request)) = others {
                return Ok(ask(app, request, peer).await?.map(Either::Right));
            }
            let answer = first.map_or_else(|| not_found(EngineBody::from), |answer| *answer);
            Ok::<_, Infallible>(answer.map(Either::Left))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut drained = pin!(server.engine().drained());
    let mut closing = false;
    let ended = std::future::poll_fn(|context| {
        // The request that was read ahead is seen first: it is under way.
        let polled = connection.as_mut().poll(context);
        if polled.is_ready() || closing || drained.as_mut().poll(context).is_pending() {
            return polled;
        }
        closing = true;
        connection.as_mut().graceful_shutdown();
        connection.as_mut().poll(context)
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "an HTTP connection failed");
    }
}

/// Asks the program's own service.
async fn ask<A, B>(
    mut app: A,
    mut request: Request<Incoming>,
    peer: PeerAddr,
) -> Result<Response<B>, Infallible>
where
    A: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
{
    #[cfg(feature = "axum")]
    request
        .extensions_mut()
        .insert(axum::extract::ConnectInfo(peer.0));
    #[cfg(not(feature = "axum"))]
    let _ = (peer, &mut request);
    std::future::poll_fn(|context| app.poll_ready(context)).await?;
    app.call(request).await
}

type Answering = Pin<Box<dyn Future<Output = Result<EngineResponse, Infallible>> + Send>>;

/// Answers a request. What a client has sent in a POST of its session is handled also if it hangs
/// up right behind: hyper drops the answer that it waits for when it sees the end of the
/// connection, and may see that before it has asked for the answer once.
fn whole(service: &mut EngineService, request: Request<Incoming>) -> Whole {
    let query = request.uri().query().unwrap_or_default();
    let brings_packets =
        *request.method() == Method::POST && query.split('&').any(|pair| pair.starts_with("sid="));
    Whole {
        answering: Some(service.call(request)),
        brings_packets,
    }
}

/// The answer to a request. A POST goes on by itself when this is dropped.
struct Whole {
    answering: Option<Answering>,
    brings_packets: bool,
}

impl Future for Whole {
    type Output = Result<EngineResponse, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(answering) = &mut self.answering else {
            return Poll::Pending;
        };
        let answer = ready!(answering.as_mut().poll(context));
        self.answering = None;
        Poll::Ready(answer)
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if let Some(answering) = self.answering.take().filter(|_| self.brings_packets)
            && let Ok(runtime) = Handle::try_current()
        {
            // It ends with its body, which is here or fails, or with its session.
            runtime.spawn(answering);
        }
    }
}

/// Has nothing.
#[derive(Clone)]
struct NotFound;

impl Service<Request<Incoming>> for NotFound {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Incoming>) -> Self::Future {
        std::future::ready(Ok(not_found(Full::new)))
    }
}

fn not_found<B>(body: impl FnOnce(Bytes) -> B) -> Response<B> {
    let mut answer = Response::new(body(Bytes::from_static(b"not found\n")));
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer
}
