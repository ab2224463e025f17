//! Why a call is answered with an error: `{"code","message","hint"}` and a status, for programs and
//! for people.
//!
//! One enum has all: the address, the body, the checks of the engine, refusals of middlewares,
//! rejections of handlers, and time. Each case has one code, one status and one hint. What
//! middlewares and extractors say goes along as `data` and `path`.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde::Serialize;
use serde_json::Value;

use crate::engine::RequestError;
use crate::server::{ConnectError, Rejection};

/// A call that is answered with an error.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CallError {
    #[error("the path can't be read")]
    BadPath,
    #[error("the path names no event")]
    NoEvent,
    #[error("there is no namespace {0:?}")]
    UnknownNamespace(String),
    #[error("no handler for the event {1:?} in the namespace {0:?}")]
    UnknownEvent(String, String),
    #[error("{method} isn't answered here")]
    Method {
        method: Method,
        allowed: &'static str,
    },
    #[error("the body isn't said to be JSON")]
    MediaType,
    #[error("the body is no list of arguments: {0}")]
    Arguments(String),
    #[error("the header Antiphon-Auth can't be read: {0}")]
    AuthHeader(String),
    #[error("{}", .0.message)]
    Refused(ConnectError),
    #[error(transparent)]
    Rejected(Rejection),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("too many calls run already")]
    TooManyCalls,
    #[error("too many calls of this caller run already")]
    CallerLimit,
    #[error("the answer holds binary data, which has no form in JSON")]
    BinaryAnswer,
    #[error("the handler hasn't answered within {0:?}")]
    Timeout(Duration),
    #[error("the handler has ended without an answer")]
    NoAnswer,
}

/// The body of the answer.
#[derive(Serialize)]
struct Body<'e> {
    code: &'e str,
    message: String,
    hint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'e Value>,
}

impl CallError {
    /// The code, for programs.
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::BadPath => "bad_path",
            Self::NoEvent => "not_found",
            Self::UnknownNamespace(_) => "unknown_namespace",
            Self::UnknownEvent(..) => "unknown_event",
            Self::Method { .. } => "method_not_allowed",
            Self::MediaType => "unsupported_media_type",
            Self::Arguments(_) => "bad_body",
            Self::AuthHeader(_) => "bad_auth",
            Self::Refused(_) => "refused",
            Self::Rejected(rejection) => rejection.code(),
            Self::Request(RequestError::Forbidden(_)) => "forbidden",
            Self::Request(RequestError::Origin(_)) => "origin_not_allowed",
            Self::Request(RequestError::PayloadTooLarge { .. }) => "payload_too_large",
            Self::Request(RequestError::BodyTimeout) => "body_timeout",
            Self::Request(RequestError::ShuttingDown) => "shutting_down",
            Self::Request(_) => "bad_request",
            Self::TooManyCalls => "too_many_calls",
            Self::CallerLimit => "caller_limit",
            Self::BinaryAnswer => "binary_answer",
            Self::Timeout(_) => "timeout",
            Self::NoAnswer => "no_answer",
        }
    }

    /// The status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::BadPath | Self::Arguments(_) | Self::AuthHeader(_) => StatusCode::BAD_REQUEST,
            Self::NoEvent | Self::UnknownNamespace(_) | Self::UnknownEvent(..) => {
                StatusCode::NOT_FOUND
            }
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Refused(_) => StatusCode::UNAUTHORIZED,
            Self::Rejected(rejection) => match rejection.code() {
                "invalid_auth" => StatusCode::UNAUTHORIZED,
                "unknown_event" => StatusCode::NOT_FOUND,
                "internal_error" => StatusCode::INTERNAL_SERVER_ERROR,
                _ => StatusCode::BAD_REQUEST,
            },
            Self::Request(error) => error.status(),
            Self::TooManyCalls => StatusCode::SERVICE_UNAVAILABLE,
            Self::CallerLimit => StatusCode::TOO_MANY_REQUESTS,
            Self::BinaryAnswer => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Timeout(_) | Self::NoAnswer => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// What to do about it.
    fn hint(&self) -> String {
        let hint = match self {
            Self::BadPath => {
                "percent-encode each segment of the path, as encodeURIComponent does, from UTF-8"
            }
            Self::NoEvent => "POST to …/call/{event}, or …/call/{namespace}/{event}",
            Self::UnknownNamespace(_) | Self::UnknownEvent(..) => {
                "only what is registered on the server by `of` and `on` can be called; what a \
                 connect handler registers on its socket can't"
            }
            Self::Method { allowed, .. } => return format!("allowed here: {allowed}"),
            Self::MediaType => {
                "send the arguments with Content-Type: application/json, and not compressed"
            }
            Self::Arguments(_) => {
                "the body is a JSON array of the event's arguments, as [1,\"a\"]; none is no \
                 arguments; binary data can't be sent"
            }
            Self::AuthHeader(_) => {
                "it is one JSON object in ASCII, with \\u escapes for all other characters"
            }
            Self::Refused(_) => {
                "a middleware of the namespace refused it; it reads the auth payload from the \
                 header Antiphon-Auth"
            }
            Self::Rejected(rejection) => match rejection.code() {
                "invalid_arguments" => "`path` says where the arguments don't fit the handler",
                "invalid_auth" => "send the auth payload in the header Antiphon-Auth",
                "internal_error" => "the server's log says more",
                _ => "the server's handlers didn't take it",
            },
            Self::Request(error) => return error.hint(),
            Self::TooManyCalls => "try again later; see the option `HttpCalls::max_running`",
            Self::CallerLimit => {
                "wait for the answers to earlier calls, and send large ones one by one; a server behind \
                 a proxy tells callers apart by the option `HttpCalls::caller`"
            }
            Self::BinaryAnswer => "call this event over a connection",
            Self::Timeout(_) => {
                "the handler runs on, and may have done what it was called for; see the option \
                 `HttpCalls::timeout`"
            }
            Self::NoAnswer => "the handler took the acknowledgement as `Ack` and never sent it",
        };
        hint.to_owned()
    }

    /// What the log says of it.
    pub(super) fn detail(&self) -> Cow<'_, str> {
        match self {
            Self::Rejected(rejection) => rejection.detail().into(),
            _ => self.to_string().into(),
        }
    }

    /// The body of the answer: `{"code":…,"message":…,"hint":…}`, with `path` or `data` if there is
    /// one.
    pub(super) fn to_json(&self) -> Bytes {
        let body = Body {
            code: self.code(),
            message: self.to_string(),
            hint: self.hint(),
            path: match self {
                Self::Rejected(rejection) => rejection.path(),
                _ => None,
            },
            data: match self {
                Self::Refused(error) => error.data.as_ref(),
                _ => None,
            },
        };
        // Texts, and JSON that is one already: nothing that could fail.
        serde_json::to_vec(&body).unwrap_or_default().into()
    }

    /// Adds the headers that the status asks for.
    pub(super) fn add_headers(&self, answer: &mut Response<Bytes>) {
        let (name, value) = match self {
            Self::Method { allowed, .. } => (header::ALLOW, *allowed),
            Self::TooManyCalls | Self::CallerLimit => (header::RETRY_AFTER, "1"),
            Self::Request(RequestError::ShuttingDown) => (header::RETRY_AFTER, "5"),
            _ => return,
        };
        let value = HeaderValue::from_static(value);
        answer.headers_mut().insert(name, value);
    }
}
