//! Events that are called by ordinary requests, if no connection can be made:
//! `POST {path}/call/{namespace}/{event}`, with the arguments as a JSON array.
//!
//! ```text
//! request -> Address, checks -> Call (or the one that it repeats) -> middlewares -> handlers
//! acknowledgement -> Caller -> Call -> each request that waits for its reply
//! ```
//!
//! A call runs by itself from the moment when its request has been read, so its caller may go. The
//! handlers get a socket that has never joined its namespace: nothing of it is left when they end.

mod call;
mod error;
mod openapi;
mod options;
mod path;
mod repeats;
mod running;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
};

use antiphon_protocol::{
    engine::Revision,
    socket::{Decoder, Limits, OwnedArgs, Packet},
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version,
    header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
    request::Parts,
};

pub(crate) use call::Caller;
pub(crate) use error::CallError;
pub use options::HttpCalls;

use self::{
    call::{Call, Reply},
    path::Address,
    repeats::Repeats,
    running::{Permit, Running},
};
use crate::engine::{Engine, Fallback, LONGEST, ReadBody, session::turn};
use crate::server::{
    ConnectError, Handshake, Socket,
    acks::Responder,
    client,
    handlers::{
        dispatch,
        permits::{self, Permits},
    },
    namespace::{children::NoNamespace, lease::Lease, namespaces::Namespaces, rule::JoinRequest},
};

/// The auth payload of a call.
const AUTH: HeaderName = HeaderName::from_static("antiphon-auth");

/// Where the description is, below `{path}/call`.
const DESCRIPTION: &str = "openapi.json";

/// What answers the calls of a server.
pub(crate) struct Calls {
    options: HttpCalls,
    /// `{path}/call/`.
    prefix: Box<str>,
    namespaces: Weak<Namespaces>,
    running: Arc<Running>,
    repeats: Arc<Repeats>,
    /// What runs for all of them together.
    permits: Arc<Permits>,
}

impl Calls {
    pub(crate) fn new(mut options: HttpCalls, namespaces: &Arc<Namespaces>) -> Self {
        let handlers = namespaces.shared.max_running_handlers;
        options.timeout = options.timeout.min(LONGEST);
        Self {
            running: Running::new(&options, handlers),
            options,
            prefix: format!("{}/call/", namespaces.shared.path).into(),
            namespaces: Arc::downgrade(namespaces),
            repeats: Arc::default(),
            permits: Arc::new(Permits::new(handlers)),
        }
    }

    async fn respond(
        &self,
        engine: &Arc<Engine>,
        request: &Parts,
        body: ReadBody<'_>,
    ) -> Result<Reply, CallError> {
        engine.admit(request).await?;
        let namespaces = self.namespaces.upgrade().ok_or(CallError::NoEvent)?;
        let path = request.uri.path().strip_prefix(&*self.prefix);
        let path = path.ok_or(CallError::NoEvent)?;
        let described = self.options.description && path == DESCRIPTION;
        if described && matches!(request.method, Method::GET | Method::HEAD) {
            return self.describe(engine, request, &namespaces).await;
        }
        if request.method != Method::POST {
            return Err(CallError::Method {
                method: request.method.clone(),
                allowed: if described {
                    "GET, HEAD, POST, OPTIONS"
                } else {
                    "POST, OPTIONS"
                },
            });
        }
        let Address { namespace, event } = Address::parse(path)?;
        let limits = namespaces.shared.limits;
        let auth = auth(&request.headers, limits)?;
        let handshake = Handshake::new(request, &namespaces.shared.kept);
        let handshake = Arc::new(handshake);
        let found = find(&namespaces, &namespace, auth.clone(), &handshake).await?;
        if !found.handles(&event) {
            return Err(CallError::UnknownEvent(namespace, event));
        }
        if !is_json(&request.headers) {
            return Err(CallError::MediaType);
        }
        let length = length(request).min(engine.config().max_payload);
        let permit = self.permit(request, length)?;
        let body = body.await?;
        let args = arguments(&event, &body, limits)?;
        let key = self.repeats.key(request, &body);
        drop(body);
        let now = crate::clock::now();
        let socket = Socket::of_call(found.clone(), engine, &self.permits, handshake, auth);
        if let Some(first) = key.as_ref().and_then(|key| self.repeats.get(key, now)) {
            return self.repeat(&first, socket, permit).await;
        }
        let size = permits::size(&args.as_args());
        if self.permits.are_exhausted() {
            return Err(CallError::TooManyCalls);
        }
        let call = Call::new(now, self.options.timeout);
        let permit = permit.run(size)?;
        if let Some(first) = key.and_then(|key| self.repeats.insert(key, &call)) {
            return self.repeat(&first, socket, permit).await;
        }
        engine.counters().calls.add(1);
        let caller = Caller::new(Arc::clone(&call), permit);
        // Up to here the caller's going away ends it all, from here on nothing.
        let called = socket.clone();
        let run = Box::pin(async move {
            run(socket, event, args, caller).await;
            // Up to here its namespace stays.
            drop(found);
        });
        turn::scope(|| called.peer().run(run, size));
        drop(called);
        call.reply().await
    }
}

