//! How a client of a test connects: the request that opens its WebSocket, and its namespace's answer.
//!
//! [`Client::connect`] gives a [`Connecting`], which does nothing until it is awaited. Then the
//! server's own service answers over a pipe in memory, and a task has the connection. A refusal is an
//! [`Error`], which says what a stock client would learn.

use std::{
    collections::VecDeque,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use antiphon_protocol::{
    socket::{Draft, MAX_ATTACHMENTS},
    websocket::Opcode,
};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
    time::timeout,
};
use tower_service::Service;

use super::{
    Client, Error,
    wire::{Connection, PIPE, Received},
};
use crate::server::Server;

/// A client that is about to connect: `.await` it.
#[derive(Debug)]
#[must_use = "a client connects when it is awaited"]
pub struct Connecting {
    server: Server,
    namespace: String,
    auth: String,
    headers: HeaderMap,
    extensions: Extensions,
    patience: Duration,
}

impl Connecting {
    pub(super) fn new(server: &Server) -> Self {
        Self {
            server: server.clone(),
            namespace: "/".to_owned(),
            auth: String::new(),
            headers: HeaderMap::new(),
            extensions: Extensions::new(),
            patience: Duration::from_secs(5),
        }
    }

    /// The namespace to join. By default it is the main one.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// The `auth` to join with: what is a JSON object. By default there is none.
    ///
    /// # Panics
    /// If it is anything else: no client may join with that.
    pub fn auth(mut self, auth: impl Serialize) -> Self {
        self.auth = match serde_json::to_value(&auth) {
            Ok(auth @ serde_json::Value::Object(_)) => auth.to_string(),
            Ok(other) => panic!("the auth of a client is a JSON object, and not {other}"),
            Err(error) => panic!("the auth of a client can't be serialized: {error}"),
        };
        self
    }

    /// A header of the request that opens the connection.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// What a layer in front of the server would put into the request's extensions.
    pub fn extension<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.extensions.insert(value);
        self
    }

    /// How long each wait may last, 5 s by default.
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    async fn open(self) -> Result<Client, Error> {
        let (near, far) = tokio::io::duplex(PIPE);
        let (service, extensions) = (self.server.service(), self.extensions);
        let answer = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().extend(extensions.clone());
            service.clone().call(request)
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(far), answer)
            .with_upgrades();
        tokio::spawn(connection);

        let (outgoing, to_send) = mpsc::unbounded_channel();
        let (received, incoming) = mpsc::unbounded_channel();
        let mut client = Client {
            id: String::new(),
            namespace: self.namespace,
            draft: Draft::new(MAX_ATTACHMENTS),
            last_ack: 0,
            outgoing,
            incoming,
            kept: VecDeque::new(),
            left: None,
            patience: self.patience,
        };
        let opening = handshake(near, self.server.path(), &self.headers);
        let stream = timeout(client.patience, opening).await;
        let stream = stream.map_err(|_| Error::Late("the WebSocket".to_owned()))??;
        tokio::spawn(Connection::new(stream, received).run(to_send));
        let join = match client.namespace.as_str() {
            "/" => format!("40{}", self.auth),
            namespace => format!("40{namespace},{}", self.auth),
        };
        client.send_frame(Opcode::Text, join.as_bytes());
        let joined = client.wait("the namespace", |received| match received {
            Received::Joined(_) | Received::Refused(_) => Ok(received),
            other => Err(other),
        });
        match joined.await? {
            Received::Refused(mut error) => Err(Error::Refused {
                message: error["message"].as_str().unwrap_or_default().to_owned(),
                data: error["data"].take(),
            }),
            Received::Joined(id) => {
                client.id = id;
                Ok(client)
            }
            _ => unreachable!("no other was waited for"),
        }
    }
}

impl IntoFuture for Connecting {
    type Output = Result<Client, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// Opens a connection of its own, and joins the namespace.
    ///
    /// # Errors
    /// If the server or the namespace refuses, or doesn't answer in time.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

/// Opens a WebSocket on a stream.
async fn handshake(
    mut stream: DuplexStream,
    path: &str,
    headers: &HeaderMap,
) -> Result<DuplexStream, Error> {
    let mut head = format!(
        "GET {path}/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    .into_bytes();
    for (name, value) in headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    let ended = |_| Error::Handshake("the end of the connection".to_owned());
    stream.write_all(&head).await.map_err(ended)?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.map_err(ended)?);
    }
    if answer.starts_with(b"HTTP/1.1 101 ") {
        return Ok(stream);
    }
    // What the body says is why. It ends with the connection, or with a pause.
    let mut body = vec![0; PIPE];
    let read = timeout(Duration::from_millis(100), stream.read(&mut body)).await;
    body.truncate(read.ok().and_then(Result::ok).unwrap_or_default());
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.lines().next().unwrap_or_default();
    Err(Error::Handshake(format!(
        "{status}: {}",
        String::from_utf8_lossy(&body)
    )))
}
