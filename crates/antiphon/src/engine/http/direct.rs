//! The first request of a connection that has no HTTP server yet: our own listener's.
//!
//! The opening handshake of a WebSocket is answered here, in one write with the packet that opens
//! the session: no HTTP server is set up for a connection that leaves it at once. Everything else
//! goes to one, with what was read ahead: other requests, heads that come in pieces, and what isn't
//! HTTP.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Request,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
    request::Parts,
};
use http_body_util::Empty;
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};

use super::{
    EngineResponse, Peer, ReadAhead,
    request::is_below,
    request_lines::RequestLines,
    respond_to,
    responded::{Handover, Purpose},
    tunnel, upgrade,
};
use crate::engine::{
    Engine,
    transport::{buffer::with_buffer, stream::Wire, websocket::WebSocket},
};

/// How long the first bytes of a connection may take: as long as hyper waits for a head.
const PATIENCE: Duration = Duration::from_secs(30);

/// So much is read of a client that is still to be answered.
const AHEAD: usize = 16 << 10;

/// What a connection of HTTP/2 begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Heads with more headers are left to the HTTP server.
const MAX_HEADERS: usize = 64;

/// What a connection is, once its first request has been looked at.
pub(crate) enum First<T> {
    /// A WebSocket, or gone: nothing is left to do.
    Done,
    /// For an HTTP server that speaks HTTP/2: its client began with that.
    #[cfg(feature = "http2")]
    Http2 {
        stream: ReadAhead,
        /// As below.
        begun: T,
    },
    /// For an HTTP server.
    Http {
        stream: ReadAhead,
        /// The answer to the first request, if it has been handled already.
        answer: Option<Box<EngineResponse>>,
        /// What is held from the first bytes on.
        begun: T,
    },
}

/// Looks at the first request of a connection, which `peer` has opened. What `begin` gives is held
/// from the first bytes on, as long as something is to be answered.
pub(crate) async fn first_request<T>(
    engine: Arc<Engine>,
    path: &str,
    mut stream: Wire,
    peer: Peer,
    begin: impl FnOnce() -> T,
) -> First<T> {
    let Some(read) = first_bytes(&mut stream).await else {
        return First::Done;
    };
    let begun = begin();
    let patience = engine.config().longest_silence();
    #[cfg(feature = "http2")]
    if read.starts_with(PREFACE) {
        stream.hurry();
        let stream = ReadAhead::raw(stream, read, patience);
        return First::Http2 { stream, begun };
    }
    let mut read = escaped(read);
    let request = opening_handshake(&read);
    let Some((mut parts, length)) = request.filter(|(it, _)| is_below(it.uri.path(), path)) else {
        return First::Http {
            stream: ReadAhead::new(stream, read, patience),
            answer: None,
            begun,
        };
    };
    peer.introduce(&mut parts.extensions);
    let answered = respond_to(&engine, &mut parts, Empty::<Bytes>::new(), true);
    let Some(answered) = unless_gone(&mut stream, &mut read, answered).await else {
        return First::Done;
    };
    let Some(handover) = answered.handover else {
        return First::Http {
            stream: ReadAhead::new(stream, read, patience),
            answer: Some(Box::new(answered.answer)),
            begun,
        };
    };
    let head = head(&answered.answer);
    let behind = read[length..].to_vec();
    let (mut purpose, window) = match handover {
        Handover::WebSocket { purpose, window } => (purpose, window),
        Handover::Tunnel(server) => {
            drop(begun);
            let silence = engine.config().longest_wait();
            tokio::spawn(async move {
                let written = tokio::time::timeout(PATIENCE, stream.write_all(&head)).await;
                if let Ok(Ok(())) = written {
                    tunnel::run(stream, behind, server, silence).await;
                }
            });
            return First::Done;
        }
    };
    let max_payload = engine.config().payload_of(false);
    let mut websocket = WebSocket::over(stream, behind, max_payload, window);
    match &mut purpose {
        Purpose::Open(opening) => opening.greeting = Some(head),
        Purpose::Probe(_) => {
            let written = tokio::time::timeout(PATIENCE, websocket.write(&head)).await;
            if !matches!(written, Ok(Ok(()))) {
                return First::Done;
            }
        }
    }
    drop(begun);
    upgrade::run(engine, &parts, websocket, purpose).await;
    First::Done
}

