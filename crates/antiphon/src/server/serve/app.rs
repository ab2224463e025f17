//! What answers the requests that aren't the server's: a service of the program's own.
//!
//! [`Serving`](super::Serving) owns it, and each connection has a clone. Its type is erased, so that
//! nothing that serves it has a parameter for it. Without one, all is answered with 404.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use tower_service::Service;

/// The body of an app's response.
pub(super) type AppBody = UnsyncBoxBody<Bytes, AppError>;

/// The body of an app's response failed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct AppError(Box<dyn Error + Send + Sync>);

type Answering = Pin<Box<dyn Future<Output = Response<AppBody>> + Send>>;

/// An app, or none.
#[derive(Default)]
pub(super) struct App(Option<Box<dyn Erased>>);

/// A service whose type isn't known any more.
trait Erased: Send {
    fn clone_box(&self) -> Box<dyn Erased>;
    fn ask(self: Box<Self>, request: Request<Incoming>) -> Answering;
}

impl<A, B> Erased for A
where
    A: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    A: Clone + Send + 'static,
    A::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    fn clone_box(&self) -> Box<dyn Erased> {
        Box::new(self.clone())
    }

    fn ask(mut self: Box<Self>, request: Request<Incoming>) -> Answering {
        Box::pin(async move {
            let answered = async {
                poll_fn(|context| self.poll_ready(context)).await?;
                self.call(request).await
            };
            let Ok(answer) = answered.await;
            answer.map(|body| body.map_err(|error| AppError(error.into())).boxed_unsync())
        })
    }
}

impl App {
    pub(super) fn new<A, B>(app: A) -> Self
    where
        A: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
        A: Clone + Send + 'static,
        A::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        Self(Some(Box::new(app)))
    }

    /// Its answer to a request.
    pub(super) async fn ask(self, request: Request<Incoming>) -> Response<AppBody> {
        match self.0 {
            Some(app) => app.ask(request).await,
            None => not_found(|text| {
                Full::new(text)
                    .map_err(|never| match never {})
                    .boxed_unsync()
            }),
        }
    }
}

impl Clone for App {
    fn clone(&self) -> Self {
        Self(self.0.as_ref().map(|app| app.clone_box()))
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "App" } else { "None" })
    }
}

fn not_found<B>(body: impl FnOnce(Bytes) -> B) -> Response<B> {
    let mut answer = Response::new(body(Bytes::from_static(b"not found\n")));
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer
}
