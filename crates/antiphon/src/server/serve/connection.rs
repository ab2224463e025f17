//! One connection of our own listener.
//!
//! `connection` looks at its first request and answers the opening handshake of a WebSocket; all
//! else is HTTP, in a task of its own (`http`), which asks the server or the program's app. A client
//! that breaks a rule, or goes away, ends its connection alone.

use std::{
    cell::Cell,
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Method, Request};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{runtime::Handle, sync::mpsc};
use tower_service::Service;

use super::app::{App, not_found};
use crate::{
    engine::{
        EngineBody, EngineResponse, EngineService, First, Peer, ReadAhead, Wire, first_request,
        is_below,
    },
    server::Server,
};

/// Held by the connections of a server's listeners that speak HTTP: they may have something to
/// answer. Connections that have said nothing yet aren't waited for.
pub(super) type OpenConnection = mpsc::Sender<Infallible>;

/// One connection, up to where a task of its own goes on with it: the memory of this one is given
/// back then.
pub(super) async fn connection(
    server: Server,
    app: App,
    wire: Wire,
    peer: Peer,
    open: mpsc::WeakSender<Infallible>,
) {
    let wire = match (server.flash_policy(), wire) {
        (Some(policy), Wire::Tcp(stream)) => policy.answer_or_pass(stream).await.map(Wire::Tcp),
        (_, wire) => Some(wire),
    };
    let Some(wire) = wire else { return };
    let engine = Arc::clone(server.engine());
    let begun = move || open.upgrade();
    if let First::Http {
        stream,
        answer,
        begun,
    } = first_request(engine, server.path(), wire, peer, begun).await
    {
        tokio::spawn(http(server, app, stream, peer, answer, begun));
    }
}

/// A connection of HTTP. The answer to its first request may be there already. When the server is
/// closed and the last session has ended, it ends with the request that is under way.
async fn http(
    server: Server,
    app: App,
    stream: ReadAhead,
    peer: Peer,
    first: Option<Box<EngineResponse>>,
    _open: Option<OpenConnection>,
) {
    let (path, service) = (server.path().to_owned(), server.service());
    let first = Cell::new(first);
    let answer = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let first = first.take();
        peer.introduce(request.extensions_mut());
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
            if let Some((app, mut request)) = others {
                tell_axum(&mut request, peer);
                return Ok(app.ask(request).await.map(Either::Right));
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

/// Handlers of axum find the client's address as they do under `axum::serve`.
fn tell_axum(request: &mut Request<Incoming>, peer: Peer) {
    #[cfg(feature = "axum")]
    if let Some(address) = peer.address {
        let info = axum::extract::ConnectInfo(address);
        request.extensions_mut().insert(info);
    }
    #[cfg(not(feature = "axum"))]
    let _ = (request, peer);
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
