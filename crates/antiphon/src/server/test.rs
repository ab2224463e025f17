//! Clients in the process, for tests of one's handlers: no port, no browser, no real time.
//!
//! A [`Client`] is a whole one: it opens a WebSocket over memory, joins a namespace, and speaks the
//! protocol of Socket.IO 4, so that middlewares, handlers, rooms, acknowledgements and bounds are
//! those of production. It answers heartbeats by itself.
//!
//! ```
//! use antiphon::{Data, Server, Socket, test::Client};
//! use serde_json::json;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), antiphon::test::Error> {
//! let io = Server::new();
//! io.of("/chat")
//!     .on_connect(async |socket: Socket| socket.join("lobby"))
//!     .on("say", async |socket: Socket, Data(text): Data<String>| {
//!         socket.to("lobby").emit("said", &text);
//!         text.len()
//!     });
//!
//! let mut ada = Client::connect(&io).namespace("/chat").await?;
//! let mut ben = Client::connect(&io).namespace("/chat").auth(json!({ "name": "ben" })).await?;
//!
//! let length: usize = ada.emit_with_ack("say", "hello").await?;
//! assert_eq!(length, 5);
//! let said: String = ben.expect("said").await?;
//! assert_eq!(said, "hello");
//! ada.expect_nothing().await?; // she doesn't hear herself
//! # Ok(())
//! # }
//! ```
//!
//! With `#[tokio::test(start_paused = true)]` hours pass in an instant: whenever all tasks wait for
//! time, tokio goes on to the next deadline. It needs tokio's feature `test-util`.
//!
//! Each wait ends with an [`Error`] after [5 s](Connecting::patience). What a real network does
//! isn't tested like this: use a stock client for that.

