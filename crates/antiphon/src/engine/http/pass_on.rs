//! Requests of sessions that another server has: they are passed on to it, by a [`Relay`].
//!
//! A request of an unknown session that names another server goes there as it came, but for what
//! belongs to one connection (RFC 9110 §7.6.1), with a mark by which that server doesn't pass it on
//! again. Its origin has been checked before. Both bodies stream, and an upgrade is handed to `tunnel`.
//!
//! The answer comes within a deadline, and so does each part of it. If it can't be had the session
//! is unknown, as if it had ended: its client opens another.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, EXPECT, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
        TRANSFER_ENCODING, UPGRADE,
    },
    request::Parts,
};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty};
use pin_project_lite::pin_project;

use super::{
    Engine, RequestError,
    peer::peer_address,
    relay::{NotRelayed, Passed, Relay, RelayBody},
    responded::{Handover, Responded},
    response::EngineBody,
    upgrade,
};
use crate::engine::{ServerTag, SessionId, TransportKind};

/// The mark of a request that has been passed on once, and isn't again. Clients that set it refuse
/// themselves the way to other servers, and gain nothing else.
const PASSED_ON: HeaderName = HeaderName::from_static("antiphon-passed-on");

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What belongs to one connection, whatever it says of itself in `Connection`.
const OF_A_CONNECTION: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The server that has a session.
pub(super) struct Owner<'r> {
    relay: &'r dyn Relay,
    tag: ServerTag,
    session: SessionId,
}

/// The server that has this session, if that may be another one.
pub(super) fn owner<'r>(
    relay: &'r Arc<dyn Relay>,
    session: SessionId,
    request: &Parts,
) -> Option<Owner<'r>> {
    let tag = ServerTag::of_id(session.as_str())?;
    let is_first = !request.headers.contains_key(&PASSED_ON);
    (is_first && tag != relay.tag()).then_some(Owner {
        relay: &**relay,
        tag,
        session,
    })
}

impl Owner<'_> {
    /// Passes a request on, and returns what the owner responds.
    pub(super) async fn pass_on<B>(
        self,
        engine: &Engine,
        request: &Parts,
        transport: TransportKind,
        body: B,
    ) -> Result<Responded, RequestError>
    where
        B: Body + Send + 'static,
        B::Data: Send,
    {
        let is_websocket = transport == TransportKind::WebSocket;
        if is_websocket && !upgrade::is_wanted(request) {
            return Err(RequestError::transport_mismatch());
        }
        let body = match request.method {
            Method::GET => Empty::new().map_err(|never| match never {}).boxed_unsync(),
            Method::POST => Foreign { body }.boxed_unsync(),
            _ => return Err(RequestError::BadMethod(request.method.clone())),
        };
        let patience = engine.config().longest_wait();
        let head = self
            .relay
            .relay(self.tag, forwarded(request, body, is_websocket));
        let failed = match tokio::time::timeout(patience, head).await {
            Ok(Ok(response)) => return responded(response, is_websocket, patience),
            Ok(Err(error)) => error,
            Err(_) => NotRelayed::Unreachable {
                reason: "it took too long".to_owned(),
            },
        };
        tracing::debug!(session = ?self.session, error = %failed, "a request was not passed on");
        Err(RequestError::UnknownSession)
    }
}

/// The request as its owner gets it.
fn forwarded(request: &Parts, body: RelayBody, is_websocket: bool) -> Request<RelayBody> {
    let mut forwarded = Request::new(body);
    *forwarded.method_mut() = request.method.clone();
    *forwarded.version_mut() = Version::HTTP_11;
    let path = request.uri.path_and_query().cloned();
    *forwarded.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    let mut headers = request.headers.clone();
    remove_those_of_the_connection(&mut headers);
    // Where the body ends is said anew, and once.
    headers.remove(CONTENT_LENGTH);
    headers.remove(EXPECT);
    if let Some(length) = forwarded.body().size_hint().exact()
        && request.method == Method::POST
    {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    if is_websocket {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    if let Some(address) = peer_address(request)
        && let Ok(address) = HeaderValue::try_from(address.ip().to_canonical().to_string())
    {
        headers.append(FORWARDED_FOR, address);
    }
    headers.insert(PASSED_ON, HeaderValue::from_static("1"));
    *forwarded.headers_mut() = headers;
    forwarded
}

fn remove_those_of_the_connection(headers: &mut HeaderMap) {
    let named = headers.get_all(CONNECTION).iter();
    let named: Vec<_> = named
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    for name in named.iter().chain(&OF_A_CONNECTION) {
        headers.remove(name);
    }
}

/// The owner's response as the client gets it.
fn responded(
    mut response: Response<RelayBody>,
    is_websocket: bool,
    patience: Duration,
) -> Result<Responded, RequestError> {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let protocol = response.headers_mut().remove(UPGRADE);
    remove_those_of_the_connection(response.headers_mut());
    let mut handover = None;
    if switches {
        if !is_websocket {
            return Err(RequestError::transport_mismatch());
        }
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.extend(protocol.map(|protocol| (UPGRADE, protocol)));
        handover = Some(Handover::Tunnel(hyper::upgrade::on(&mut response)));
    }
    let (head, body) = response.into_parts();
    let body = EngineBody::passed_on(Passed::new(body, patience));
    Ok(Responded {
        answer: Response::from_parts(head, body),
        handover,
        is_initial: false,
    })
}

pin_project! {
    /// The body of a request, in the form that all have between servers.
    struct Foreign<B> {
        #[pin]
        body: B,
    }
}

impl<B: Body> Body for Foreign<B> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = ready!(self.project().body.poll_frame(context));
        Poll::Ready(next.map(|frame| match frame {
            Ok(frame) => Ok(frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))),
            Err(_) => Err(io::ErrorKind::ConnectionAborted.into()),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
