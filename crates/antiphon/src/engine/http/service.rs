//! The engine as a tower `Service`, and as a `Layer` over another one: the way in for axum, hyper
//! and tower.
//!
//! Both are cheap handles of the engine. A request goes to `http::handle`, which always gives a
//! response: the service never fails. The layer looks at the path alone, by whole segments
//! ([`is_below`]), and leaves every other request and its errors to the inner service.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use http_body_util::Either;
use tower_layer::Layer;
use tower_service::Service;

use super::{Engine, EngineBody, handle, request::is_below};

/// Answers every request that it is given, for axum, plain hyper, or anything else that takes a
/// tower service. Cloning is cheap.
#[derive(Clone)]
pub struct EngineService {
    engine: Arc<Engine>,
}

impl Engine {
    /// The HTTP service of this engine, which takes every request that it is given. For use as a
    /// fallback of something else see [`EngineService::layer`].
    #[must_use]
    pub fn service(self: &Arc<Self>) -> EngineService {
        EngineService::new(Arc::clone(self))
    }
}

impl EngineService {
    pub(crate) const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// A layer that answers the requests below `path` and gives all others to the service that it
    /// is put on.
    #[must_use]
    pub fn layer(self, path: impl Into<Arc<str>>) -> EngineLayer {
        EngineLayer {
            service: self,
            path: path.into(),
        }
    }
}

impl<B> Service<Request<B>> for EngineService
where
    B: Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<EngineBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let engine = Arc::clone(&self.engine);
        Box::pin(async move { Ok(handle(engine, request).await) })
    }
}

/// Puts an engine in front of another service. See [`EngineService::layer`].
#[derive(Debug, Clone)]
pub struct EngineLayer {
    service: EngineService,
    path: Arc<str>,
}

impl<S> Layer<S> for EngineLayer {
    type Service = OrEngine<S>;

    fn layer(&self, inner: S) -> OrEngine<S> {
        OrEngine {
            engine: self.service.clone(),
            path: Arc::clone(&self.path),
            inner,
        }
    }
}

/// A service with an engine in front of it.
#[derive(Debug, Clone)]
pub struct OrEngine<S> {
    engine: EngineService,
    path: Arc<str>,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for OrEngine<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<Either<EngineBody, R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if is_below(request.uri().path(), &self.path) {
            let engine = Arc::clone(&self.engine.engine);
            return Box::pin(async move { Ok(handle(engine, request).await.map(Either::Left)) });
        }
        let answered = self.inner.call(request);
        Box::pin(async move { Ok(answered.await?.map(Either::Right)) })
    }
}

impl fmt::Debug for EngineService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineService").finish_non_exhaustive()
    }
}
