//! What is known of a client from the request that opened its connection.
//!
//! A [`Handshake`] is made once when the session is opened, owned by its connection and shared by
//! its sockets. Only the headers and extensions that were asked for ([`Kept`]) are copied, since
//! they stay as long as the connection. Queries are read when they are asked for. The address is
//! what the HTTP server tells, and may be a proxy's.

use std::{
    fmt,
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use antiphon_protocol::socket::from_json;
use http::{Extensions, HeaderMap, HeaderName, header, request::Parts};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::engine::{Secure, peer_address};

/// What a [`Handshake`] keeps of the request beside its URL and address: the options of a server.
pub(crate) struct Kept {
    headers: Vec<HeaderName>,
    /// Each copies the extension of one type, if the request has it.
    extensions: Vec<fn(&Extensions, &mut Extensions)>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            headers: vec![
                header::AUTHORIZATION,
                header::COOKIE,
                header::ORIGIN,
                header::USER_AGENT,
                HeaderName::from_static("x-forwarded-for"),
            ],
            extensions: Vec::new(),
        }
    }
}

impl Kept {
    /// Keeps these headers, too.
    pub(crate) fn headers(&mut self, names: impl IntoIterator<Item = HeaderName>) {
        for name in names {
            if !self.headers.contains(&name) {
                self.headers.push(name);
            }
        }
    }

    /// Keeps no header of those that were named up to here.
    pub(crate) fn no_headers(&mut self) {
        self.headers.clear();
    }

    /// Keeps the extension of this type, too.
    pub(crate) fn extension<T: Clone + Send + Sync + 'static>(&mut self) {
        self.extensions.push(|of, kept| {
            if let Some(value) = of.get::<T>() {
                kept.insert(value.clone());
            }
        });
    }
}

/// What is known of a client from the request that opened its connection.
///
/// Only the headers and extensions that were asked for are kept, see
/// [`ServerBuilder::handshake_headers`](crate::ServerBuilder::handshake_headers) and
/// [`ServerBuilder::handshake_extension`](crate::ServerBuilder::handshake_extension): they stay in
/// memory as long as the connection.
pub struct Handshake {
    headers: HeaderMap,
    extensions: Extensions,
    url: Box<str>,
    address: Option<SocketAddr>,
    is_secure: bool,
    time: SystemTime,
}

impl fmt::Debug for Handshake {
    /// Without the query and what is in the headers: tokens and cookies are not for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self
            .url
            .split_once('?')
            .map_or(&*self.url, |(path, _)| path);
        let headers: Vec<_> = self.headers.keys().collect();
        f.debug_struct("Handshake")
            .field("path", &path)
            .field("headers", &headers)
            .field("address", &self.address)
            .field("time", &self.time)
            .finish()
    }
}

impl Handshake {
    pub(crate) fn new(request: &Parts, keep: &Kept) -> Self {
        let mut headers = HeaderMap::new();
        for name in &keep.headers {
            for value in request.headers.get_all(name) {
                // A copy: the value is a slice of the whole request.
                if let Ok(value) = http::HeaderValue::from_bytes(value.as_bytes()) {
                    headers.append(name.clone(), value);
                }
            }
        }
        let mut extensions = Extensions::new();
        for copy in &keep.extensions {
            copy(&request.extensions, &mut extensions);
        }
        let url = request.uri.path_and_query().map_or("/", |url| url.as_str());
        Self {
            headers,
            extensions,
            url: url.into(),
            address: peer_address(request),
            is_secure: request.extensions.get::<Secure>().is_some(),
            time: SystemTime::now(),
        }
    }

