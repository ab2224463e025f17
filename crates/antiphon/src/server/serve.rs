//! Ways to put a server behind HTTP: as an axum router, or with a listener of its own.

use std::{
    cell::Cell,
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream, ToSocketAddrs},
    sync::mpsc,
};
use tower_service::Service as _;

use super::{FlashPolicy, Server};
use crate::engine::{Answer, EngineBody, First, PeerAddr, ReadAhead, first_request, is_below};

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
    /// HTTP framework.
    ///
    /// # Errors
    /// Where the address can't be listened on.
    pub async fn listen(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        self.serve(TcpListener::bind(address).await?).await;
        Ok(())
    }

    /// Serves on a listener until [`close`](Self::close) is called, the last session has ended, and
    /// requests that are under way have been answered. Requests for other paths are answered with 404.
    pub async fn serve(&self, listener: TcpListener) {
        let (open, mut ended) = mpsc::channel(1);
        let mut drained = pin!(self.engine().drained());
        while let Some((stream, peer)) = accept(&listener, drained.as_mut()).await {
            tokio::spawn(connection(
                self.clone(),
                stream,
                PeerAddr(peer),
                open.downgrade(),
            ));
        }
        drop(open);
        // Who asked gets an answer, if this program ends next.
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

/// Held by the connections of a listener that speak HTTP: they may have something to answer. Who has
/// said nothing yet isn't waited for.
type Open = mpsc::Sender<Infallible>;

/// One connection, up to where a task of its own goes on with it: the memory of this one is given
/// back then.
async fn connection(
    server: Server,
    stream: TcpStream,
    peer: PeerAddr,
    open: mpsc::WeakSender<Infallible>,
) {
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
        tokio::spawn(http(server, stream, peer, answer, begun));
    }
}

/// A connection of HTTP. The answer to its first request may be there already. When the server is
/// closed and the last session has ended, it ends with the request that is under way.
async fn http(
    server: Server,
    stream: ReadAhead,
    peer: PeerAddr,
    first: Option<Box<Answer>>,
    _open: Option<Open>,
) {
    let (path, service) = (server.path().to_owned(), server.service());
    let first = Cell::new(first);
    let answer = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let first = first.take();
        let mut service = service.clone();
        let ours = is_below(request.uri().path(), &path);
        async move {
            if let Some(answer) = first {
                return Ok::<_, Infallible>(*answer);
            }
            if !ours {
                return Ok(not_found());
            }
            request.extensions_mut().insert(peer);
            service.call(request).await
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

fn not_found() -> Answer {
    let mut answer = Response::new(EngineBody::from(Bytes::from_static(b"not found\n")));
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer
}
