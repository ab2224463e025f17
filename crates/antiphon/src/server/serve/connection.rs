//! One connection of our own listener.
//!
//! [`Accepted`] shakes hands if it is to be encrypted, looks at its first request and answers the
//! opening handshake of a WebSocket; all else is HTTP, in a task of its own (`http1`, `http2`), which asks the
//! server or the program's app. A client that breaks a rule, or goes away, ends its connection alone.

use std::{
    cell::Cell,
    convert::Infallible,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Method, Request, Response};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{runtime::Handle, sync::mpsc};
use tower_service::Service;

#[cfg(feature = "tls")]
use super::Tls;
use super::app::{App, AppBody};
#[cfg(feature = "http2")]
use super::http2;
use crate::{
    engine::{
        Engine, EngineBody, EngineResponse, EngineService, First, Peer, ReadAhead, Wire,
        first_request, is_below,
    },
    server::Server,
};

/// Held by the connections of a server's listeners that speak HTTP: they may have something to
/// answer. Connections that have said nothing yet aren't waited for.
pub(super) type OpenConnection = mpsc::Sender<Infallible>;

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

/// What answers the requests of a connection.
pub(super) struct Requests {
    engine: Arc<Engine>,
    service: EngineService,
    path: Box<str>,
    app: App,
    peer: Peer,
}

/// The body of a response: the server's, or the app's.
pub(super) type ResponseBody = Either<EngineBody, AppBody>;

impl Requests {
    fn new(server: &Server, app: App, peer: Peer) -> Self {
        Self {
            engine: Arc::clone(server.engine()),
            service: server.service(),
            path: server.path().into(),
            app,
            peer,
        }
    }

    /// The answer to a request.
    pub(super) fn answer(
        &self,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Response<ResponseBody>> + use<> {
        let peer = self.peer;
        peer.introduce(request.extensions_mut());
        let asked = match is_below(request.uri().path(), &self.path) {
            true => Ok(whole(&mut self.service.clone(), request)),
            false => Err((self.app.clone(), Arc::clone(&self.engine), request)),
        };
        async move {
            match asked {
                Ok(ours) => {
                    let Ok(answer) = ours.await;
                    answer.map(Either::Left)
                }
                Err((app, engine, mut request)) => {
                    tell_axum(&mut request, peer);
                    let mut answer = app.ask(request).await;
                    engine.respond_beside(answer.headers_mut());
                    answer.map(Either::Right)
                }
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
