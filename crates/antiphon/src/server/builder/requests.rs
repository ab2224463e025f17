//! The options of a server that are about its HTTP requests: what is kept of them, the functions of
//! the application that see them, compression, and the client's files.
//!
//! As all options they are collected by the [`ServerBuilder`], and those that can't work panic
//! here. The functions are called by the engine: see its module `hooks`.

use std::{error::Error, future::Future};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, request::Parts};

use super::ServerBuilder;
use crate::engine::{Denial, HttpRequest, Packet, RequestError, Session};
use crate::server::ClientFiles;

impl ServerBuilder {
    /// Asks `allow` about the request that opens a connection; its error is what the client is told
    /// ([`Denial`]: a message, and by default code 4 with the status 403). The future is dropped if the client goes away before it is ready.
    ///
    /// It is an async closure or function, and gets a copy of the request's head
    /// (`http::request::Parts`).
    ///
    /// ```
    /// use antiphon::Server;
    ///
    /// let io = Server::builder()
    ///     .allow_request(async |request| match request.headers.get("x-api-key") {
    ///         Some(key) if key == "secret" => Ok(()),
    ///         _ => Err("the header X-Api-Key is missing or wrong".into()),
    ///     })
    ///     .build();
    /// ```
    ///
    /// An async closure must not own what it captures: write `move |request| { let it = it.clone();
    /// async move { .. } }` then.
    #[doc(alias = "allowRequest")]
    pub fn allow_request<F, Fut>(mut self, allow: F) -> Self
    where
        F: Fn(Parts) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Denial>> + Send + 'static,
    {
        self.engine.allow_request(allow);
        self
    }

    /// Gives every request below the [path](Self::path) to `middleware` before all else: handshakes,
    /// polls, POSTs, preflights, WebSockets and calls by HTTP. It gives the request back, changed
    /// maybe, or the response to it. Several are asked in the order in which they were added.
    ///
    /// ```
    /// use antiphon::{Denial, Server};
    /// use http::HeaderValue;
    ///
    /// #[derive(Clone)]
    /// struct User(String);
    /// # async fn user_of(_: Option<&HeaderValue>) -> Option<User> { None }
    ///
    /// let io = Server::builder()
    ///     .request_middleware(async |mut request| {
    ///         let Some(user) = user_of(request.headers().get("cookie")).await else {
    ///             return Err(Denial::new("log in first").into()); // or any http::Response<Bytes>
    ///         };
    ///         request.extensions_mut().insert(user);
    ///         let server = HeaderValue::from_static("chat");
    ///         request.response_headers_mut().insert("server", server);
    ///         Ok(request)
    ///     })
    ///     .handshake_extension::<User>()
    ///     .build();
    /// ```
    ///
    /// The future is dropped if the client goes away. There is no deadline: one that waits for
    /// something else should have its own. In a cluster that passes requests on, each server on the
    /// way asks its own.
    pub fn request_middleware<F, Fut>(mut self, middleware: F) -> Self
    where
        F: Fn(HttpRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<HttpRequest, Response<Bytes>>> + Send + 'static,
    {
        self.engine.request_middleware(middleware);
        self
    }

    /// Tells `observe` of every request that is refused: why, with the code, and the head of the
    /// request. It is called before the response leaves, and must not block.
    ///
    /// ```
    /// use antiphon::{RequestError, Server};
    ///
    /// let io = Server::builder()
    ///     .on_connection_error(|error, request| match error {
    ///         RequestError::Origin(origin) => eprintln!("a page of {origin} wants in"),
    ///         other => eprintln!("{} refused: {} {other}", request.method, other.code()),
    ///     })
    ///     .build();
    /// ```
    #[doc(alias = "connection_error")]
    pub fn on_connection_error(
        mut self,
        observe: impl Fn(&RequestError, &Parts) + Send + Sync + 'static,
    ) -> Self {
        self.engine.on_connection_error(observe);
        self
    }

    /// Lets `change` add and change headers of the response that opens a session: of a handshake
    /// by polling, or the 101 of a WebSocket. What the protocol needs must stay: the headers of the
    /// 101, and `Content-Type`. It must not block.
    ///
    /// ```
    /// use antiphon::Server;
    /// use http::HeaderValue;
    ///
    /// let io = Server::builder()
    ///     .on_initial_headers(|headers, _request| {
    ///         headers.append("set-cookie", HeaderValue::from_static("seen=1"));
    ///     })
    ///     .build();
    /// ```
    #[doc(alias = "initial_headers")]
    pub fn on_initial_headers(
        mut self,
        change: impl Fn(&mut HeaderMap, &Parts) + Send + Sync + 'static,
    ) -> Self {
        self.engine.on_initial_headers(change);
        self
    }

    /// As [`on_initial_headers`](Self::on_initial_headers), for every response below the
    /// [path](Self::path), refusals included.
    #[doc(alias = "headers")]
    pub fn on_headers(
        mut self,
        change: impl Fn(&mut HeaderMap, &Parts) + Send + Sync + 'static,
    ) -> Self {
        self.engine.on_headers(change);
        self
    }

    /// Adds a header to every response, refusals and the 101 of a WebSocket included: where no layer
    /// or proxy is in front that does. Under axum or hyper these are the responses below the
    /// [path](Self::path); on the server's own listener also those of an app, unless it says the
    /// header itself, and the 404 of other paths.
    ///
    /// ```
    /// use antiphon::Server;
    /// use http::{HeaderValue, header};
    ///
    /// let age = HeaderValue::from_static("max-age=31536000");
    /// let io = Server::builder()
    ///     .response_header(header::STRICT_TRANSPORT_SECURITY, age)
    ///     .build();
    /// ```
    ///
    /// # Panics
    /// For a header that the protocol needs, as `Content-Type`, and for those of CORS.
    pub fn response_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.engine.response_header(name, value);
        self
    }

