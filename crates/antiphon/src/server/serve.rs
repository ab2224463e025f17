//! Ways to put a server behind HTTP: as an axum router, or with a listener of its own.

use std::{convert::Infallible, io, pin::pin};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, ToSocketAddrs};
use tower_service::Service as _;

use super::Server;
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
        loop {
            let accepted = {
                let mut accept = pin!(listener.accept());
                std::future::poll_fn(|context| {
                    if closed.as_mut().poll(context).is_ready() {
                        return std::task::Poll::Ready(None);
                    }
                    accept.as_mut().poll(context).map(Some)
                })
                .await
            };
            let (stream, peer) = match accepted {
                None => return,
                Some(Ok(accepted)) => accepted,
                Some(Err(error)) => {
                    // Mostly too many open files: some will be closed.
                    tracing::warn!(%error, "a connection can't be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            };
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
            tokio::spawn(async move {
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
