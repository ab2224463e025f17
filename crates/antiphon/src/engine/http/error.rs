//! Why a request is refused: the code and message of docs/protocol.md 2.4 to 2.6, and a hint for
//! the person who reads it.
//!
//! Errors are made wherever a request is checked, and turned into a response in one place
//! (`answer::refuse`). Hints name options by the name that they have in code. Of the client's texts
//! a transport, an `EIO`, an origin, a method and what a payload's error quotes are repeated, in
//! JSON.

use antiphon_protocol::engine::{BadOffset, Revision, TransportKind, jsonp::CallbackError};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::{Denial, origin};

/// Why a request of the engine is refused: what the client is told, and the context of it. The
/// codes are those of the reference implementation.
///
/// [`on_connection_error`](crate::ServerBuilder::on_connection_error) is told of each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The transport is unknown, turned off, or not said. Code 0.
    #[error("Transport unknown")]
    UnknownTransport(Option<String>),
    /// No session has this id: it has ended, or lives elsewhere. Code 1.
    #[error("Session ID unknown")]
    UnknownSession,
    /// A handshake isn't a GET, or a request of a session neither GET nor POST. Code 2.
    #[error("Bad handshake method")]
    BadMethod(Method),
    /// The session uses another transport. Code 3, as all that follow up to
    /// [`JsonpOff`](Self::JsonpOff).
    #[error("Bad request")]
    TransportMismatch,
    /// Another request of this method was under way for the session.
    #[error("Bad request")]
    Overlap,
    /// A later POST has taken the place of this one.
    #[error("Bad request")]
    Superseded,
    /// The client asks for packets that aren't kept.
    #[error("Bad request")]
    BadOffset(BadOffset),
    /// This parameter of the query is no number.
    #[error("Bad request")]
    BadNumber(&'static str),
    /// A WebSocket without the headers of its handshake.
    #[error("Bad request")]
    NoUpgrade,
    /// The HTTP server in front gives no upgrades.
    #[error("Bad request")]
    UpgradeUnavailable,
    /// `Sec-WebSocket-Key` is wrong.
    #[error("Bad request")]
    BadKey,
    /// `Sec-WebSocket-Version` isn't spoken. Status 426.
    #[error("Bad request")]
    WebSocketVersion,
    /// The payload of a POST can't be decoded.
    #[error("Bad request")]
    BadPayload(String),
    /// The body of a POST can't be read.
    #[error("Bad request")]
    BodyFailed(String),
    /// The body of a POST hasn't come in time. Status 408.
    #[error("Bad request")]
    BodyTimeout,
    /// The body of a POST is larger than may be. Status 413.
    #[error("Payload too large")]
    PayloadTooLarge {
        /// Bytes that it may have.
        limit: usize,
    },
    /// The body of a POST is compressed in a way that isn't read. Status 415.
    #[error("Unsupported Content-Encoding")]
    ContentCoding {
        /// Its `Content-Encoding`.
        asked: String,
        /// Those that are read.
        accepted: &'static str,
    },
    /// The callback of JSONP is none.
    #[error("Bad request")]
    Callback(CallbackError),
    /// A [request middleware](crate::ServerBuilder::request_middleware) has given a response of its
    /// own, which the client gets.
    #[error("Bad request")]
    Middleware,
    /// The function of [`generate_id`](crate::ServerBuilder::generate_id) has failed, or what it
    /// gave can't be an id. The log says more.
    #[error("Bad request")]
    IdGeneration,
    /// The request says another revision than its session has.
    #[error("Bad request")]
    RevisionMismatch {
        /// `EIO` of the request.
        eio: String,
        /// The revision of the session.
        session: Revision,
    },
    /// The server shuts down. Status 503.
    #[error("Server is shutting down")]
    ShuttingDown,
    /// JSONP is turned off.
    #[error("JSONP is turned off")]
    JsonpOff,
    /// A script of JSONP that names no page. Code 4 with the status 403, as those that follow.
    #[error("Origin unknown")]
    NoSource,
    /// A page of another site embeds the URL.
    #[error("Origin unknown")]
    Embedded,
    /// The application refuses it by [`allow_request`](crate::ServerBuilder::allow_request). Code
    /// and status are the [`Denial`]'s.
    #[error("{0}")]
    Forbidden(Denial),
    /// Pages of this origin may not connect.
    #[error("Origin not allowed")]
    Origin(String),
    /// The revision isn't spoken, or turned off: `EIO`, if the request has it. Code 5.
    #[error("Unsupported protocol version")]
    UnsupportedRevision(Option<String>),
}

impl RequestError {
    pub(crate) const fn transport_mismatch() -> Self {
        Self::TransportMismatch
    }

    pub(crate) fn origin(headers: &HeaderMap) -> Self {
        let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
        Self::Origin(String::from_utf8_lossy(origin.unwrap_or_default()).into_owned())
    }

    /// The code of the protocol, or of the application's [`Denial`].
    #[must_use]
    pub const fn code(&self) -> u32 {
        match self {
            Self::UnknownTransport(_) => 0,
            Self::UnknownSession => 1,
            Self::BadMethod(_) => 2,
            Self::Forbidden(denial) => denial.its_code(),
            Self::Origin(_) | Self::NoSource | Self::Embedded => 4,
            Self::UnsupportedRevision(_) => 5,
            _ => 3,
        }
    }

