//! Requests below the server's path that belong to no session: the application answers them (calls
//! by HTTP).
//!
//! The engine owns at most one [`Fallback`] and asks it before it looks for a transport. It gets
//! the head, and the body as a future that is bounded in bytes and time, and gives a whole
//! response; preflights and CORS stay with the engine. `Engine::admit` holds it to the rules of a
//! handshake: origin, `allow_request`, no shutdown.

use std::{future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{Response, request::Parts};

use super::{Engine, RequestError};

/// The body of a request, read when it is awaited: up to the engine's bound and within its
/// deadline.
pub(crate) type ReadBody<'a> =
    Pin<Box<dyn Future<Output = Result<Bytes, RequestError>> + Send + 'a>>;

/// What answers requests that belong to no session. Preflights and the CORS headers of its answers
/// are the engine's.
pub(crate) trait Fallback: Send + Sync + 'static {
    /// Whether this request is for it.
    fn takes(&self, request: &Parts) -> bool;

    /// Answers a request.
    fn answer<'a>(
        &'a self,
        engine: &'a Arc<Engine>,
        request: &'a Parts,
        body: ReadBody<'a>,
    ) -> Pin<Box<dyn Future<Output = Response<Bytes>> + Send + 'a>>;
}

/// Gives files, as the response to a request that names no transport. Returns `None` for a request
/// that asks for none.
pub(crate) type Files = dyn Fn(&Parts) -> Option<Response<Bytes>> + Send + Sync;

impl Engine {
    /// Whether a request that belongs to no session may be made: by the rules for those that open
    /// one.
    pub(crate) async fn admit(&self, request: &Parts) -> Result<(), RequestError> {
        let config = self.config();
        if !config.cors.allows(&request.headers) {
            return Err(RequestError::origin(&request.headers));
        }
        if let Some(allow) = &config.allow_request {
            allow(request.clone())
                .await
                .map_err(RequestError::Forbidden)?;
        }
        if self.is_closing() {
            return Err(RequestError::ShuttingDown);
        }
        Ok(())
    }
}
