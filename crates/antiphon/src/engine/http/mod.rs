//! The HTTP side: every request arrives here, is checked, and goes to its transport.
//!
//! `handle` is the way in under an HTTP server, `respond_to` for the own listener; both give a
//! response, refusals included, with the headers of CORS. `route` has the checks in the order of
//! docs/protocol.md 2.4. A handshake makes a session and spawns its driver; a GET waits in
//! `polling` or is a stream; a POST hands its packets on; a WebSocket is taken over after the
//! response. No state is here: a client that goes away drops the future, and the guards in
//! `polling` and `streaming` tell the session.

mod body;
pub(crate) mod cookie;
pub(crate) mod cors;
mod denial;
mod direct;
mod encoding;
mod error;
mod fallback;
mod id;
mod jsonp;
pub(crate) mod origin;
mod pass_on;
mod peer;
mod read_ahead;
pub(crate) mod relay;
mod request;
mod request_lines;
mod responded;
mod response;
mod service;
mod tunnel;
mod upgrade;

use std::sync::Arc;

use antiphon_protocol::engine::{Revision, TransportKind, session::server::Refusal};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode,
    header::{CONTENT_TYPE, HOST, ORIGIN, SET_COOKIE, USER_AGENT, X_XSS_PROTECTION},
    request::Parts,
};
use http_body::Body;
use hyper::upgrade::OnUpgrade;

use crate::engine::{
    Engine, Session, SessionId, SessionOptions, hooks,
    session::turn,
    transport::{
        goodbye, polling,
        streaming::{self, EventStream},
    },
};
use encoding::Coding;
use request::Query;
use responded::{Purpose, Responded};
use response::{BYTES, HTML, answer, payload_response, refuse, stream_response};

pub use denial::Denial;
pub(crate) use direct::{First, first_request};
pub use error::RequestError;
pub(crate) use fallback::{Fallback, Files, ReadBody};
pub(crate) use peer::{Peer, peer_address};
pub use peer::{PeerAddr, Secure};
pub(crate) use read_ahead::ReadAhead;
pub(crate) use request::is_below;
pub use response::EngineBody;
pub(crate) use response::EngineResponse;
pub use service::{EngineLayer, EngineService, OrEngine};

/// Answers one request. Every answer, errors included, has the CORS headers that it needs.
pub(super) async fn handle<B>(engine: Arc<Engine>, request: Request<B>) -> EngineResponse
where
    B: Body + Send + 'static,
    B::Data: Send,
{
    let (mut parts, body) = request.into_parts();
    let on_upgrade = parts.extensions.remove::<OnUpgrade>();
    #[cfg(feature = "http2")]
    let is_http2 = upgrade::from_http2(&mut parts);
    #[cfg_attr(not(feature = "http2"), expect(unused_mut))]
    let mut answered = respond_to(&engine, &mut parts, body, on_upgrade.is_some()).await;
    #[cfg(feature = "http2")]
    if is_http2 {
        upgrade::into_http2(&mut answered);
    }
    if let (Some(handover), Some(on_upgrade)) = (answered.handover, on_upgrade) {
        upgrade::take_over(engine, parts, on_upgrade, handover);
    }
    answered.answer
}

async fn respond_to<B>(
    engine: &Arc<Engine>,
    parts: &mut Parts,
    body: B,
    upgradable: bool,
) -> Responded
where
    B: Body + Send + 'static,
    B::Data: Send,
{
    name_host(parts);
    name_origin(parts);
    let hooks = engine.config().hooks.as_deref();
    let admitted = match hooks.filter(|hooks| hooks.has_middlewares()) {
        None => Ok(None),
        Some(hooks) => Box::pin(hooks.ask(parts)).await.map(Some),
    };
    let (mut answered, added) = match admitted {
        Ok(added) => (routed(engine, parts, body, upgradable).await, added),
        Err(response) => {
            note_refusal(engine, parts, &RequestError::Middleware);
            (response.map(EngineBody::from).into(), None)
        }
    };
    #[cfg(feature = "deflate")]
    encoding::compress(engine.config(), &parts.headers, &mut answered.answer);
    let cors = &engine.config().cors;
    let is_polling = answered.answer.status() == StatusCode::OK && answered.handover.is_none();
    let headers = answered.answer.headers_mut();
    if is_polling && is_internet_explorer(parts) {
        // Its filter takes a payload for an attack on the page, and changes it.
        headers.insert(X_XSS_PROTECTION, HeaderValue::from_static("0"));
    }
    cors.answer(&parts.headers, &parts.method, headers);
    if let Some(added) = added {
        hooks::add(headers, *added);
    }
    if let Some(hooks) = hooks {
        hooks.respond(headers, parts, answered.is_initial);
    }
    answered
}

