//! The options of the engine, and their defaults.
//!
//! An [`EngineConfig`] is filled in by the user or by the [`ServerBuilder`](crate::ServerBuilder),
//! and owned by the [`Engine`](super::Engine), which bounds its durations once and never changes it
//! afterwards. Sessions share the part that their machine looks at (`session`). Options that can't
//! work are refused where they are set: here nothing fails.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

#[cfg(feature = "deflate")]
use antiphon_protocol::websocket::deflate::{self, Level};
use antiphon_protocol::{
    engine::{Compression, QueueLimits, Revision, SessionConfig, TransportKind},
    websocket::deflate::Window,
};
use bytes::Bytes;
#[cfg(feature = "deflate")]
use http::header::SEC_WEBSOCKET_EXTENSIONS;
use http::{HeaderMap, HeaderName, HeaderValue, Response, request::Parts};

use super::hooks::Hooks;
use crate::engine::{Cookie, Cors, Denial, HttpRequest, Packet, RequestError, Session};

type AllowRequest =
    dyn Fn(Parts) -> Pin<Box<dyn Future<Output = Result<(), Denial>> + Send>> + Send + Sync;

/// Makes the id of the session that a request opens.
pub(super) type GenerateId =
    dyn Fn(Parts) -> Pin<Box<dyn Future<Output = Result<String, IdError>> + Send>> + Send + Sync;

/// Headers that each response says for itself.
const OF_THE_PROTOCOL: [&str; 6] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "transfer-encoding",
    "upgrade",
];

/// What an application's function may fail with.
type IdError = Box<dyn std::error::Error + Send + Sync>;

/// A message that each client gets first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InitialPacket {
    /// A text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
}

/// No deadline is further away than this: 12 days.
pub(crate) const LONGEST: Duration = Duration::from_secs(12 * 24 * 3600);

/// Nor is one always due: a driver would never rest.
const SHORTEST: Duration = Duration::from_millis(1);

/// The options of an [`Engine`](super::Engine), with Socket.IO's defaults. A duration of more than
/// 12 days counts as 12 days, one of less than 1 ms as 1 ms.
///
/// A server of Socket.IO has the same options on its [builder](crate::ServerBuilder).
#[derive(Clone)]
#[non_exhaustive]
pub struct EngineConfig {
    /// Time between two heartbeats. 25 s.
    pub ping_interval: Duration,
    /// How long the answer to a heartbeat may take. 20 s.
    pub ping_timeout: Duration,
    /// How long an upgrade to another transport may take; after that the session stays on the one
    /// that it has. 10 s.
    pub upgrade_timeout: Duration,
    /// How long a closing session waits for its last packets to be fetched. 30 s.
    pub close_timeout: Duration,
    /// Bytes that one message (WebSocket) or one POST (polling) may have. 1,000,000.
    pub max_payload: usize,
    /// The same until the application has [admitted](super::Session::admit) the session, if it is
    /// less. No bound of its own: an application that admits none takes messages of every size.
    pub max_payload_before_join: usize,
    /// Packets that one POST may have. 10,000.
    pub max_packets_per_payload: usize,
    /// Packets that the response of one poll may have, one at least; others go with the next. Any
    /// number, but 16 for clients in Python, which close the connection for more.
    pub max_packets_per_poll: usize,
    /// What may wait for a slow reader. 16,384 packets, 16 MiB; 8 times as much for one that goes on
    /// taking it.
    pub outbound: QueueLimits,
    /// Bytes that may wait for all clients together: beyond that those with most are cut. 1 GiB.
    pub outbound_budget: usize,
    /// Messages of so many bytes and more are compressed where a client's WebSocket takes that.
    /// `None`: nothing is compressed.
    #[cfg(feature = "deflate")]
    pub compression_threshold: Option<u32>,
    /// How much work is made of that. The fastest level.
    #[cfg(feature = "deflate")]
    pub compression_level: Level,
    /// Responses to polls and the like of so many bytes and more are compressed where their client
    /// takes that, and POSTs may be compressed. 1,024; `None`: neither.
    #[cfg(feature = "deflate")]
    pub http_compression: Option<usize>,
    /// Whether the forms of its messages are [transcoded](antiphon_protocol::engine::Form).
    pub(crate) is_transcoded: bool,
    /// Bytes after which a streamed response ends, and its client asks for the next. 256 KiB.
    pub max_stream_bytes: usize,
    /// Transports that are offered. Polling and WebSocket: streaming is for clients that know it.
    pub transports: Vec<TransportKind>,
    /// Whether upgrades from polling (and streaming) are advertised. True.
    pub allow_upgrades: bool,
    /// Whether clients of revision 3 (Socket.IO 1.x and 2.x) are taken. True.
    pub allow_eio3: bool,
    /// Whether a handshake must say its revision (`EIO`) as 3 or 4. `false`: one that is missing,
    /// or before 3, counts as 3 (docs/protocol.md 2.9).
    pub require_eio: bool,
    /// Whether polling by JSONP (`j` in the query) is taken. True.
    pub allow_jsonp: bool,
    /// Whether `transport=flashsocket` is taken for WebSocket. False.
    pub allow_flashsocket: bool,
    /// Which web pages may connect. Those of the same origin.
    pub cors: Cors,
    /// The cookie of a handshake over polling. None.
    pub cookie: Option<Cookie>,
    /// A message that each client gets before all others. None. For applications of the engine
    /// itself: clients of Socket.IO take it for a packet of theirs. By polling it comes with the
    /// first poll.
    pub initial_packet: Option<InitialPacket>,
    pub(super) allow_request: Option<Arc<AllowRequest>>,
    pub(super) generate_id: Option<Arc<GenerateId>>,
    /// Boxed, and none mostly: every request looks at it.
    pub(super) hooks: Option<Box<Hooks>>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            upgrade_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(30),
            max_payload: 1_000_000,
            max_payload_before_join: usize::MAX,
            max_packets_per_payload: 10_000,
            max_packets_per_poll: usize::MAX,
            outbound: QueueLimits::default(),
            outbound_budget: 1 << 30,
            #[cfg(feature = "deflate")]
            compression_threshold: None,
            #[cfg(feature = "deflate")]
            compression_level: Level::default(),
            #[cfg(feature = "deflate")]
            http_compression: Some(1_024),
            is_transcoded: false,
            max_stream_bytes: 256 << 10,
            transports: vec![TransportKind::Polling, TransportKind::WebSocket],
            allow_upgrades: true,
            allow_eio3: true,
            require_eio: false,
            allow_jsonp: true,
            allow_flashsocket: false,
            cors: Cors::default(),
            cookie: None,
            initial_packet: None,
            allow_request: None,
            generate_id: None,
            hooks: None,
        }
    }
}

