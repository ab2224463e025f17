//! The HTTP side: every request of a session arrives here and is checked, then goes to its
//! transport.

mod body;
mod error;
mod jsonp;
mod request;
mod service;
mod upgrade;

use std::{net::SocketAddr, sync::Arc};

use antiphon_protocol::engine::{
    Refusal, Revision, TransportKind, jsonp::Callback, payload::Payload,
};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, HOST, RETRY_AFTER, SET_COOKIE},
    request::Parts,
};
use http_body::Body;
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;

use super::{Engine, Session, SessionId, polling};
use error::RequestError;
use request::Query;

pub(crate) use service::is_below;
pub use service::{EngineLayer, EngineService, OrEngine};

/// The answer to a request of the engine.
pub(crate) type Answer = Response<Full<Bytes>>;

/// The address of the client, as a request extension: who accepts connections puts it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

const TEXT: &str = "text/plain; charset=UTF-8";
const BYTES: &str = "application/octet-stream";

/// Answers one request. Every answer, errors included, has the CORS headers that it needs.
pub(super) async fn handle<B>(engine: Arc<Engine>, request: Request<B>) -> Answer
where
    B: Body + Send,
    B::Data: Send,
{
    let (mut parts, body) = request.into_parts();
    name_host(&mut parts);
    let on_upgrade = parts.extensions.remove::<OnUpgrade>();
    let mut answer = match route(&engine, &parts, on_upgrade, body).await {
        Ok(answer) => answer,
        Err(error) => {
            engine.counters().requests_refused.add(1);
            tracing::debug!(code = error.code(), %error, path = parts.uri.path(), hint = error.hint(), "request refused");
            refuse(&error)
        }
    };
    let cors = &engine.config().cors;
    cors.answer(&parts.headers, &parts.method, answer.headers_mut());
    answer
}

/// HTTP/2 names the host in the URI alone: with the header there is one place to look at.
fn name_host(parts: &mut Parts) {
    if !parts.headers.contains_key(HOST)
        && let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.insert(HOST, host);
    }
}

/// The checks in the order of the reference implementation, then the transport.
async fn route<B>(
    engine: &Arc<Engine>,
    parts: &Parts,
    on_upgrade: Option<OnUpgrade>,
    body: B,
) -> Result<Answer, RequestError>
where
    B: Body + Send,
    B::Data: Send,
{
    if parts.method == Method::OPTIONS {
        return Ok(answer(StatusCode::NO_CONTENT, None, Bytes::new()));
    }
    let config = engine.config();
    let query = Query::parse(&parts.uri);
    let transport = query
        .transport()
        .filter(|transport| config.transports.contains(transport))
        .ok_or_else(|| RequestError::UnknownTransport(query.transport.clone()))?;
    if !config.cors.allows(&parts.headers) {
        return Err(RequestError::origin(&parts.headers));
    }
    let callback = match transport {
        TransportKind::Polling => jsonp::callback(config, &query, &parts.headers)?,
        TransportKind::WebSocket => None,
    };
    match &query.sid {
        Some(sid) => {
            let session = SessionId::parse(sid).and_then(|id| engine.session(id));
            let session = session.ok_or(RequestError::UnknownSession)?;
            existing(&session, parts, transport, callback, on_upgrade, body).await
        }
        None => handshake(engine, parts, &query, transport, callback, on_upgrade).await,
    }
}

/// A request of a session that there is.
async fn existing<B>(
    session: &Arc<Session>,
    parts: &Parts,
    transport: TransportKind,
    callback: Option<Callback>,
    on_upgrade: Option<OnUpgrade>,
    body: B,
) -> Result<Answer, RequestError>
where
    B: Body + Send,
    B::Data: Send,
{
    if transport == TransportKind::WebSocket {
        if !upgrade::is_wanted(parts) {
            return Err(RequestError::transport_mismatch());
        }
        return upgrade::probe(session, parts, on_upgrade);
    }
    match parts.method {
        Method::GET => {
            let base64 = session.is_base64() || callback.is_some();
            let binary = !base64 && session.revision() == Revision::V3;
            let payload = polling::poll(session, binary).await?;
            Ok(payload_answer(payload, callback))
        }
        Method::POST => post(session, parts, callback, body).await,
        _ => Err(RequestError::BadMethod(parts.method.clone())),
    }
}

