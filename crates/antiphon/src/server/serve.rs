//! Ways to put a server behind HTTP: as an axum router, or with a listener of its own.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tower_service::Service as _;

use super::{FlashPolicy, Server};
use crate::engine::{EngineBody, EngineService, PeerAddr, is_below};

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

    /// Serves on a listener until [`close`](Self::close) is called. Requests for other paths are
    /// answered with 404.
    pub async fn serve(&self, listener: TcpListener) {
        let mut closed = pin!(self.engine().closed());
        while let Some((stream, peer)) = accept(&listener, closed.as_mut()).await {
            let path = self.path().to_owned();
            let service = self.service();
            let answer = hyper::service::service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(PeerAddr(peer));
                respond(
                    service.clone(),
                    is_below(request.uri().path(), &path),
                    request,
                )
            });
            let server = self.clone();
            tokio::spawn(async move {
                let stream = match server.flash_policy() {
                    Some(policy) => policy.answer_or_pass(stream).await,
                    None => Some(stream),
                };
                drop(server);
                let Some(stream) = stream else { return };
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), answer)
                    .with_upgrades();
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "an HTTP connection failed");
                }
            });
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
        while let Some((stream, _)) = accept(&listener, closed.as_mut()).await {
            let policy = policy.clone();
            tokio::spawn(async move { policy.answer(stream).await });
        }
    }

    fn flash_policy(&self) -> Option<&FlashPolicy> {
        self.namespaces.shared.flash.as_ref()
    }
}

/// The next connection, or nothing once the server is closed.
async fn accept(
    listener: &TcpListener,
    mut closed: Pin<&mut impl Future<Output = ()>>,
) -> Option<(TcpStream, SocketAddr)> {
    loop {
        let mut next = pin!(listener.accept());
        let accepted = std::future::poll_fn(|context| {
            if closed.as_mut().poll(context).is_ready() {
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

async fn respond(
    mut service: EngineService,
    ours: bool,
    request: Request<Incoming>,
) -> Result<Response<EngineBody>, Infallible> {
    if ours {
        return service.call(request).await;
    }
    let mut answer = Response::new(EngineBody::from(Bytes::from_static(b"not found\n")));
    *answer.status_mut() = StatusCode::NOT_FOUND;
    Ok(answer)
}