impl EngineConfig {
    /// Asks `allow` once a session, before it is made; its error is what the client is told
    /// ([`Denial`]: by default code 4, status 403). Requests of a session that exists aren't asked about.
    ///
    /// It is an async closure or function, and gets a copy of the request's head.
    pub fn allow_request<F, Fut>(&mut self, allow: F)
    where
        F: Fn(Parts) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Denial>> + Send + 'static,
    {
        self.allow_request = Some(Arc::new(move |request| Box::pin(allow(request))));
    }

    /// As [`ServerBuilder::generate_id`](crate::ServerBuilder::generate_id).
    pub fn generate_id<F, Fut>(&mut self, generate: F)
    where
        F: Fn(Parts) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, IdError>> + Send + 'static,
    {
        self.generate_id = Some(Arc::new(move |request| Box::pin(generate(request))));
    }

    /// As [`ServerBuilder::request_middleware`](crate::ServerBuilder::request_middleware).
    pub fn request_middleware<F, Fut>(&mut self, middleware: F)
    where
        F: Fn(HttpRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<HttpRequest, Response<Bytes>>> + Send + 'static,
    {
        self.hooks().add_middleware(middleware);
    }

    /// As [`ServerBuilder::on_connection_error`](crate::ServerBuilder::on_connection_error).
    pub fn on_connection_error(
        &mut self,
        observe: impl Fn(&RequestError, &Parts) + Send + Sync + 'static,
    ) {
        self.hooks().add_refusals(observe);
    }

    /// As [`ServerBuilder::on_initial_headers`](crate::ServerBuilder::on_initial_headers).
    pub fn on_initial_headers(
        &mut self,
        change: impl Fn(&mut HeaderMap, &Parts) + Send + Sync + 'static,
    ) {
        self.hooks().add_initial_headers(change);
    }

    /// As [`ServerBuilder::on_headers`](crate::ServerBuilder::on_headers).
    pub fn on_headers(&mut self, change: impl Fn(&mut HeaderMap, &Parts) + Send + Sync + 'static) {
        self.hooks().add_headers(change);
    }

    /// As [`ServerBuilder::response_header`](crate::ServerBuilder::response_header).
    ///
    /// # Panics
    /// As there.
    pub fn response_header(&mut self, name: HeaderName, value: HeaderValue) {
        let is_of_the_protocol = OF_THE_PROTOCOL.contains(&name.as_str())
            || name.as_str().starts_with("sec-websocket-")
            || name.as_str().starts_with("access-control-");
        assert!(
            !is_of_the_protocol,
            "the header {name} is said by the server itself, with each response's own value: leave it \
             out; headers of CORS are options of `cors`"
        );
        self.hooks().add_response_header(name, value);
    }

    /// As [`ServerBuilder::on_packet`](crate::ServerBuilder::on_packet).
    pub fn on_packet(&mut self, observe: impl Fn(&Session, &Packet<'_>) + Send + Sync + 'static) {
        self.hooks().add_packets(observe);
    }

    /// As [`ServerBuilder::on_outgoing_packet`](crate::ServerBuilder::on_outgoing_packet).
    pub fn on_outgoing_packet(
        &mut self,
        observe: impl Fn(&Session, &Packet<'_>) + Send + Sync + 'static,
    ) {
        self.hooks().add_outgoing_packets(observe);
    }

    fn hooks(&mut self) -> &mut Hooks {
        self.hooks.get_or_insert_default()
    }

    /// Keeps "for ever" from overflowing the clock, and a sum of two from overflowing the timers of
    /// JavaScript (2^31 ms, 24 days): a client would take it for no time at all.
    pub(super) fn bound_durations(&mut self) {
        for duration in [
            &mut self.ping_interval,
            &mut self.ping_timeout,
            &mut self.upgrade_timeout,
            &mut self.close_timeout,
        ] {
            *duration = (*duration).clamp(SHORTEST, LONGEST);
        }
    }

    /// Bytes that a message may have.
    pub(super) fn payload_of(&self, is_admitted: bool) -> usize {
        match is_admitted {
            true => self.max_payload,
            false => self.max_payload.min(self.max_payload_before_join),
        }
    }

    /// How long a client may show no sign of life: also what it may take for anything else that it
    /// has begun.
    pub(crate) fn longest_silence(&self) -> Duration {
        self.ping_interval + self.ping_timeout
    }

    /// How long nothing at all may come of a request that waits, or of an open connection: the
    /// longest silence, once a heartbeat has just gone by.
    pub(super) fn longest_wait(&self) -> Duration {
        self.longest_silence() + self.ping_interval
    }

    /// What a session's machine needs of them.
    pub(super) fn session(&self) -> SessionConfig {
        SessionConfig {
            ping_interval: self.ping_interval,
            ping_timeout: self.ping_timeout,
            upgrade_timeout: self.upgrade_timeout,
            close_timeout: self.close_timeout,
            queue: self.outbound,
            packets_per_poll: self.max_packets_per_poll.max(1),
        }
    }

    /// What the server agrees on of the extensions that the client of a WebSocket offers, and says
    /// so in this header.
    #[cfg(feature = "deflate")]
    pub(crate) fn agree(&self, headers: &HeaderMap) -> Option<(Window, HeaderValue)> {
        self.compression_threshold?;
        let offers = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter();
        let agreement = deflate::negotiate(offers.filter_map(|offer| offer.to_str().ok()))?;
        let response = HeaderValue::from_static(agreement.response);
        Some((agreement.window, response))
    }

    /// No extension is spoken.
    #[cfg(not(feature = "deflate"))]
    pub(crate) fn agree(&self, _: &HeaderMap) -> Option<(Window, HeaderValue)> {
        None
    }

    /// The compression for a window of so many bits.
    #[cfg(feature = "deflate")]
    pub(crate) fn compression_of(&self, bits: u8) -> Option<Compression> {
        let window = Window::from_bits(bits)?;
        let threshold = self.compression_threshold?;
        Some(Compression {
            window,
            threshold,
            level: self.compression_level,
        })
    }

    #[cfg(not(feature = "deflate"))]
    pub(crate) const fn compression_of(&self, _: u8) -> Option<Compression> {
        None
    }

    /// The upgrades that a session on `transport` is offered.
    pub(super) fn upgrades(
        &self,
        transport: TransportKind,
        revision: Revision,
    ) -> &'static [&'static str] {
        let offers = |kind| self.allow_upgrades && self.transports.contains(&kind);
        let streaming = transport == TransportKind::Polling
            && revision.dialect().may_stream
            && offers(TransportKind::Streaming);
        let websocket = transport != TransportKind::WebSocket && offers(TransportKind::WebSocket);
        if websocket && self.allow_flashsocket && revision.dialect().has_flash_sockets {
            return &["websocket", "flashsocket"];
        }
        match (websocket, streaming) {
            (true, true) => &["websocket", "streaming"],
            (true, false) => &["websocket"],
            (false, true) => &["streaming"],
            (false, false) => &[],
        }
    }
}

impl fmt::Debug for EngineConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineConfig")
            .field("ping_interval", &self.ping_interval)
            .field("ping_timeout", &self.ping_timeout)
            .field("max_payload", &self.max_payload)
            .field("transports", &self.transports)
            .finish_non_exhaustive()
    }
}