async fn post<B>(
    session: &Arc<Session>,
    parts: &Parts,
    callback: Option<Callback>,
    body: B,
) -> Result<Answer, RequestError>
where
    B: Body + Send,
    B::Data: Send,
{
    let mut post = polling::Post::begin(session)?;
    // Before anything is taken: a client that gives its POST up gets no more of them in by that.
    session.unsaturated().await;
    let config = session.engine().config();
    let body = tokio::time::timeout(
        config.longest_silence(),
        body::read(body, config.max_payload),
    )
    .await
    .map_err(|_| RequestError::BodyTimeout)?;
    if matches!(body, Ok(_) | Err(RequestError::PayloadTooLarge { .. })) {
        post.whole();
    }
    let body = body?;
    if session.transport() != TransportKind::Polling {
        // The WebSocket hands packets on by now; two at a time would mix them up.
        return Err(RequestError::transport_mismatch());
    }
    let content_type = parts.headers.get(CONTENT_TYPE);
    let binary = content_type.is_some_and(|value| value.as_bytes().starts_with(BYTES.as_bytes()));
    let received = match callback {
        Some(_) => post.receive_form(&body),
        None => post.receive(&body, binary),
    };
    received.map_err(|error| RequestError::BadPayload(error.to_string()))?;
    // The reference implementation answers with this type: some clients ask for it.
    Ok(answer(StatusCode::OK, Some("text/html"), "ok".into()))
}

/// A request without a session: makes one.
async fn handshake(
    engine: &Arc<Engine>,
    parts: &Parts,
    query: &Query,
    transport: TransportKind,
    callback: Option<Callback>,
    on_upgrade: Option<OnUpgrade>,
) -> Result<Answer, RequestError> {
    let config = engine.config();
    if parts.method != Method::GET {
        return Err(RequestError::BadMethod(parts.method.clone()));
    }
    if transport == TransportKind::WebSocket && !upgrade::is_wanted(parts) {
        return Err(RequestError::NoUpgrade);
    }
    if engine.is_closing() {
        return Err(RequestError::ShuttingDown);
    }
    if let Some(allow) = &config.allow_request {
        allow(parts).await.map_err(RequestError::Forbidden)?;
        if engine.is_closing() {
            return Err(RequestError::ShuttingDown);
        }
    }
    let revision = query
        .revision()
        .filter(|revision| config.allow_eio3 || *revision != Revision::V3)
        .ok_or_else(|| RequestError::UnsupportedRevision(query.eio.clone()))?;
    if transport == TransportKind::WebSocket {
        return upgrade::open(engine, parts, revision, query.base64, on_upgrade);
    }
    let base64 = query.base64;
    let driven = super::cork::scope(|| engine.open(revision, transport, base64, parts));
    let session = driven.session();
    let packets = session.lock().machine.take_queue();
    let binary = !base64 && callback.is_none() && revision == Revision::V3;
    let payload = polling::encode(session, &packets, binary);
    let cookie = config.cookie.as_ref();
    let cookie = cookie.map(|cookie| cookie.header(session.id().as_str()));
    tokio::spawn(polling::drive(driven));
    let mut answer = payload_answer(payload, callback);
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok()) {
        answer.headers_mut().insert(SET_COOKIE, cookie);
    }
    Ok(answer)
}

fn answer(status: StatusCode, content_type: Option<&'static str>, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    if let Some(content_type) = content_type {
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    answer
}

fn payload_answer(payload: Payload, callback: Option<Callback>) -> Answer {
    if let Some(callback) = callback {
        return jsonp::answer(callback, &payload.body);
    }
    let content_type = if payload.binary { BYTES } else { TEXT };
    let mut answer = answer(StatusCode::OK, Some(content_type), payload.body.into());
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn refuse(error: &RequestError) -> Answer {
    let body = Bytes::from(error.to_json());
    let mut answer = answer(error.status(), Some("application/json"), body);
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match error {
        RequestError::ShuttingDown => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        RequestError::WebSocketVersion => {
            let version = HeaderValue::from_static("13");
            headers.insert(http::header::SEC_WEBSOCKET_VERSION, version);
        }
        _ => {}
    }
    answer
}

impl From<Refusal> for RequestError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Closed => Self::UnknownSession,
            Refusal::TransportMismatch => Self::transport_mismatch(),
            Refusal::Overlap => Self::Overlap,
        }
    }
}