/// The response of a route, or the refusal.
async fn routed<B>(engine: &Arc<Engine>, parts: &Parts, body: B, upgradable: bool) -> Responded
where
    B: Body + Send + 'static,
    B::Data: Send,
{
    let routed = route(engine, parts, body).await;
    let routed = routed.and_then(|answered| match answered.handover {
        Some(_) if !upgradable => Err(RequestError::UpgradeUnavailable),
        _ => Ok(answered),
    });
    routed.unwrap_or_else(|error| {
        note_refusal(engine, parts, &error);
        refuse(&error).into()
    })
}

/// Counts and logs a refusal, and tells the application.
fn note_refusal(engine: &Engine, parts: &Parts, error: &RequestError) {
    engine.counters().requests_refused.add(1);
    tracing::debug!(code = error.code(), %error, path = parts.uri.path(), hint = error.hint(), "request refused");
    // What whoever runs the server has to know of; the rest is a mistake of the client, or none.
    let cause = match error {
        RequestError::Origin(_) => Some("origin"),
        RequestError::PayloadTooLarge { .. } => Some("payload"),
        _ => None,
    };
    if let Some(cause) = cause
        && let Some(times) = engine.warnings().due(cause)
    {
        let hint = error.hint();
        tracing::warn!(%error, times, hint, "request refused (said once a minute; each one at level debug)");
    }
    if let Some(hooks) = &engine.config().hooks {
        hooks.refused(error, parts);
    }
}