/// The first bytes of a connection, with a request line that can be parsed.
fn escaped(read: Vec<u8>) -> Vec<u8> {
    let end = read.iter().position(|byte| *byte == b'\n');
    // What is behind it is looked at only where an HTTP server goes on.
    let (line, rest) = read.split_at(end.unwrap_or(read.len()));
    match RequestLines::default().feed(line) {
        Some(line) => [&line, rest].concat(),
        None => read,
    }
}

/// The first bytes of a connection. Returns `None` if it says nothing, and has gone or has had its
/// time.
async fn first_bytes(stream: &mut Wire) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    let first = async {
        loop {
            let more = poll_fn(|context| poll_more(stream, &mut read, usize::MAX, context));
            if more.await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if !may_become_http2(&read) {
                return io::Result::Ok(());
            }
        }
    };
    let first = tokio::time::timeout(PATIENCE, first).await;
    first.is_ok_and(|first| first.is_ok()).then_some(read)
}

/// Whether this is the beginning of HTTP/2, and not all of it.
fn may_become_http2(read: &[u8]) -> bool {
    cfg!(feature = "http2") && read.len() < PREFACE.len() && PREFACE.starts_with(read)
}

/// Reads once, behind what was read before and at most so many bytes. Ready with how many: 0 at the
/// end.
fn poll_more(
    stream: &mut Wire,
    read: &mut Vec<u8>,
    limit: usize,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    with_buffer(|buffer| {
        let limit = limit.min(buffer.len());
        let mut buffer = ReadBuf::new(&mut buffer[..limit]);
        ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
        read.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    })
}

/// The outcome of `work`, or nothing if the client goes away before it is there. What it sends
/// meanwhile may come behind what was read.
async fn unless_gone<T>(
    stream: &mut Wire,
    read: &mut Vec<u8>,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = pin!(work);
    // A client that doesn't wait for its answer hides its end behind what it sends.
    let mut is_silent = true;
    poll_fn(|context| {
        if let Poll::Ready(outcome) = work.as_mut().poll(context) {
            return Poll::Ready(Some(outcome));
        }
        if is_silent {
            match poll_more(stream, read, AHEAD, context) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Ready(Ok(_)) => is_silent = false,
                Poll::Pending => {}
            }
        }
        Poll::Pending
    })
    .await
}

/// The opening handshake of a WebSocket (RFC 6455 §4.2.1) that these bytes begin with, and its
/// length. Returns `None` if they begin with something else, or not all of it is there.
fn opening_handshake(bytes: &[u8]) -> Option<(Parts, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) | Err(_) => return None,
    };
    let path = parsed.path.filter(|path| path.starts_with('/'))?;
    if parsed.method != Some("GET") || parsed.version != Some(1) {
        return None;
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.uri = path.parse().ok()?;
    parts.headers.reserve(parsed.headers.len());
    for header in parsed.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(header.value).ok()?;
        parts.headers.append(name, value);
    }
    let has_body = [CONTENT_LENGTH, TRANSFER_ENCODING]
        .iter()
        .any(|name| parts.headers.contains_key(name));
    let upgrades = parts.headers.get_all(CONNECTION).iter().any(|value| {
        let mut tokens = value.as_bytes().split(|byte| *byte == b',');
        tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    });
    (upgrade::names_websocket(&parts) && upgrades && !has_body && upgrade::is_wanted(&parts))
        .then_some((parts, length))
}

/// The head of an answer that switches protocols, as it is written.
fn head(answer: &EngineResponse) -> Vec<u8> {
    let mut head = Vec::with_capacity(256);
    head.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    for (name, value) in answer.headers() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}
