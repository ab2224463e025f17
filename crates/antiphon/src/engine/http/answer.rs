//! What a request is answered with.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use antiphon_protocol::engine::{jsonp::Callback, payload::Payload};
use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use super::{error::RequestError, jsonp};
use crate::engine::streaming::EventStream;

/// The answer to a request of the engine.
pub(crate) type Answer = Response<EngineBody>;

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
    Stream(Box<EventStream>),
}

impl From<Bytes> for EngineBody {
    fn from(body: Bytes) -> Self {
        Self(Kind::Whole(Full::new(body)))
    }
}

impl Body for EngineBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Kind::Whole(body) => Pin::new(body).poll_frame(context),
            Kind::Stream(stream) => {
                let next = stream.poll_next(context);
                next.map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(body) => body.is_end_stream(),
            Kind::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(body) => body.size_hint(),
            Kind::Stream(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for EngineBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineBody").finish_non_exhaustive()
    }
}

/// The answer that stays open. No proxy shall keep it back, change it or store it.
pub(super) fn stream_answer(stream: EventStream) -> Answer {
    let mut answer = Response::new(EngineBody(Kind::Stream(Box::new(stream))));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, EVENT_STREAM);
    let cache = HeaderValue::from_static("no-store, no-transform");
    headers.insert(CACHE_CONTROL, cache);
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    answer
}

pub(super) fn answer(status: StatusCode, content_type: Option<HeaderValue>, body: Bytes) -> Answer {
    let mut answer = Response::new(EngineBody::from(body));
    *answer.status_mut() = status;
    if let Some(content_type) = content_type {
        answer.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    answer
}

pub(super) fn payload_answer(payload: Payload, callback: Option<Callback>) -> Answer {
    if let Some(callback) = callback {
        return jsonp::answer(callback, &payload.body);
    }
    let content_type = if payload.binary { BINARY } else { TEXT };
    let mut answer = answer(StatusCode::OK, Some(content_type), payload.body.into());
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, NO_STORE);
    answer
}

pub(super) fn refuse(error: &RequestError) -> Answer {
    let body = Bytes::from(error.to_json());
    let mut answer = answer(error.status(), Some(JSON), body);
    let headers = answer.headers_mut();
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
    answer
}