impl Calls {
    fn permit(&self, request: &Parts, bytes: usize) -> Result<Permit, CallError> {
        let caller = (self.options.caller)(request).map(String::into_boxed_str);
        self.running.begin(caller, bytes)
    }

    /// The reply to a call that was made before, by the same caller: whether it still may is asked
    /// as for the first.
    async fn repeat(
        &self,
        first: &Call,
        socket: Socket,
        permit: Permit,
    ) -> Result<Reply, CallError> {
        self.may_call(&socket).await?.map_err(CallError::Refused)?;
        drop((socket, permit));
        first.reply().await
    }

    /// Asks the middlewares about a socket, for as long as a call may take.
    async fn may_call(&self, socket: &Socket) -> Result<Result<(), ConnectError>, CallError> {
        let timeout = self.options.timeout;
        let asked = tokio::time::timeout(timeout, ask(socket)).await;
        asked.map_err(|_| CallError::Timeout(timeout))
    }

    /// Describes the events of those namespaces that let this caller in.
    async fn describe(
        &self,
        engine: &Arc<Engine>,
        request: &Parts,
        namespaces: &Namespaces,
    ) -> Result<Reply, CallError> {
        let _permit = self.permit(request, 0)?;
        let auth = auth(&request.headers, namespaces.shared.limits)?;
        let mut open = Vec::new();
        let handshake = Handshake::new(request, &namespaces.shared.kept);
        let handshake = Arc::new(handshake);
        // What clients have caused has names of their choice, which aren't for others.
        let all = namespaces.all().into_iter();
        for namespace in all.filter(|namespace| !namespace.is_caused()) {
            let handshake = Arc::clone(&handshake);
            let auth = auth.clone();
            let socket = Socket::of_call(namespace.clone(), engine, &self.permits, handshake, auth);
            if self.may_call(&socket).await?.is_ok() {
                open.push(namespace);
            }
        }
        Ok(Reply {
            status: StatusCode::OK,
            body: openapi::describe(&open),
        })
    }
}

impl Fallback for Calls {
    fn takes(&self, request: &Parts) -> bool {
        request.uri.path().starts_with(&*self.prefix)
    }

    fn answer<'a>(
        &'a self,
        engine: &'a Arc<Engine>,
        request: &'a Parts,
        body: ReadBody<'a>,
    ) -> Pin<Box<dyn Future<Output = Response<Bytes>> + Send + 'a>> {
        Box::pin(async move {
            match self.respond(engine, request, body).await {
                Ok(reply) => to_response(reply),
                Err(error) => {
                    if !matches!(error, CallError::Timeout(_) | CallError::NoAnswer) {
                        engine.counters().calls_refused.add(1);
                    }
                    tracing::debug!(
                        code = error.code(),
                        error = &*error.detail(),
                        path = request.uri.path(),
                        "call refused"
                    );
                    let mut response = to_response(Reply::from(&error));
                    error.add_headers(&mut response);
                    response
                }
            }
        })
    }
}

/// Runs a call: the namespace's middlewares, then the handlers of the event.
async fn run(socket: Socket, event: String, args: OwnedArgs, caller: Caller) {
    match ask(&socket).await {
        Ok(()) => dispatch::call(socket, event, args, Responder::to_caller(caller)).await,
        Err(error) => {
            let counters = socket.peer().engine().counters();
            counters.connects_refused.add(1);
            tracing::debug!(
                namespace = socket.namespace().name(),
                message = error.message,
                "call refused by a middleware"
            );
            caller.refuse(error);
        }
    }
}

/// Asks the middlewares of a namespace, which may also disconnect the socket.
async fn ask(socket: &Socket) -> Result<(), ConnectError> {
    client::joining::ask_middlewares(socket).await?;
    match socket.stays_out() {
        true => Ok(()),
        false => Err(ConnectError::new("disconnected")),
    }
}

/// The namespace that a caller names, by the rules for a client that asks to join it.
async fn find(
    namespaces: &Namespaces,
    name: &str,
    auth: Option<Box<str>>,
    handshake: &Arc<Handshake>,
) -> Result<Lease, CallError> {
    if let Some(lease) = namespaces.lease(name) {
        return Ok(lease);
    }
    let unknown = || CallError::UnknownNamespace(name.to_owned());
    if !namespaces.has_parents() || name.len() > namespaces.shared.limits.namespace {
        return Err(unknown());
    }
    let request = JoinRequest::new(name, auth, handshake, &namespaces.shared);
    let resolved = client::asking::resolve(namespaces, &request).await;
    resolved.map_err(|error| match error {
        NoNamespace::Unknown => unknown(),
        NoNamespace::Refused(error) => CallError::Refused(error),
    })
}

