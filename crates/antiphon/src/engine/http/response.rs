//! Responses: how what the transports give (a payload, a stream, a refusal) becomes status, headers
//! and body.
//!
//! The routes in `http` call these functions; nothing is kept. [`EngineBody`] is the body for every
//! HTTP server: whole, in parts as they are read, or an event stream that is polled for its next
//! part. Content types are those of docs/protocol.md 2.5, 5.8, 7.4 and 13.1; CORS is added by
//! `http::respond_to`.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

#[cfg(feature = "deflate")]
use antiphon_protocol::content_coding::{ContentCoding, Encoder};
use antiphon_protocol::engine::{jsonp::Callback, payload::Payload};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS},
};
use http_body::{Body, Frame, SizeHint};

use super::{denial::Denial, error::RequestError, relay::Passed};
use crate::engine::{
    Session,
    transport::streaming::EventStream,
    transport::unread::{Next, PART, Reading},
};

/// The answer to a request of the engine.
pub(crate) type EngineResponse = Response<EngineBody>;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=UTF-8");
pub(super) const HTML: HeaderValue = HeaderValue::from_static("text/html");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BINARY: HeaderValue = HeaderValue::from_static(BYTES);
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// The type of a binary payload of revision 3.
pub(super) const BYTES: &str = "application/octet-stream";

/// The body of an answer of the engine.
pub struct EngineBody(Kind);

enum Kind {
    /// Until it is taken.
    Whole(Bytes),
    Parts(Parts),
    Stream(Box<EventStream>),
    /// Another server's.
    Passed(Box<Passed>),
}

/// The type that a browser takes a script in if it is told not to guess.
const SCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=UTF-8");

/// The large answer of a session, which leaves in parts.
struct Parts {
    session: Arc<Session>,
    reading: Reading,
    left: usize,
    /// Compresses it as it leaves.
    #[cfg(feature = "deflate")]
    encoder: Option<Encoder>,
}

impl Parts {
    /// The next part. Where the rest is forgotten, that is an error: the connection is closed.
    fn next(&mut self) -> Option<io::Result<Bytes>> {
        match self.reading.unread().next() {
            Next::Part(part) => {
                self.left -= part.len();
                Some(Ok(self.encoded(part)))
            }
            Next::End => None,
            Next::Forgotten => Some(Err(io::ErrorKind::TimedOut.into())),
        }
    }

    #[cfg(feature = "deflate")]
    fn encoded(&mut self, part: Bytes) -> Bytes {
        match &mut self.encoder {
            Some(encoder) => encoder.encode(&part, self.left == 0).into(),
            None => part,
        }
    }

    #[cfg(not(feature = "deflate"))]
    #[allow(clippy::unused_self)]
    fn encoded(&mut self, part: Bytes) -> Bytes {
        part
    }

    /// Its length, if that is known.
    fn size_hint(&self) -> SizeHint {
        #[cfg(feature = "deflate")]
        if self.encoder.is_some() {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.left as u64)
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.session.end_answer(&self.reading);
    }
}

impl EngineBody {
    /// The body of an answer of this session.
    fn of_session(session: &Arc<Session>, bytes: Bytes) -> Self {
        if bytes.len() <= PART {
            return bytes.into();
        }
        Self(Kind::Parts(Parts {
            left: bytes.len(),
            session: Arc::clone(session),
            reading: session.begin_answer(bytes),
            #[cfg(feature = "deflate")]
            encoder: None,
        }))
    }

    /// Its bytes before they are compressed, if they are there.
    #[cfg(feature = "deflate")]
    pub(super) fn length(&self) -> Option<usize> {
        match &self.0 {
            Kind::Whole(body) => Some(body.len()),
            Kind::Parts(parts) => Some(parts.left),
            Kind::Stream(_) | Kind::Passed(_) => None,
        }
    }

    /// Compresses it, or does so as it leaves. Returns `false` if that would gain nothing.
    #[cfg(feature = "deflate")]
    pub(super) fn compress(&mut self, coding: ContentCoding) -> bool {
        match &mut self.0 {
            Kind::Whole(body) => {
                let encoded = Encoder::new(coding).encode(body, true);
                let is_shorter = encoded.len() < body.len();
                if is_shorter {
                    *body = encoded.into();
                }
                is_shorter
            }
            Kind::Parts(parts) => {
                parts.encoder = Some(Encoder::new(coding));
                true
            }
            Kind::Stream(_) | Kind::Passed(_) => false,
        }
    }

