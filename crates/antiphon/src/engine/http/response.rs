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

use antiphon_protocol::engine::{jsonp::Callback, payload::Payload};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS},
};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use super::{error::RequestError, relay::Passed};
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
    Whole(Full<Bytes>),
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
}

impl Parts {
    fn next(&mut self) -> Option<Bytes> {
        // Where the rest is forgotten, the body is shorter than was said: the connection is closed.
        match self.reading.unread().next() {
            Next::Part(part) => {
                self.left -= part.len();
                Some(part)
            }
            Next::End | Next::Forgotten => None,
        }
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
        }))
    }

    /// The body of an answer that another server gives.
    pub(super) fn passed_on(body: Passed) -> Self {
        Self(Kind::Passed(Box::new(body)))
    }
}

impl From<Bytes> for EngineBody {
    fn from(body: Bytes) -> Self {
        Self(Kind::Whole(Full::new(body)))
    }
}

impl Body for EngineBody {
    type Data = Bytes;
    /// Only of a session that another server has.
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Kind::Whole(body) => {
                let next = Pin::new(body).poll_frame(context);
                next.map(|frame| frame.map(|frame| frame.map_err(|never| match never {})))
            }
            Kind::Parts(parts) => Poll::Ready(parts.next().map(|part| Ok(Frame::data(part)))),
            Kind::Stream(stream) => {
                let next = stream.poll_next(context);
                next.map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
            }
            Kind::Passed(body) => Pin::new(&mut **body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(body) => body.is_end_stream(),
            Kind::Parts(parts) => parts.left == 0,
            Kind::Stream(_) => false,
            Kind::Passed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(body) => body.size_hint(),
            Kind::Parts(parts) => SizeHint::with_exact(parts.left as u64),
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

/// The headers of a refusal.
pub(super) fn add_headers(error: &RequestError, headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CACHE_CONTROL, NO_STORE);
    match error {
        RequestError::ShuttingDown => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        RequestError::WebSocketVersion => {
            let version = HeaderValue::from_static("13, 8");
            headers.insert(http::header::SEC_WEBSOCKET_VERSION, version);
        }
        _ => {}
    }
}