/// How many bytes a body has, as far as its headers say: as many as one can if they don't.
fn length(request: &Parts) -> usize {
    let headers = &request.headers;
    let length = headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok());
    // RFC 9112 §6.3: with neither header there is none. HTTP/2 needs neither.
    let has_none = request.version <= Version::HTTP_11
        && ![CONTENT_LENGTH, TRANSFER_ENCODING]
            .iter()
            .any(|name| headers.contains_key(name));
    let unknown = if has_none { 0 } else { usize::MAX };
    length.and_then(|it| it.parse().ok()).unwrap_or(unknown)
}

fn to_response(reply: Reply) -> Response<Bytes> {
    let mut response = Response::new(reply.body);
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(CONTENT_TYPE, json);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether the body is JSON, as far as its headers say.
fn is_json(headers: &HeaderMap) -> bool {
    let is = |name, wanted: &[u8]| {
        headers.get(name).is_none_or(|value| {
            let essence = value.as_bytes().split(|byte| *byte == b';').next();
            let essence = essence.unwrap_or_default().trim_ascii();
            essence.eq_ignore_ascii_case(wanted)
        })
    };
    is(CONTENT_TYPE, b"application/json") && is(CONTENT_ENCODING, b"identity")
}

/// The auth payload, by the rules for the one with which a client connects.
fn auth(headers: &HeaderMap, limits: Limits) -> Result<Option<Box<str>>, CallError> {
    let mut values = headers.get_all(AUTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let wrong = |what: &str| CallError::AuthHeader(what.to_owned());
    if values.next().is_some() {
        return Err(wrong("there are several"));
    }
    let json = value.to_str().map_err(|_| wrong("it isn't plain ASCII"))?;
    let packet = format!("0{json}");
    match Decoder::new(Revision::V4, limits).text(&packet) {
        Ok(Some(Packet::Connect {
            auth: Some(auth), ..
        })) => Ok(Some(auth.into())),
        Ok(_) => Err(wrong("expected a JSON object")),
        Err(error) => Err(CallError::AuthHeader(error.to_string())),
    }
}

/// The arguments, by the rules for those of an event that a client sends.
fn arguments(event: &str, body: &[u8], limits: Limits) -> Result<OwnedArgs, CallError> {
    let wrong = |what: &str| CallError::Arguments(what.to_owned());
    let body = std::str::from_utf8(body).map_err(|_| wrong("it isn't UTF-8"))?;
    let body = body.trim_matches([' ', '\t', '\r', '\n']);
    let rest = match body {
        "" => "]",
        list => list
            .strip_prefix('[')
            .ok_or_else(|| wrong("expected an array"))?,
    };
    let name = serde_json::to_string(event).map_err(|error| wrong(&error.to_string()))?;
    let comma = if rest.trim_start().starts_with(']') {
        ""
    } else {
        ","
    };
    let packet = format!("2[{name}{comma}{rest}");
    match Decoder::new(Revision::V4, limits).text(&packet) {
        Ok(Some(Packet::Event { args, .. })) => Ok(args.to_owned()),
        Ok(_) => Err(wrong("expected an array")),
        // Where, in the body; the limits say it better than the parser does.
        Err(error) => match serde_json::from_str::<Vec<serde::de::IgnoredAny>>(body) {
            Err(error) if !error.is_data() && rest != "]" => Err(wrong(&error.to_string())),
            _ => Err(wrong(&error.to_string())),
        },
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(event: &str, body: &str) -> Option<String> {
        let args = arguments(event, body.as_bytes(), Limits::default()).ok()?;
        Some(args.as_args().json().to_owned())
    }

    #[test]
    fn a_body_is_a_list_of_arguments() {
        for (body, expected) in [
            ("", ""),
            (" \n", ""),
            ("[]", ""),
            (" [ ] ", ""),
            ("[1]", "1"),
            (r#" [1, "a", {"b":[null]}] "#, r#"1, "a", {"b":[null]}"#),
        ] {
            assert_eq!(args("e", body).as_deref(), Some(expected), "{body}");
        }
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        let deep = "[".repeat(101) + &"]".repeat(101);
        for body in [
            "1",
            "{}",
            "null",
            "[",
            "]",
            "[1",
            "[1]]",
            "[1],[2]",
            "[],1]",
            "[,1]",
            "[1,]",
            "[1 2]",
            "[1]x",
            "[\"\u{1}\"]",
            "\u{a0}[1]",
            &deep,
        ] {
            assert_eq!(args("e", body), None, "{body}");
        }
    }

    #[test]
    fn a_name_is_only_a_name() {
        assert_eq!(args(r#"a","b"#, "[1]").as_deref(), Some("1"));
        assert_eq!(args("connect", "[1]"), None);
        assert_eq!(args(&"a".repeat(1_025), "[1]"), None);
    }
}