    /// The body of an answer that another server gives.
    pub(super) fn passed_on(body: Passed) -> Self {
        Self(Kind::Passed(Box::new(body)))
    }
}

impl From<Bytes> for EngineBody {
    fn from(body: Bytes) -> Self {
        Self(Kind::Whole(body))
    }
}

impl Body for EngineBody {
    type Data = Bytes;
    /// Of a session that another server has, or of a response that isn't read.
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Kind::Whole(body) if body.is_empty() => Poll::Ready(None),
            Kind::Whole(body) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(body))))),
            Kind::Parts(parts) => Poll::Ready(parts.next().map(|part| part.map(Frame::data))),
            Kind::Stream(stream) => {
                let next = stream.poll_next(context);
                next.map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
            }
            Kind::Passed(body) => Pin::new(&mut **body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(body) => body.is_empty(),
            Kind::Parts(parts) => parts.left == 0,
            Kind::Stream(_) => false,
            Kind::Passed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(body) => SizeHint::with_exact(body.len() as u64),
            Kind::Parts(parts) => parts.size_hint(),
            Kind::Stream(_) => SizeHint::default(),
            Kind::Passed(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for EngineBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineBody").finish_non_exhaustive()
    }
}

/// The answer that stays open. No proxy shall keep it back, change it or store it.
pub(super) fn stream_response(stream: EventStream) -> EngineResponse {
    let mut answer = Response::new(EngineBody(Kind::Stream(Box::new(stream))));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, EVENT_STREAM);
    let cache = HeaderValue::from_static("no-store, no-transform");
    headers.insert(CACHE_CONTROL, cache);
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    answer
}

pub(super) fn answer(
    status: StatusCode,
    content_type: Option<HeaderValue>,
    body: impl Into<EngineBody>,
) -> EngineResponse {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    if let Some(content_type) = content_type {
        answer.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    answer
}

/// A payload, which ends with its session if that is there still.
pub(super) fn payload_response(
    session: Option<&Arc<Session>>,
    payload: Payload,
    callback: Option<Callback>,
) -> EngineResponse {
    let body = |bytes: Bytes| match session {
        Some(session) => EngineBody::of_session(session, bytes),
        None => bytes.into(),
    };
    if let Some(callback) = callback {
        return script_response(body(callback.script(&payload.body).into()));
    }
    let content_type = if payload.binary { BINARY } else { TEXT };
    let body = body(payload.body.into());
    let mut answer = answer(StatusCode::OK, Some(content_type), body);
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, NO_STORE);
    answer
}

/// A payload as a script (JSONP).
fn script_response(script: EngineBody) -> EngineResponse {
    let mut answer = answer(StatusCode::OK, Some(SCRIPT), script);
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

pub(super) fn refuse(error: &RequestError) -> EngineResponse {
    let mut answer = answer(error.status(), None, Bytes::from(error.to_json()));
    add_headers(error, answer.headers_mut());
    answer
}

impl From<Denial> for Response<Bytes> {
    /// The refusal as its client gets it: for a request middleware.
    fn from(denial: Denial) -> Self {
        let error = RequestError::Forbidden(denial);
        let mut response = Self::new(error.to_json().into());
        *response.status_mut() = error.status();
        add_headers(&error, response.headers_mut());
        response
    }
}

/// The headers of a refusal.
fn add_headers(error: &RequestError, headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CACHE_CONTROL, NO_STORE);
    match error {
        RequestError::ShuttingDown => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        RequestError::ContentCoding { accepted, .. } => {
            let accepted = HeaderValue::from_static(accepted);
            headers.insert(http::header::ACCEPT_ENCODING, accepted);
        }
        RequestError::WebSocketVersion => {
            let version = HeaderValue::from_static("13, 8");
            headers.insert(http::header::SEC_WEBSOCKET_VERSION, version);
        }
        _ => {}
    }
}