    /// Tells `observe` of every packet of Engine.IO that comes in a session: messages and
    /// heartbeats, before they are handled. It must not block, and what it costs is paid for each
    /// packet.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use antiphon::{Server, engine::{Message, Packet}};
    ///
    /// static RECEIVED: AtomicU64 = AtomicU64::new(0);
    ///
    /// let io = Server::builder()
    ///     .on_packet(|_session, packet| {
    ///         if let Packet::Message(Message::Text(text)) = packet {
    ///             RECEIVED.fetch_add(text.len() as u64, Ordering::Relaxed);
    ///         }
    ///     })
    ///     .build();
    /// ```
    #[doc(alias = "packet")]
    pub fn on_packet(
        mut self,
        observe: impl Fn(&Session, &Packet<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.engine.on_packet(observe);
        self
    }

    /// As [`on_packet`](Self::on_packet), of every message that has been queued for a client, with
    /// its attachments; heartbeats and the like aren't told. A broadcast that costs little for many
    /// receivers, since it is written once, is told for each of them then.
    #[doc(alias = "packetCreate")]
    pub fn on_outgoing_packet(
        mut self,
        observe: impl Fn(&Session, &Packet<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.engine.on_outgoing_packet(observe);
        self
    }

    /// Makes the ids of sessions by a function: 20 characters of `A-Z a-z 0-9 - _`. The id of a
    /// session is its credential, so make it of as much randomness as the default has, 120 bits. In
    /// a cluster that needs no sticky sessions the last six characters give way to those that name
    /// the server.
    ///
    /// If the function fails, or gives an id of another form or of a session that there is, the
    /// handshake is refused with code 3 and the log says why.
    ///
    /// ```
    /// # fn random_text(_length: usize) -> String { String::new() }
    /// let io = antiphon::Server::builder()
    ///     .generate_id(async |_request| Ok(format!("eu1-{}", random_text(16))))
    ///     .build();
    /// ```
    #[doc(alias = "generateId")]
    pub fn generate_id<F, Fut>(mut self, generate: F) -> Self
    where
        F: Fn(Parts) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        self.engine.generate_id(generate);
        self
    }

    /// More headers of the opening request that a [`Handshake`](crate::Handshake) keeps, as long as
    /// the connection lives, beside Authorization, Cookie, Origin, User-Agent and X-Forwarded-For.
    ///
    /// ```
    /// use antiphon::Server;
    /// use http::HeaderName;
    ///
    /// let io = Server::builder()
    ///     .handshake_headers([HeaderName::from_static("x-tenant")])
    ///     .build();
    /// ```
    pub fn handshake_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.kept.headers(names);
        self
    }

    /// Keeps none of the headers that are kept by default, nor of those that were named before:
    /// idle connections take less memory.
    pub fn no_handshake_headers(mut self) -> Self {
        self.kept.no_headers();
        self
    }

    /// Keeps the extension of this type that the opening request has, as long as the connection
    /// lives: what a layer of tower or axum, or a
    /// [request middleware](Self::request_middleware), has put into it. Handlers find it in
    /// [`Handshake::extensions`](crate::Handshake::extensions). Others are forgotten with the
    /// request.
    pub fn handshake_extension<T: Clone + Send + Sync + 'static>(mut self) -> Self {
        self.kept.extension::<T>();
        self
    }

    /// Serves the client's JavaScript to browsers, as Node does: `socket.io.js`, `socket.io.min.js`,
    /// `socket.io.esm.min.js` and `socket.io.msgpack.min.js` below the [path](Self::path), with their
    /// source maps. Off. The files are those of the package `socket.io-client`, read from a
    /// [folder](ClientFiles::folder) or [embedded](crate::client_files) in the program.
    #[doc(alias = "serveClient")]
    pub fn serve_client(mut self, files: ClientFiles) -> Self {
        self.client_files = Some(files);
        self
    }

    /// Compresses responses of so many bytes and more, polls mostly, by gzip or deflate where their
    /// client takes that (`Accept-Encoding`), and inflates POSTs that say that they are compressed
    /// (`Content-Encoding`), up to [`max_payload`](Self::max_payload) bytes. With the feature
    /// `deflate` it is on, from 1,024 bytes as in Node; `None` turns both off. Without the feature, and
    /// for other codings, a compressed POST is refused with 415.
    ///
    /// ```
    /// let io = antiphon::Server::builder().http_compression(10_000).build();
    /// let io = antiphon::Server::builder().http_compression(None).build();
    /// ```
    ///
    /// A response that leaves in parts is compressed part by part, so that no connection owns memory
    /// for it. Streams aren't compressed: proxies would hold them back.
    #[cfg(feature = "deflate")]
    #[doc(alias = "httpCompression")]
    pub fn http_compression(mut self, threshold: impl Into<Option<usize>>) -> Self {
        self.engine.http_compression = threshold.into();
        self
    }
}
