//! A client of bytes: HTTP and WebSocket by hand, over any stream.

// Not every test uses all of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod stream;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use antiphon::{Server, ServerBuilder};
use antiphon_protocol::websocket::{Decoder, Event, Opcode, Role, masked_frame};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};

/// Fails a test instead of letting it hang.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Lets others run until this holds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    within(what, async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The request of a session over WebSocket.
pub const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// The same with Engine.IO 3.
pub const WEBSOCKET_3: &str = "/socket.io/?EIO=3&transport=websocket";

/// A listener on a free port.
pub async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Serves on a free port.
pub async fn serve(io: &Server) -> SocketAddr {
    let (listener, address) = listener().await;
    drop(serve_on(io, listener));
    address
}

/// Serves on a listener: resolves when that has ended.
pub fn serve_on(io: &Server, listener: TcpListener) -> JoinHandle<()> {
    let io = io.clone();
    tokio::spawn(async move { io.serve(listener).await })
}

/// One HTTP/1.1 exchange on a connection of its own: status and body.
pub async fn http(address: SocketAddr, request: &str, body: &str) -> (u16, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    http_over(stream, request, body).await
}

/// As [`http`], over any stream.
pub async fn http_over(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
    body: &str,
) -> (u16, String) {
    let exchange = try_http_over(stream, request, body);
    within("the answer", exchange).await.unwrap()
}

/// As [`http_over`], where the connection may fail.
pub async fn try_http_over(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
    body: &str,
) -> io::Result<(u16, String)> {
    let head = format!(
        "{request} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let whole = || {
        let answer = String::from_utf8(answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let length = head.to_ascii_lowercase();
        let length = length.split_once("content-length: ");
        let length = length.and_then(|(_, rest)| rest.lines().next()?.parse().ok());
        // A part of an answer is none.
        (length.is_none_or(|length: usize| body.len() == length)).then(|| (status, body.to_owned()))
    };
    whole().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Numbers below a bound, the same for each seed (xorshift).
pub fn random(seed: u64) -> impl FnMut(usize) -> usize {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    move |bound| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 33) as usize % bound
    }
}

/// What the process has in memory, in KiB.
#[cfg(target_os = "linux")]
pub fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The session's id in the open packet of a handshake.
pub fn sid(open: &str) -> &str {
    let (_, rest) = open.split_once("\"sid\":\"").unwrap();
    &rest[..20]
}

/// The bit of a compressed message, in the first byte of its first frame.
pub const RSV1: u8 = 0x40;

/// A message of a WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    Text(String),
    Binary(Vec<u8>),
    Closed(Option<u16>),
}

/// The client's end of a WebSocket.
pub struct WebSocket<S> {
    stream: S,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl WebSocket<TcpStream> {
    pub async fn connect(address: SocketAddr, path: &str) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap(), path).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Shakes hands over a stream.
    pub async fn over(stream: S, path: &str) -> Self {
        Self::offering(stream, path, "").await.0
    }

    /// Shakes hands with more lines in the head of the request. Gives the head of the response, too.
    pub async fn offering(stream: S, path: &str, lines: &str) -> (Self, String) {
        let (websocket, head) = Self::try_offering(stream, path, lines).await.unwrap();
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        (websocket, head)
    }

    /// As [`offering`](Self::offering), where the connection may fail.
    pub async fn try_offering(
        mut stream: S,
        path: &str,
        lines: &str,
    ) -> io::Result<(Self, String)> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut buffer = Vec::new();
        let refused = |answer: &[u8]| {
            let answer = String::from_utf8_lossy(answer);
            io::Error::other(format!("refused: {answer}"))
        };
        let end = loop {
            let read = within("the handshake", stream.read_buf(&mut buffer)).await?;
            if read == 0 {
                return Err(refused(&buffer));
            }
            if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        if !head.starts_with("HTTP/1.1 101") {
            return Err(refused(head.as_bytes()));
        }
        buffer.drain(..end);
        let websocket = Self {
            buffer,
            ..Self::opened(stream)
        };
        Ok((websocket, head))
    }

    /// The client's end of a stream whose handshake is over.
    pub fn opened(stream: S) -> Self {
        Self {
            stream,
            decoder: Decoder::new(Role::Client, 16 << 20),
            buffer: Vec::new(),
        }
    }

