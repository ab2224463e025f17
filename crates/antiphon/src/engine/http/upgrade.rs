//! The opening handshake of a WebSocket (RFC 6455 §4.2), under an HTTP server that gives upgrades.
//!
//! With HTTP/2 it is another request, which is made the same (`from_http2`, `into_http2`).
//!
//! `accept` checks version and key and makes the 101. Once the HTTP server has let go of the
//! connection, `take_over` puts it to its [`Purpose`]: a new session, or the probe of one that
//! there is. If the server never lets go (the client has gone), no session is made. The own
//! listener does the same without an HTTP server: see `direct`.

use std::sync::Arc;

use antiphon_protocol::websocket::{accept_key, is_valid_key};
use bytes::Bytes;
use http::{
    HeaderValue, Method, StatusCode,
    header::{
        CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
    },
    request::Parts,
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::{
    RequestError, request,
    responded::{Handover, Purpose, Responded},
    response::answer,
    tunnel,
};
use crate::engine::{
    Engine,
    transport::probe,
    transport::websocket::{self, WebSocket},
};

/// The key of a handshake that has none: nobody looks at what is made of it.
#[cfg(feature = "http2")]
const NO_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAA==";

/// Whether the request asks for a WebSocket.
pub(super) fn is_wanted(parts: &Parts) -> bool {
    let upgrade = parts.headers.get(UPGRADE);
    parts.method == Method::GET
        && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Whether the transport that the request names is WebSocket. Whatever else its headers ask for, all
/// others are ordinary requests.
pub(super) fn names_websocket(parts: &Parts) -> bool {
    let transport = request::parameter(parts, "transport");
    matches!(transport.as_deref(), Some("websocket" | "flashsocket"))
}

/// A handshake of HTTP/2 (RFC 8441 §5) becomes the one that it would be with HTTP/1.1: `GET` instead
/// of `CONNECT` with a `:protocol`, and headers that HTTP/2 has no use for. Returns whether it was one.
#[cfg(feature = "http2")]
pub(super) fn from_http2(parts: &mut Parts) -> bool {
    use hyper::ext::Protocol;
    let protocol = parts.extensions.get::<Protocol>();
    let is_handshake = parts.method == Method::CONNECT
        && names_websocket(parts)
        && protocol.is_some_and(|name| name.as_ref().eq_ignore_ascii_case(b"websocket"));
    if is_handshake {
        parts.method = Method::GET;
        let headers = &mut parts.headers;
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static(NO_KEY));
    }
    is_handshake
}

/// The answer to a handshake of HTTP/2, made of that which HTTP/1.1 has.
#[cfg(feature = "http2")]
pub(super) fn into_http2(answered: &mut Responded) {
    let answer = &mut answered.answer;
    if answered.handover.is_some() {
        *answer.status_mut() = StatusCode::OK;
    }
    for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT] {
        answer.headers_mut().remove(name);
    }
}

/// The answer to an opening handshake, 101, after which the connection is handed over.
pub(super) fn accept(
    engine: &Engine,
    parts: &Parts,
    purpose: Purpose,
) -> Result<Responded, RequestError> {
    let headers = &parts.headers;
    let version = headers.get(SEC_WEBSOCKET_VERSION);
    // What is on the wire is the same in the last draft, version 8.
    if !matches!(version.map(HeaderValue::as_bytes), Some(b"13" | b"8")) {
        return Err(RequestError::WebSocketVersion);
    }
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .and_then(|key| key.to_str().ok())
        .filter(|key| is_valid_key(key))
        .ok_or(RequestError::BadKey)?;
    let accept = HeaderValue::try_from(accept_key(key)).map_err(|_| RequestError::BadKey)?;
    let mut answer = answer(StatusCode::SWITCHING_PROTOCOLS, None, Bytes::new());
    let answered = answer.headers_mut();
    answered.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answered.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answered.insert(SEC_WEBSOCKET_ACCEPT, accept);
    // Clients that offer subprotocols expect one of them back; the first, as in Node.
    if let Some(offered) = headers.get(SEC_WEBSOCKET_PROTOCOL)
        && let Some(first) = offered
            .to_str()
            .ok()
            .and_then(|list| list.split(',').next())
        && let Ok(first) = HeaderValue::from_str(first.trim())
    {
        answered.insert(SEC_WEBSOCKET_PROTOCOL, first);
    }
    let agreed = engine.config().agree(headers);
    let window = agreed.map(|(window, extensions)| {
        answered.insert(SEC_WEBSOCKET_EXTENSIONS, extensions);
        window
    });
    Ok(Responded {
        answer,
        is_initial: matches!(purpose, Purpose::Open(_)),
        handover: Some(Handover::WebSocket { purpose, window }),
    })
}

/// Goes on with a connection once the HTTP server has answered and let go of it.
pub(super) fn take_over(engine: Arc<Engine>, parts: Parts, on_upgrade: OnUpgrade, to: Handover) {
    tokio::spawn(async move {
        let upgraded = match on_upgrade.await {
            Ok(upgraded) => upgraded,
            // Its client has gone, or the server was set up without this.
            Err(error) => {
                return tracing::debug!(
                    %error,
                    "a WebSocket handshake was not completed: under plain hyper the connection needs `with_upgrades()`"
                );
            }
        };
        match to {
            Handover::WebSocket { purpose, window } => {
                let max_payload = engine.config().payload_of(false);
                let websocket = WebSocket::new(upgraded, max_payload, window);
                run(engine, &parts, websocket, purpose).await;
            }
            Handover::Tunnel(server) => {
                let silence = engine.config().longest_wait();
                tunnel::run(TokioIo::new(upgraded), Vec::new(), server, silence).await;
            }
        }
    });
}

/// Puts an open WebSocket to its purpose.
pub(super) async fn run(engine: Arc<Engine>, parts: &Parts, websocket: WebSocket, to: Purpose) {
    match to {
        Purpose::Open(opening) => {
            let (driven, _) = engine.open(opening, parts);
            // A task of its own, so that the memory of this one is given back.
            tokio::spawn(websocket::drive(driven, websocket));
        }
        Purpose::Probe(session) => probe::run(session, websocket).await,
    }
}
