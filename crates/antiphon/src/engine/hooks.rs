//! Functions of the application that see requests, responses and packets of the engine, whatever
//! they are for: request middlewares, changes of headers, observers of refusals and of packets.
//!
//! The options own [`Hooks`] if there are any: an engine without pays for one look at an option.
//! `http::respond_to` calls them, `Session::receive` and `Session::send_if` those of packets, in the
//! order in which they were added. Middlewares get the head of a request and give it back, or a response in its place;
//! the others are called between two looks at the network, and must not block.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Response, Uri,
    header::{SET_COOKIE, VARY},
    request::Parts,
};

use super::{Packet, RequestError, Session};

/// What a request middleware gives back: the request, or the response to it.
type Passed = Result<HttpRequest, Response<Bytes>>;

type Middleware = dyn Fn(HttpRequest) -> Pin<Box<dyn Future<Output = Passed> + Send>> + Send + Sync;

type ChangeHeaders = dyn Fn(&mut HeaderMap, &Parts) + Send + Sync;

type ObservePacket = dyn Fn(&Session, &Packet<'_>) + Send + Sync;

type ObserveRefusal = dyn Fn(&RequestError, &Parts) + Send + Sync;

/// The functions that an application has added.
#[derive(Clone, Default)]
pub(super) struct Hooks {
    middlewares: Vec<Arc<Middleware>>,
    /// Those of every response.
    response_headers: HeaderMap,
    initial_headers: Vec<Arc<ChangeHeaders>>,
    headers: Vec<Arc<ChangeHeaders>>,
    refusals: Vec<Arc<ObserveRefusal>>,
    packets: Vec<Arc<ObservePacket>>,
    outgoing_packets: Vec<Arc<ObservePacket>>,
}

impl Hooks {
    pub(super) fn add_middleware<F, Fut>(&mut self, middleware: F)
    where
        F: Fn(HttpRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Passed> + Send + 'static,
    {
        let middleware = move |request| Box::pin(middleware(request)) as Pin<Box<_>>;
        self.middlewares.push(Arc::new(middleware));
    }

    pub(super) fn add_response_header(&mut self, name: HeaderName, value: HeaderValue) {
        self.response_headers.insert(name, value);
    }

    pub(super) fn add_initial_headers(
        &mut self,
        change: impl Fn(&mut HeaderMap, &Parts) + Send + Sync + 'static,
    ) {
        self.initial_headers.push(Arc::new(change));
    }

    pub(super) fn add_headers(
        &mut self,
        change: impl Fn(&mut HeaderMap, &Parts) + Send + Sync + 'static,
    ) {
        self.headers.push(Arc::new(change));
    }

    pub(super) fn add_refusals(
        &mut self,
        observe: impl Fn(&RequestError, &Parts) + Send + Sync + 'static,
    ) {
        self.refusals.push(Arc::new(observe));
    }

    pub(super) fn add_packets(
        &mut self,
        observe: impl Fn(&Session, &Packet<'_>) + Send + Sync + 'static,
    ) {
        self.packets.push(Arc::new(observe));
    }

    pub(super) fn add_outgoing_packets(
        &mut self,
        observe: impl Fn(&Session, &Packet<'_>) + Send + Sync + 'static,
    ) {
        self.outgoing_packets.push(Arc::new(observe));
    }

    /// Asks the middlewares, which may change the request. Returns the headers that its response
    /// gets besides.
    ///
    /// # Errors
    /// The response to the request, if it is refused.
    pub(super) async fn ask(
        &self,
        parts: &mut Parts,
    ) -> Result<Box<HeaderMap>, Box<Response<Bytes>>> {
        let mut request = HttpRequest {
            // A copy: a refusal has the headers that its request asks for.
            parts: parts.clone(),
            response_headers: HeaderMap::new(),
        };
        for middleware in &self.middlewares {
            request = middleware(request).await.map_err(Box::new)?;
        }
        *parts = request.parts;
        Ok(Box::new(request.response_headers))
    }

    pub(super) fn has_middlewares(&self) -> bool {
        !self.middlewares.is_empty()
    }

    /// A request is refused.
    pub(super) fn refused(&self, error: &RequestError, request: &Parts) {
        for observe in &self.refusals {
            observe(error, request);
        }
    }

    pub(super) fn observes_packets(&self) -> bool {
        !self.packets.is_empty()
    }

    /// A packet has come.
    pub(super) fn received(&self, session: &Session, packet: &Packet<'_>) {
        for observe in &self.packets {
            observe(session, packet);
        }
    }

    pub(super) fn observes_outgoing_packets(&self) -> bool {
        !self.outgoing_packets.is_empty()
    }

    /// A packet has been queued.
    pub(super) fn queued(&self, session: &Session, packet: &Packet<'_>) {
        for observe in &self.outgoing_packets {
            observe(session, packet);
        }
    }

    /// The response of an app that is served beside the engine is about to leave: it gets the
    /// headers of every response that it hasn't said itself.
    pub(super) fn respond_beside(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.response_headers {
            if !headers.contains_key(name) {
                headers.insert(name, value.clone());
            }
        }
    }

    /// A response is about to leave, with these headers. `is_initial` if it opens a session.
    pub(super) fn respond(&self, headers: &mut HeaderMap, request: &Parts, is_initial: bool) {
        for (name, value) in &self.response_headers {
            headers.insert(name, value.clone());
        }
        let initial = self.initial_headers.iter().filter(|_| is_initial);
        for change in initial.chain(&self.headers) {
            change(headers, request);
        }
    }
}

/// The head of a request on its way to the engine, as a
/// [request middleware](crate::ServerBuilder::request_middleware) sees it.
///
/// What it changes holds for all that comes behind it. Extensions that it inserts are those of the
/// request: with [`handshake_extension`](crate::ServerBuilder::handshake_extension) they reach
/// handlers.
pub struct HttpRequest {
    parts: Parts,
    response_headers: HeaderMap,
}

impl HttpRequest {
    /// The method.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.parts.method
    }

    /// The URI; its query is the client's word.
    #[must_use]
    pub const fn uri(&self) -> &Uri {
        &self.parts.uri
    }

    /// The headers.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// The headers, to be changed.
    pub const fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.parts.headers
    }

    /// What layers and middlewares know of the request.
    #[must_use]
    pub const fn extensions(&self) -> &Extensions {
        &self.parts.extensions
    }

    /// The same, to be changed.
    pub const fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.parts.extensions
    }

    /// The session that the request says it belongs to, whether or not there is one. Returns `None`
    /// for a handshake. It is a credential: don't log it.
    #[must_use]
    pub fn sid(&self) -> Option<String> {
        let query = self.parts.uri.query().unwrap_or_default();
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find_map(|(name, value)| (name == "sid").then(|| value.into_owned()))
    }

    /// Headers that the response gets, whatever it is. They take the place of those that the
    /// response has by itself.
    pub const fn response_headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.response_headers
    }
}

