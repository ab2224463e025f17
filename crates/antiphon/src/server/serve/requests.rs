//! How a request on our own listener is answered, whichever HTTP it came by.
//!
//! A connection owns its [`Requests`]. A request below the server's path is the engine's, and any other
//! is the program's app's, which learns the client's address. A POST that hyper has dropped, since
//! its client has hung up, is handled all the same ([`Whole`]).

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Method, Request, Response};
use http_body_util::Either;
use hyper::body::Incoming;
use tokio::{runtime::Handle, sync::mpsc};
use tower_service::Service;

use super::app::{App, AppBody};
use crate::{
    engine::{Engine, EngineBody, EngineResponse, EngineService, Peer, is_below},
    server::Server,
};

/// Held by the connections of a server's listeners that speak HTTP: they may have something to
/// answer. Connections that have said nothing yet aren't waited for.
pub(super) type OpenConnection = mpsc::Sender<Infallible>;

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
    pub(super) fn new(server: &Server, app: App, peer: Peer) -> Self {
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