use std::{
    collections::VecDeque,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use antiphon_protocol::{
    engine::{EncodedMessage, Revision},
    socket::{self, ArgsError, Draft, EncodeError, Limits, MAX_ATTACHMENTS, OwnedArgs, Packet},
    websocket::{Decoder, Event, Opcode, Role, masked_frame},
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

use crate::server::{Args, FromArgs, IntoArgs, IntoReply, Server};

/// Bytes that are under way in each direction.
const PIPE: usize = 64 << 10;
/// Of one message.
const MAX_PAYLOAD: usize = 256 << 20;
/// Where nothing is to be hidden, any will do.
const MASK: [u8; 4] = [0; 4];

/// What went otherwise than the test expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused the connection, as a stock client would learn it from an HTTP status.
    #[error("the server answered the handshake with {0}")]
    Handshake(String),
    /// The namespace refused the socket: its `connect_error`.
    #[error("the namespace refused the socket: {message}")]
    #[non_exhaustive]
    Refused {
        /// The error's message.
        message: String,
        /// The error's data, `null` if it has none.
        data: serde_json::Value,
    },
    /// What was waited for didn't come in time.
    #[error("{0} didn't come in time")]
    Late(String),
    /// The socket is gone.
    #[error("the socket has left while it waited for {0}")]
    Left(String),
    /// Events came where none was expected.
    #[error("these events came where none was expected: {0:?}")]
    Unexpected(Vec<String>),
    /// An event that was to be acknowledged was emitted without asking for it.
    #[error("the event {0:?} doesn't ask for an acknowledgement")]
    NotAsked(String),
    /// Arguments that came aren't of the type that was asked for.
    #[error("the arguments of {0} don't fit: {1}")]
    Args(String, #[source] ArgsError),
    /// What was to be sent can't be.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// What the server sent is no packet: a fault of the server.
    #[error("the server sent what no client understands: {0}")]
    Protocol(String),
}

/// How a socket that has left was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Left {
    /// By a DISCONNECT packet: the server has [disconnected](crate::Socket::disconnect) it.
    Disconnected,
    /// Its connection has ended.
    Closed,
}

/// What a connection brings.
#[derive(Debug)]
enum Received {
    Joined(String),
    Refused(serde_json::Value),
    Event(String, Option<u64>, OwnedArgs),
    Ack(u64, OwnedArgs),
    Pong,
    Left(Left),
    Wrong(String),
}

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

/// A client with one socket, on a connection of its own. Dropped, it goes without a goodbye.
#[derive(Debug)]
pub struct Client {
    id: String,
    namespace: String,
    draft: Draft,
    last_ack: u64,
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    incoming: mpsc::UnboundedReceiver<Received>,
    /// What has come and wasn't waited for yet.
    kept: VecDeque<Received>,
    left: Option<Left>,
    patience: Duration,
}

impl Client {
    /// A client that connects to this server when it is awaited.
    pub fn connect(server: &Server) -> Connecting {
        Connecting {
            server: server.clone(),
            namespace: "/".to_owned(),
            auth: String::new(),
            headers: HeaderMap::new(),
            extensions: Extensions::new(),
            patience: Duration::from_secs(5),
        }
    }

    /// The id of its socket, by which the server finds it: [`Namespace::socket`](crate::Namespace::socket).
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Emits an event.
    ///
    /// # Errors
    /// If it can't be encoded.
    pub fn emit(&mut self, event: &str, args: impl IntoArgs) -> Result<(), Error> {
        args.encode_event(&mut self.draft, &self.namespace, None, event)?;
        self.send_draft();
        Ok(())
    }

    /// Emits an event, and waits for its acknowledgement.
    ///
    /// # Errors
    /// If it can't be encoded, is never acknowledged, or by something else than an `R`.
    pub async fn emit_with_ack<R: FromArgs>(
        &mut self,
        event: &str,
        args: impl IntoArgs,
    ) -> Result<R, Error> {
        self.last_ack += 1;
        let id = self.last_ack;
        args.encode_event(&mut self.draft, &self.namespace, Some(id), event)?;
        self.send_draft();
        let what = format!("the acknowledgement of {event:?}");
        let args = self.wait(&what, |received| match received {
            Received::Ack(of, args) if of == id => Ok(args),
            other => Err(other),
        });
        let args = args.await?;
        R::from_args(args).map_err(|error| Error::Args(what, error))
    }

    /// Waits for the next event of this name. Others that come before stay for who waits for them.
    ///
    /// # Errors
    /// If it doesn't come in time, or with something else than a `T`.
    pub async fn expect<T: FromArgs>(&mut self, event: &str) -> Result<T, Error> {
        Ok(self.expect_any_form(event).await?.0)
    }

    /// Waits for the next event of this name, which the server has emitted with an acknowledgement,
    /// and acknowledges it with what `reply` makes of its arguments.
    ///
    /// # Errors
    /// As [`expect`](Self::expect), or if the reply can't be encoded.
    pub async fn acknowledge<T: FromArgs, R: IntoReply>(
        &mut self,
        event: &str,
        reply: impl FnOnce(T) -> R,
    ) -> Result<(), Error> {
        let (args, id) = self.expect_any_form(event).await?;
        let id = id.ok_or_else(|| Error::NotAsked(event.to_owned()))?;
        reply(args).encode_ack(&mut self.draft, &self.namespace, id)?;
        self.send_draft();
        Ok(())
    }

    async fn expect_any_form<T: FromArgs>(
        &mut self,
        event: &str,
    ) -> Result<(T, Option<u64>), Error> {
        let what = format!("the event {event:?}");
        let (id, args) = self
            .wait(&what, |received| match received {
                Received::Event(name, id, args) if name == event => Ok((id, args)),
                other => Err(other),
            })
            .await?;
        let args = T::from_args(args).map_err(|error| Error::Args(what, error))?;
        Ok((args, id))
    }

    /// The next event, whatever its name.
    ///
    /// # Errors
    /// If none comes in time.
    pub async fn next(&mut self) -> Result<(String, Args), Error> {
        self.wait("an event", |received| match received {
            Received::Event(name, _, args) => Ok((name, Args::new(args))),
            other => Err(other),
        })
        .await
    }

    /// Lets the server handle all that this client has sent, up to the first `await` of its
    /// handlers, and checks that no event has come that wasn't waited for.
    ///
    /// # Errors
    /// [`Error::Unexpected`] if one has.
    pub async fn expect_nothing(&mut self) -> Result<(), Error> {
        self.send_frame(Opcode::Ping, b"");
        self.wait("the server", |received| match received {
            Received::Pong => Ok(()),
            other => Err(other),
        })
        .await?;
        let events = self.kept.iter().filter_map(|received| match received {
            Received::Event(name, ..) => Some(name.clone()),
            _ => None,
        });
        let events: Vec<_> = events.collect();
        match events.is_empty() {
            true => Ok(()),
            false => Err(Error::Unexpected(events)),
        }
    }

    /// Leaves the namespace, as `disconnect()` of a stock client: the server's reason is
    /// `client namespace disconnect`.
    pub fn leave(&mut self) {
        let packet = match self.namespace.as_str() {
            "/" => "41".to_owned(),
            namespace => format!("41{namespace},"),
        };
        self.send_frame(Opcode::Text, packet.as_bytes());
    }

    /// Waits until the server has sent the socket away, or the connection has ended.
    ///
    /// # Errors
    /// If neither happens in time.
    pub async fn left(&mut self) -> Result<Left, Error> {
        if let Some(left) = self.left {
            return Ok(left);
        }
        self.wait("the end", |received| match received {
            Received::Left(left) => Ok(left),
            other => Err(other),
        })
        .await
    }

    fn send_draft(&mut self) {
        let message = self.draft.finish();
        let _ = self.outgoing.send(masked(&message));
    }

    fn send_frame(&self, opcode: Opcode, data: &[u8]) {
        // Where the connection has ended, that is what comes in.
        let _ = self.outgoing.send(masked_frame(opcode, data, MASK));
    }

    /// The first of what has come, or comes, that is wanted.
    async fn wait<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(Received) -> Result<T, Received>,
    ) -> Result<T, Error> {
        for at in 0..self.kept.len() {
            let Some(received) = self.kept.remove(at) else {
                break;
            };
            match wanted(received) {
                Ok(found) => return Ok(found),
                Err(other) => self.kept.insert(at, other),
            }
        }
        let waiting = async {
            while let Some(received) = self.incoming.recv().await {
                if let Received::Wrong(why) = received {
                    return Err(Error::Protocol(why));
                }
                if let Received::Left(left) = received {
                    self.left = Some(left);
                }
                match wanted(received) {
                    Ok(found) => return Ok(found),
                    Err(Received::Left(_)) => break,
                    Err(other) => self.kept.push_back(other),
                }
            }
            Err(Error::Left(what.to_owned()))
        };
        timeout(self.patience, waiting)
            .await
            .unwrap_or_else(|_| Err(Error::Late(what.to_owned())))
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

/// The frames of a message, as a client sends them.
fn masked(message: &EncodedMessage) -> Vec<u8> {
    let mut frames = Vec::new();
    for packet in message.packets() {
        let opcode = match packet.is_binary() {
            true => Opcode::Binary,
            false => Opcode::Text,
        };
        frames.append(&mut masked_frame(opcode, packet.payload(), MASK));
    }
    frames
}

/// The client's side of a WebSocket: it reads for as long as the client lives.
struct Connection {
    stream: DuplexStream,
    frames: Decoder,
    packets: socket::Decoder,
    received: mpsc::UnboundedSender<Received>,
}

impl Connection {
    fn new(stream: DuplexStream, received: mpsc::UnboundedSender<Received>) -> Self {
        let limits = Limits::new().attachments(usize::MAX);
        Self {
            stream,
            frames: Decoder::new(Role::Client, MAX_PAYLOAD),
            packets: socket::Decoder::new(Revision::V4, limits),
            received,
        }
    }

    async fn run(mut self, mut to_send: mpsc::UnboundedReceiver<Vec<u8>>) {
        let mut input = Vec::new();
        let mut chunk = vec![0; PIPE];
        loop {
            tokio::select! {
                frames = to_send.recv() => {
                    let Some(frames) = frames else {
                        return; // the client was dropped
                    };
                    if self.stream.write_all(&frames).await.is_err() {
                        break;
                    }
                }
                read = self.stream.read(&mut chunk) => {
                    let Ok(length @ 1..) = read else {
                        break;
                    };
                    input.extend_from_slice(&chunk[..length]);
                    match self.take(&mut input).await {
                        Ok(true) => {}
                        Ok(false) => break,
                        Err(why) => {
                            let _ = self.received.send(Received::Wrong(why));
                            return;
                        }
                    }
                }
            }
        }
        let _ = self.received.send(Received::Left(Left::Closed));
    }

    /// Takes what whole frames say. Returns `false` after a close frame.
    async fn take(&mut self, input: &mut Vec<u8>) -> Result<bool, String> {
        let mut consumed = 0;
        while consumed < input.len() {
            let decoded = self.frames.decode(&mut input[consumed..]);
            let decoded = decoded.map_err(|error| error.to_string())?;
            if decoded.consumed == 0 {
                break;
            }
            consumed += decoded.consumed;
            let mut answer = None;
            let received = match decoded.event {
                None => None,
                Some(Event::Text(text)) if &*text == "2" => {
                    answer = Some(masked_frame(Opcode::Text, b"3", MASK));
                    None
                }
                Some(Event::Text(text)) => match text.strip_prefix('4') {
                    Some(packet) => {
                        let packet = self.packets.text(packet);
                        packet
                            .map_err(|error| error.to_string())?
                            .and_then(of_packet)
                    }
                    None => None, // open, close, noop
                },
                Some(Event::Binary(data)) => {
                    let whole = self.packets.binary(data.into());
                    let whole = whole.map_err(|error| error.to_string())?;
                    whole.and_then(|whole| of_packet(whole.packet()))
                }
                Some(Event::Ping(data)) => {
                    answer = Some(masked_frame(Opcode::Pong, data, MASK));
                    None
                }
                Some(Event::Pong(_)) => Some(Received::Pong),
                Some(Event::Close(_)) => return Ok(false),
            };
            if let Some(received) = received {
                // A client that was dropped waits for nothing.
                let _ = self.received.send(received);
            }
            if let Some(answer) = answer
                && self.stream.write_all(&answer).await.is_err()
            {
                return Ok(false);
            }
        }
        input.drain(..consumed);
        Ok(true)
    }
}

/// What a packet of the server means to its client.
fn of_packet(packet: Packet<'_>) -> Option<Received> {
    let json = |text: &str| serde_json::from_str(text).unwrap_or_default();
    match packet {
        Packet::Connect { auth, .. } => {
            let sid: serde_json::Value = json(auth.unwrap_or_default());
            let sid = sid["sid"].as_str().unwrap_or_default();
            Some(Received::Joined(sid.to_owned()))
        }
        Packet::ConnectError { data, .. } => Some(Received::Refused(json(data))),
        Packet::Disconnect { .. } => Some(Received::Left(Left::Disconnected)),
        Packet::Event { id, name, args, .. } => {
            Some(Received::Event(name.into_owned(), id, args.to_owned()))
        }
        Packet::Ack { id, args, .. } => Some(Received::Ack(id, args.to_owned())),
    }
}