impl fmt::Debug for HttpRequest {
    /// Without the query and what is in the headers: tokens and cookies are not for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", self.method())
            .field("path", &self.uri().path())
            .finish_non_exhaustive()
    }
}

/// Adds headers to those of a response. They take the place of others of the same name, but for
/// those that a response may have several times.
pub(super) fn add(headers: &mut HeaderMap, added: HeaderMap) {
    let mut name = None;
    for (next, value) in added {
        let is_first = next.is_some();
        name = next.or(name);
        match &name {
            Some(name) if is_first && *name != SET_COOKIE && *name != VARY => {
                headers.insert(name, value);
            }
            Some(name) => {
                headers.append(name, value);
            }
            // The first value of a map has a name.
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_are_added_take_the_place_of_others_but_cookies_do_not() {
        let value = HeaderValue::from_static;
        let mut headers = HeaderMap::new();
        headers.append("set-cookie", value("io=1"));
        headers.append("cache-control", value("no-store"));
        let mut added = HeaderMap::new();
        added.append("set-cookie", value("a=1"));
        added.append("set-cookie", value("b=2"));
        added.append("cache-control", value("private"));
        added.append("cache-control", value("max-age=1"));
        add(&mut headers, added);
        let all = |name: &str| headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(all("set-cookie"), ["io=1", "a=1", "b=2"]);
        assert_eq!(all("cache-control"), ["private", "max-age=1"]);
    }
}