fn is_internet_explorer(parts: &Parts) -> bool {
    let agent = parts.headers.get(USER_AGENT);
    let agent = agent.and_then(|agent| agent.to_str().ok());
    agent.is_some_and(|agent| agent.contains("MSIE") || agent.contains("Trident/"))
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

/// Browsers that spoke version 8 of WebSocket named their page in a header of its own: with
/// `Origin` there is one place to look at.
fn name_origin(parts: &mut Parts) {
    if !parts.headers.contains_key(ORIGIN)
        && let Some(origin) = parts.headers.remove("sec-websocket-origin")
    {
        parts.headers.insert(ORIGIN, origin);
    }
}

/// The checks in the order of the reference implementation, then the transport.
async fn route<B>(engine: &Arc<Engine>, parts: &Parts, body: B) -> Result<Responded, RequestError>
where
    B: Body + Send + 'static,
    B::Data: Send,
{
    if parts.method == Method::OPTIONS {
        let status = engine.config().cors.status_of_preflight();
        return Ok(answer(status, None, Bytes::new()).into());
    }
    let config = engine.config();
    if let Some(fallback) = engine.fallback().filter(|one| one.takes(parts)) {
        let body = Box::pin(read_body(engine, body, config.max_payload));
        let answered = fallback.answer(engine, parts, body).await;
        return Ok(answered.map(EngineBody::from).into());
    }
    let mut query = Query::parse(&parts.uri);
    let transport = query
        .transport(config.allow_flashsocket)
        .filter(|transport| config.transports.contains(transport));
    let Some(transport) = transport else {
        let file = engine.files.get().filter(|_| query.transport.is_none());
        return match file.and_then(|files| files(parts)) {
            Some(file) => Ok(file.map(EngineBody::from).into()),
            None => Err(query.unknown_transport()),
        };
    };
    if !config.cors.allows(&parts.headers) {
        return Err(RequestError::origin(&parts.headers));
    }
    if transport == TransportKind::Polling {
        query.callback = jsonp::callback(config, &query, &parts.headers)?;
    }
    match &query.sid {
        Some(sid) => {
            let id = SessionId::parse(sid).ok_or(RequestError::UnknownSession)?;
            let answered = match engine.session(id) {
                Some(session) => {
                    query.check_revision(session.revision())?;
                    existing(session, parts, &query, transport, body).await
                }
                None => match engine
                    .relay()
                    .and_then(|relay| pass_on::owner(relay, id, parts))
                {
                    Some(owner) => return owner.pass_on(engine, parts, transport, body).await,
                    None => Err(RequestError::UnknownSession),
                },
            };
            let polls = transport == TransportKind::Polling && parts.method == Method::GET;
            match answered {
                Err(RequestError::UnknownSession) if polls => {
                    let revision = engine.goodbyes.take(id);
                    let revision = revision.ok_or(RequestError::UnknownSession)?;
                    let payload = polling::noop_payload(revision);
                    Ok(payload_response(None, payload, query.callback).into())
                }
                answered => answered,
            }
        }
        None => handshake(engine, parts, &query, transport).await,
    }
}

/// A request of a session that there is.
async fn existing<B>(
    session: Arc<Session>,
    parts: &Parts,
    query: &Query<'_>,
    transport: TransportKind,
    body: B,
) -> Result<Responded, RequestError>
where
    B: Body + Send,
    B::Data: Send,
{
    if transport == TransportKind::WebSocket {
        if !upgrade::is_wanted(parts) {
            return Err(RequestError::transport_mismatch());
        }
        let engine = Arc::clone(session.engine());
        return upgrade::accept(&engine, parts, Purpose::Probe(session));
    }
    let session = &session;
    let answer = match (transport, &parts.method) {
        (TransportKind::Polling, &Method::GET) => {
            let base64 = session.is_base64() || query.callback.is_some();
            let binary = !base64 && session.revision().dialect().has_binary_payloads;
            let offset = query.offset(|| session.is_tracked())?;
            let payload = polling::poll(session, binary, offset, query.wait()).await?;
            if session.has_ended() {
                // It is the one that came with the goodbye.
                session.engine().goodbyes.take(session.id());
            }
            payload_response(Some(session), payload, query.callback)
        }
        (TransportKind::Streaming, &Method::GET) => {
            let offset = query.offset(|| session.is_tracked())?;
            let stream = match session.transport() {
                TransportKind::Streaming => EventStream::resume(session, offset)?,
                TransportKind::Polling if session.revision().dialect().may_stream => {
                    EventStream::probe(session)?
                }
                _ => return Err(RequestError::transport_mismatch()),
            };
            stream_response(stream)
        }
        (_, &Method::POST) => post(session, parts, query, transport, body).await?,
        (_, method) => return Err(RequestError::BadMethod(method.clone())),
    };
    Ok(answer.into())
}

async fn post<B>(
    session: &Arc<Session>,
    parts: &Parts,
    query: &Query<'_>,
    transport: TransportKind,
    body: B,
) -> Result<EngineResponse, RequestError>
where
    B: Body + Send,
    B::Data: Send,
{
    // The reference implementation answers with this type: some clients ask for it.
    let taken = || answer(StatusCode::OK, Some(HTML), Bytes::from_static(b"ok"));
    let coding = Coding::of(session.engine().config(), &parts.headers)?;
    let limit = session.max_payload();
    let read = async {
        let body = read_body(session.engine(), body, limit).await?;
        coding.decode(body, limit).await
    };
    if transport == TransportKind::Streaming && session.transport() != TransportKind::Streaming {
        let body = read.await?;
        if session.transport() == TransportKind::Polling && streaming::receive_probe(session, &body)
        {
            return Ok(taken());
        }
        // Both are probed side by side, and this attempt has come second, maybe while it came.
        let has_lost = session.transport() == TransportKind::WebSocket;
        return match has_lost && matches!(&*body, b"2probe" | b"5") {
            true => Ok(taken()),
            false => Err(RequestError::transport_mismatch()),
        };
    }
    let offset = query.offset(|| session.is_tracked())?;
    let number = || request::parameter(parts, request::POST);
    let Some(mut post) = polling::Post::begin(session, number).await? else {
        return Ok(taken());
    };
    // Pinned here, so that it isn't moved into what waits for it.
    let mut read = std::pin::pin!(read);
    let body = post.unless_superseded(async {
        // Before anything is taken: a client that gives its POST up gets no more of them in by
        // that.
        session.unsaturated().await;
        read.as_mut().await
    });
    let body = body.await.ok_or(RequestError::Superseded)?;
    match &body {
        Ok(_) | Err(RequestError::PayloadTooLarge { .. }) => post.whole(),
        Err(error @ RequestError::BadPayload(_)) => session.undecodable(error),
        Err(_) => {}
    }
    let body = body?;
    if session.transport() != transport {
        // Another transport hands packets on by now; two at a time would mix them up.
        return Err(RequestError::transport_mismatch());
    }
    if let Some(offset) = offset {
        session.confirm(offset)?;
    }
    let content_type = parts.headers.get(CONTENT_TYPE);
    let binary = content_type.is_some_and(|value| value.as_bytes().starts_with(BYTES.as_bytes()));
    if !post.counts() {
        return Err(RequestError::Superseded);
    }
    // A poll that waits already ends with the session.
    let is_awaited = goodbye::is_said_by(&body) && !session.is_writable();
    let goodbyes = &session.engine().goodbyes;
    let goodbye = is_awaited.then(|| goodbyes.begin(session.id(), session.revision()));
    let received = match query.callback {
        Some(_) => post.receive_form(&body).await,
        None => post.receive(body, binary).await,
    };
    received.map_err(|error| RequestError::BadPayload(error.to_string()))?;
    if let Some(goodbye) = goodbye
        && !session.is_open()
    {
        goodbye.end().await;
    }
    Ok(taken())
}

/// Reads a body, up to the bound and within the longest silence that a client may keep.
async fn read_body<B>(engine: &Engine, body: B, limit: usize) -> Result<Bytes, RequestError>
where
    B: Body + Send,
{
    let config = engine.config();
    let read = body::read(body, limit);
    let read = tokio::time::timeout(config.longest_silence(), read).await;
    read.map_err(|_| RequestError::BodyTimeout)?
}

/// Whether a page of another origin has a browser send this without saying which one it is: as an
/// image, a script or a link, with the cookies of its user. Whatever connects from a page sends
/// `Origin`.
fn is_embedded(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    matches!(site, Some(b"cross-site" | b"same-site")) && !headers.contains_key(ORIGIN)
}

/// A request without a session: makes one.
async fn handshake(
    engine: &Arc<Engine>,
    parts: &Parts,
    query: &Query<'_>,
    transport: TransportKind,
) -> Result<Responded, RequestError> {
    let config = engine.config();
    if parts.method != Method::GET {
        return Err(RequestError::BadMethod(parts.method.clone()));
    }
    if transport == TransportKind::WebSocket && !upgrade::is_wanted(parts) {
        return Err(RequestError::NoUpgrade);
    }
    // A script of JSONP has been looked at already.
    if query.callback.is_none() && is_embedded(&parts.headers) {
        return Err(RequestError::Embedded);
    }
    if engine.is_closing() {
        return Err(RequestError::ShuttingDown);
    }
    if let Some(allow) = &config.allow_request {
        allow(parts.clone())
            .await
            .map_err(RequestError::Forbidden)?;
        if engine.is_closing() {
            return Err(RequestError::ShuttingDown);
        }
    }
    let revision = query
        .revision()
        .filter(|revision| config.allow_eio3 || *revision != Revision::V3)
        .filter(|_| !config.require_eio || query.says_its_revision())
        .ok_or_else(|| query.unsupported_revision())?;
    let id = match &config.generate_id {
        Some(generate) => Some(Box::pin(id::generated(engine, generate, parts)).await?),
        None => None,
    };
    let opening = SessionOptions {
        id,
        revision,
        transport,
        base64: query.base64,
        is_tracked: query.asks_to_be_tracked(),
        // No client may be silent for longer than the server's options say.
        interval: query.interval().min(config.ping_interval),
        packets_per_poll: request::packets_per_poll(&parts.headers),
        greeting: None,
    };
    if transport == TransportKind::WebSocket {
        return upgrade::accept(engine, parts, Purpose::Open(opening));
    }
    if transport == TransportKind::Streaming && !revision.dialect().may_stream {
        return Err(query.unknown_transport());
    }
    let (driven, open) = turn::scope(|| engine.open(opening, parts));
    let session = driven.session();
    let mut answer = if transport == TransportKind::Streaming {
        stream_response(EventStream::resume(session, Some(0))?)
    } else {
        let base64 = query.base64 || query.callback.is_some();
        let binary = !base64 && revision.dialect().has_binary_payloads;
        let payload = polling::encode(session, &open, binary);
        payload_response(Some(session), payload, query.callback)
    };
    let cookie = config.cookie.as_ref();
    let cookie = cookie.map(|cookie| cookie.header(session.id().as_str()));
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok()) {
        answer.headers_mut().insert(SET_COOKIE, cookie);
    }
    tokio::spawn(polling::drive(driven));
    Ok(Responded {
        answer,
        handover: None,
        is_initial: true,
    })
}

impl From<Refusal> for RequestError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Closed => Self::UnknownSession,
            Refusal::TransportMismatch => Self::transport_mismatch(),
            Refusal::Overlap => Self::Overlap,
            Refusal::BadOffset(bad) => Self::BadOffset(bad),
        }
    }
}