    /// The stream, for whoever writes and reads bytes. Nothing may have been read ahead.
    pub fn into_stream(self) -> S {
        assert!(self.buffer.is_empty());
        self.stream
    }

    /// The same with another decoder.
    pub fn map_decoder(mut self, change: impl FnOnce(Decoder) -> Decoder) -> Self {
        self.decoder = change(self.decoder);
        self
    }

    pub async fn send(&mut self, text: &str) {
        self.send_frame(Opcode::Text, text.as_bytes()).await;
    }

    /// Sends texts in one write, so that the server reads them at once.
    pub async fn send_together(&mut self, texts: &[&str]) {
        let frames = texts.iter();
        let frames: Vec<u8> = frames
            .flat_map(|text| masked_frame(Opcode::Text, text.as_bytes(), [1, 2, 3, 4]))
            .collect();
        self.stream.write_all(&frames).await.unwrap();
    }

    /// The next message, which must be a text that begins with this.
    pub async fn expect_prefix(&mut self, prefix: &str) -> String {
        match self.next().await {
            Received::Text(text) if text.starts_with(prefix) => text,
            other => panic!("{other:?} instead of {prefix}.."),
        }
    }

    pub async fn send_frame(&mut self, opcode: Opcode, data: &[u8]) {
        self.try_send_frame(opcode, data).await.unwrap();
    }

    /// As [`send_frame`](Self::send_frame), where the connection may fail.
    pub async fn try_send_frame(&mut self, opcode: Opcode, data: &[u8]) -> io::Result<()> {
        let frame = masked_frame(opcode, data, [1, 2, 3, 4]);
        self.stream.write_all(&frame).await
    }

    /// The next message; pings and pongs of WebSocket itself are passed over.
    pub async fn next(&mut self) -> Received {
        self.next_frame().await.0
    }

    /// As [`next`](Self::next), with the frame that it came in, or the last of its frames.
    pub async fn next_frame(&mut self) -> (Received, Vec<u8>) {
        loop {
            let decoded = self.decoder.decode(&mut self.buffer).unwrap();
            let consumed = decoded.consumed;
            let received = decoded.event.and_then(|event| match event {
                Event::Text(text) => Some(Received::Text(text.into_owned())),
                Event::Binary(data) => Some(Received::Binary(data.into())),
                Event::Close(close) => Some(Received::Closed(close.map(|close| close.code))),
                Event::Ping(_) | Event::Pong(_) => None,
            });
            // A server's frames aren't masked: they are as they came.
            let frame = self.buffer.drain(..consumed).collect();
            if let Some(received) = received {
                return (received, frame);
            }
            if consumed == 0 && !self.decoder.is_inflating() {
                let read = within("a frame", self.stream.read_buf(&mut self.buffer)).await;
                if read.unwrap_or(0) == 0 {
                    return (Received::Closed(None), Vec::new());
                }
            }
        }
    }

    pub async fn expect(&mut self, text: &str) {
        assert_eq!(self.next().await, Received::Text(text.to_owned()));
    }

    /// Joins the main namespace of Socket.IO, past the engine's handshake.
    pub async fn join(&mut self) {
        assert!(matches!(self.next().await, Received::Text(open) if open.starts_with("0{")));
        self.send("40").await;
        assert!(matches!(self.next().await, Received::Text(open) if open.starts_with("40{")));
    }

    pub const fn stream(&mut self) -> &mut S {
        &mut self.stream
    }
}

/// What has happened, in order.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn note(&self, what: impl std::fmt::Display) {
        self.0.lock().unwrap().push(what.to_string());
    }

    pub fn seen(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub fn has(&self, what: &str) -> bool {
        self.0.lock().unwrap().iter().any(|seen| seen == what)
    }

    pub async fn until(&self, what: &str) {
        until(what, || self.has(what)).await;
    }
}

/// Where handlers wait until the test lets one of them go on.
#[derive(Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub async fn pass(&self) {
        self.0.acquire().await.unwrap().forget();
    }

    pub fn open(&self, times: usize) {
        self.0.add_permits(times);
    }
}

/// A server whose handlers have a log and a gate as their state.
pub fn server(builder: ServerBuilder) -> (Server, Log, Gate) {
    let (log, gate) = (Log::default(), Gate::new());
    let io = builder.state(log.clone()).state(gate.clone()).build();
    (io, log, gate)
}
