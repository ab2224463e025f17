//! One connection of our own listener.
//!
//! [`Accepted`] shakes hands if it is to be encrypted, looks at its first request and answers the
//! opening handshake of a WebSocket; all else is HTTP, in a task of its own (`http1`, `http2`), which asks the
//! server or the program's app. A client that breaks a rule, or goes away, ends its connection alone.

use std::{
    cell::Cell,
    convert::Infallible,
    future::{Future as _, poll_fn},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
};

use http::Request;
use http_body_util::Either;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::mpsc;

#[cfg(feature = "tls")]
use super::Tls;
use super::app::App;
#[cfg(feature = "http2")]
use super::http2;
use super::requests::{OpenConnection, Requests};
use crate::{
    engine::{EngineResponse, First, Peer, ReadAhead, Wire, first_request},
    server::Server,
};

/// What serves a connection that was accepted, up to where a task of its own goes on with it: the
/// memory of this one is given back then.
pub(super) struct Accepted {
    pub(super) server: Server,
    pub(super) app: App,
    pub(super) address: Option<SocketAddr>,
    pub(super) open: mpsc::WeakSender<Infallible>,
}

impl Accepted {
    /// Serves one that isn't encrypted.
    pub(super) async fn plain(self, wire: Wire) {
        let wire = match (self.server.flash_policy(), wire) {
            (Some(policy), Wire::Tcp(stream)) => policy.answer_or_pass(stream).await.map(Wire::Tcp),
            (_, wire) => Some(wire),
        };
        if let Some(wire) = wire {
            self.begin(wire, false).await;
        }
    }

    /// Serves one by TLS.
    #[cfg(feature = "tls")]
    pub(super) async fn secured(self, wire: Wire, tls: Tls) {
        // Boxed, so that the memory of a handshake is given back with it.
        if let Some(wire) = Box::pin(tls.accept(wire)).await {
            self.begin(wire, true).await;
        }
    }

    async fn begin(self, wire: Wire, is_secure: bool) {
        let Self {
            server,
            app,
            address,
            open,
        } = self;
        let peer = Peer { address, is_secure };
        let engine = Arc::clone(server.engine());
        let begin = || open.upgrade();
        match first_request(engine, server.path(), wire, peer, begin).await {
            First::Done => {}
            #[cfg(feature = "http2")]
            First::Http2 { stream, begun } => {
                let requests = Requests::new(&server, app, peer);
                tokio::spawn(http2::serve(server, requests, stream, begun));
            }
            First::Http {
                stream,
                answer,
                begun,
            } => {
                let requests = Requests::new(&server, app, peer);
                tokio::spawn(http1(server, requests, stream, answer, begun));
            }
        }
    }
}

/// A connection of HTTP/1.1. The answer to its first request may be there already. When the server
/// is closed and the last session has ended, it ends with the request that is under way.
async fn http1(
    server: Server,
    requests: Requests,
    stream: ReadAhead,
    first: Option<Box<EngineResponse>>,
    _open: Option<OpenConnection>,
) {
    let first = Cell::new(first);
    let answer = hyper::service::service_fn(move |request: Request<Incoming>| {
        let asked = match first.take() {
            Some(first) => Ok(first),
            None => Err(requests.answer(request)),
        };
        async move {
            Ok::<_, Infallible>(match asked {
                Ok(first) => first.map(Either::Left),
                Err(answer) => answer.await,
            })
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut drained = pin!(server.engine().drained());
    let mut closing = false;
    let ended = poll_fn(|context| {
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