    /// The status of the response.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Forbidden(denial) => denial.its_status(),
            Self::Origin(_) | Self::NoSource | Self::Embedded => StatusCode::FORBIDDEN,
            Self::PayloadTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            Self::ContentCoding { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::UnknownTransport(None) => {
                "the query parameter `transport` is missing: is this URL meant for a Socket.IO client?"
                    .to_owned()
            }
            Self::UnknownTransport(Some(name)) => {
                format!("the transport {name:?} is unknown or turned off by the option `transports`")
            }
            Self::UnknownSession => {
                "the session has ended, or lives in another process: with several, servers of a \
                 cluster that `advertise` their addresses pass requests on; else the load balancer \
                 must send each client's requests to the same one"
                    .to_owned()
            }
            Self::BadMethod(method) => {
                format!("{method} isn't taken: a handshake is a GET, and a session takes GET and POST")
            }
            Self::TransportMismatch => {
                let polling = TransportKind::Polling.as_str();
                format!("the session uses another transport by now, or no upgrade from {polling} was asked for")
            }
            Self::Overlap => {
                "another request of this method was under way for the session; it is closed for it"
                    .to_owned()
            }
            Self::Superseded => {
                "a later POST has taken the place of this one, which was not handled".to_owned()
            }
            Self::BadOffset(bad) => format!("{bad}; the session is closed for it"),
            Self::BadNumber(name) => {
                format!("the query parameter `{name}` is a whole number up to 2^53, of digits alone")
            }
            Self::NoUpgrade => {
                "transport=websocket needs the headers of a WebSocket handshake: a proxy may drop \
                 `Upgrade` and `Connection`"
                    .to_owned()
            }
            Self::UpgradeUnavailable => {
                "the HTTP server gives no upgrades for this request: WebSocket needs HTTP/1.1 and, \
                 under plain hyper, `with_upgrades()`"
                    .to_owned()
            }
            Self::BadKey => "the header Sec-WebSocket-Key must be 16 bytes in base64".to_owned(),
            Self::WebSocketVersion => "only version 13 of WebSocket, and 8, which is the same, are spoken".to_owned(),
            Self::BadPayload(error) => format!("the payload could not be decoded: {error}"),
            Self::BodyFailed(error) => format!("the body could not be read: {error}"),
            Self::BodyTimeout => "the body did not arrive in time".to_owned(),
            Self::PayloadTooLarge { limit } => {
                format!(
                    "the body has more than {limit} bytes: see the options `max_payload` and, for a \
                     connection that has joined no namespace yet, `max_payload_before_join`"
                )
            }
            Self::ContentCoding { asked, accepted } => {
                format!(
                    "a body with Content-Encoding: {asked:?} isn't read, but {accepted}: see the option \
                     `http_compression`, which needs the feature `deflate`"
                )
            }
            Self::Callback(error) => error.to_string(),
            Self::JsonpOff => {
                "polling without the query parameter `j` works; JSONP is allowed by the option `allow_jsonp`"
                    .to_owned()
            }
            Self::NoSource => {
                "any page can fetch a script, and this request says by no `Origin`, `Referer` or \
                 `Sec-Fetch-Site` which one does: a page that uses JSONP needs a referrer policy that \
                 sends its origin, and a program should poll without `j`"
                    .to_owned()
            }
            Self::Embedded => {
                "another site's page embeds this URL or links to it (`Sec-Fetch-Site`), and sends no \
                 `Origin`: a client in a page connects by `fetch`, XMLHttpRequest or WebSocket, which do"
                    .to_owned()
            }
            Self::Forbidden(_) => "refused by the option `allow_request`".to_owned(),
            Self::Origin(origin) => {
                let option = origin::option_for(origin);
                format!("pages of {origin:?} may not connect: allow them with the option `cors`, for example {option}")
            }
            Self::UnsupportedRevision(eio) => match eio.as_deref() {
                None => "the query parameter `EIO` is missing, which means 3 (Socket.IO 1.x or 2.x); the \
                         option `allow_eio3` or `require_eio` turns that off: use a client that says EIO=4"
                    .to_owned(),
                Some("" | "1" | "2" | "3") => {
                    "the client speaks Engine.IO 3 (Socket.IO 1.x or 2.x), which the option `allow_eio3` or `require_eio` turns off"
                        .to_owned()
                }
                Some(eio) => format!("EIO={eio:?} is not spoken: 3 or 4"),
            },
            Self::RevisionMismatch { eio, session } => {
                let spoken = match session {
                    Revision::V3 => 3,
                    Revision::V4 => 4,
                };
                format!("the session was opened with EIO={spoken}, and this request says {eio:?}")
            }
            Self::Middleware => "a request middleware of the server has answered".to_owned(),
            Self::IdGeneration => {
                "the function of the option `generate_id` gave no id that can be one: see the \
                 server's log"
                    .to_owned()
            }
            Self::ShuttingDown => "connect again in a few seconds".to_owned(),
        }
    }

    /// The body of the answer: `{"code":1,"message":"…","hint":"…"}`.
    pub(crate) fn to_json(&self) -> String {
        #[derive(serde::Serialize)]
        struct Body {
            code: u32,
            message: String,
            hint: String,
        }
        let body = Body {
            code: self.code(),
            message: self.to_string(),
            hint: self.hint(),
        };
        // Numbers and texts: nothing that could fail.
        serde_json::to_string(&body).unwrap_or_default()
    }
}