    /// The headers that were kept.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The extensions of the request that were kept: what a layer of tower or axum, or a
    /// [request middleware](crate::ServerBuilder::request_middleware), has put into it, of the types
    /// that were named by
    /// [`ServerBuilder::handshake_extension`](crate::ServerBuilder::handshake_extension).
    ///
    /// ```
    /// use antiphon::{Server, Socket};
    ///
    /// #[derive(Clone)]
    /// struct User(String);
    ///
    /// let io = Server::builder().handshake_extension::<User>().build();
    /// io.of("/").on("who am I", async |socket: Socket| {
    ///     let user = socket.handshake().extensions().get::<User>();
    ///     user.map(|user| user.0.clone())
    /// });
    /// ```
    #[must_use]
    pub const fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Path and query of the request.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The first parameter of this name in the query of the request.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.url.split_once('?')?;
        form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The address of the peer that opened the connection: the client's, or that of a proxy in
    /// front.
    ///
    /// `None` if the HTTP server doesn't tell: under axum, serve with
    /// `into_make_service_with_connect_info::<SocketAddr>()`.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Whether the connection is encrypted up to this server: one of its own
    /// [listeners with TLS](crate::Listener::tls), or one whose acceptor has put [`Secure`] into the
    /// request's extensions. What a proxy in front has decrypted isn't.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// What other servers are told of it, in the shape that Node has.
    pub(crate) fn told(&self) -> Map<String, Value> {
        let issued = self.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let issued = u64::try_from(issued.as_millis()).unwrap_or_default();
        let headers = self.headers.iter().filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.into()))
        });
        let query = self.url.split_once('?').map_or("", |(_, query)| query);
        let query = form_urlencoded::parse(query.as_bytes());
        let query = query.map(|(name, value)| (name.into_owned(), value.into()));
        let address = self.address.map(|address| address.ip().to_string());
        [
            ("address", address.into()),
            ("headers", Value::Object(headers.collect())),
            ("issued", issued.into()),
            ("query", Value::Object(query.collect())),
            ("secure", self.is_secure.into()),
            ("time", issued.into()),
            ("url", (*self.url).into()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// When the connection was opened.
    #[must_use]
    pub const fn time(&self) -> SystemTime {
        self.time
    }
}

/// An auth payload as a `T`: none fits what nothing or an empty object fits.
pub(crate) fn auth_as<T: DeserializeOwned>(auth: Option<&str>) -> serde_json::Result<T> {
    match auth {
        Some(json) => from_json(json),
        None => serde_json::from_str("null").or_else(|_| serde_json::from_str("{}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeps(names: impl IntoIterator<Item = HeaderName>) -> Kept {
        let mut kept = Kept::default();
        kept.no_headers();
        kept.headers(names);
        kept
    }

    #[test]
    fn only_the_headers_that_were_asked_for_are_kept() {
        let request = http::Request::get("/socket.io/?EIO=4&token=a%20b")
            .header("cookie", "a=b")
            .header("x-large", "y".repeat(4_000))
            .body(())
            .unwrap();
        let (parts, ()) = request.into_parts();
        let handshake = Handshake::new(&parts, &keeps([header::COOKIE]));
        assert_eq!(handshake.headers().len(), 1);
        assert_eq!(handshake.query("token").as_deref(), Some("a b"));
        assert_eq!(handshake.query("missing"), None);
    }

    #[test]
    fn headers_that_are_named_are_kept_beside_those_of_the_default() {
        let request = http::Request::get("/")
            .header("cookie", "a=b")
            .header("x-tenant", "one")
            .body(())
            .unwrap();
        let (parts, ()) = request.into_parts();
        let mut kept = Kept::default();
        kept.headers([HeaderName::from_static("x-tenant"), header::COOKIE]);
        let names = |kept: &Kept| {
            let handshake = Handshake::new(&parts, kept);
            let names = handshake.headers().iter();
            names.map(|(name, _)| name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(&kept), ["cookie", "x-tenant"]);
        kept.no_headers();
        assert!(names(&kept).is_empty());
    }

    #[test]
    fn only_the_extensions_that_were_asked_for_are_kept() {
        let request = http::Request::get("/")
            .extension("user")
            .extension(7_u8)
            .body(())
            .unwrap();
        let (parts, ()) = request.into_parts();
        let mut kept = Kept::default();
        kept.extension::<&str>();
        kept.extension::<u32>();
        let handshake = Handshake::new(&parts, &kept);
        assert_eq!(handshake.extensions().get::<&str>(), Some(&"user"));
        assert_eq!(handshake.extensions().len(), 1);
    }

    #[test]
    fn logs_show_neither_the_query_nor_what_is_in_the_headers() {
        let request = http::Request::get("/socket.io/?EIO=4&token=secret")
            .header("cookie", "sid=secret")
            .body(())
            .unwrap();
        let (parts, ()) = request.into_parts();
        let handshake = Handshake::new(&parts, &keeps([header::COOKIE]));
        let shown = format!("{handshake:?}");
        assert!(
            shown.contains("/socket.io/") && shown.contains("cookie"),
            "{shown}"
        );
        assert!(!shown.contains("secret"), "{shown}");
    }
}
