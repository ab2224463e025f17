//! Paths through the whole server, on one thread. What the client does on its side is counted
//! too, and kept small.

use std::{future::Future, sync::Arc, time::Duration};

use antiphon::{Ack, Args, Data, Recovery, Server, ServerBuilder, Socket, recovery::Offset};
use antiphon_protocol::websocket::{Opcode, masked_close_frame, masked_frame};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tower_service::Service as _;

use crate::{Path, Run, TEXT};

/// All of them.
pub const PATHS: [Path; 18] = [
    path("echo_duplex", 200, |n| block_on(echo_duplex(n))),
    path("echo_tcp", 200, |n| block_on(echo_tcp(n, 1))),
    path("echo_tcp_32", 20, |n| block_on(echo_tcp(n, 32))),
    path("ack_duplex", 200, |n| block_on(ack_duplex(n))),
    path("data_duplex", 200, |n| block_on(data_duplex(n))),
    path("binary_tcp", 200, |n| block_on(binary_tcp(n))),
    path("echo_recovery", 200, |n| block_on(echo_recovery(n))),
    path("broadcast_64", 40, |n| {
        block_on(broadcast(n, 64, None, false))
    }),
    path("broadcast_64_recovery", 40, |n| {
        block_on(broadcast(n, 64, None, true))
    }),
    path("broadcast_1000", 5, |n| {
        block_on(broadcast(n, 1_000, None, false))
    }),
    path("broadcast_1000_recovery", 5, |n| {
        block_on(broadcast(n, 1_000, None, true))
    }),
    path("broadcast_room_of_8", 100, |n| {
        block_on(broadcast(n, 64, Some("room"), false))
    }),
    path("talk_30", 100, |n| block_on(talk(n, 30))),
    path("join_leave", 500, |n| block_on(join_leave(n))),
    path("echo_polling", 100, |n| block_on(echo_polling(n))),
    path("connect_polling", 50, |n| block_on(connect_polling(n))),
    path("connect_duplex", 50, |n| block_on(connect_duplex(n))),
    path("connect_namespace", 100, |n| block_on(connect_namespace(n))),
];

const fn path(name: &'static str, iterations: u64, run: fn(u64)) -> Path {
    Path {
        name,
        iterations,
        run: Run::Server(run),
    }
}

/// Runs a path as a task, since the future of `block_on` is polled before all tasks.
fn block_on(future: impl Future<Output = ()> + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime can be made");
    let task = runtime.spawn(future);
    runtime.block_on(task).expect("the path doesn't panic");
}

fn server() -> (Server, mpsc::UnboundedReceiver<Socket>) {
    server_of(Server::builder())
}

/// The same with recovery, and the epoch of its log.
async fn server_with_recovery() -> (Server, mpsc::UnboundedReceiver<Socket>, u32) {
    let (io, sockets) = server_of(Server::builder().recovery(Recovery::new()));
    io.emit("first", ());
    let first = io.of("/").history(None, None, 1).await;
    let epoch = first.expect("there is a log")[0].offset.epoch;
    (io, sockets, epoch)
}

/// A server whose deadlines are far away: none passes while a path is counted.
fn server_of(builder: ServerBuilder) -> (Server, mpsc::UnboundedReceiver<Socket>) {
    let far = Duration::from_secs(3600);
    let io = builder
        .ping_interval(far)
        .ping_timeout(far)
        .connect_timeout(far)
        .build();
    let (connected, sockets) = mpsc::unbounded_channel();
    io.of("/other").on_connect(async |_: Socket| {});
    io.of("/")
        .on_connect(move |socket: Socket| {
            let connected = connected.clone();
            async move {
                let _ = connected.send(socket);
            }
        })
        .on("echo", async |socket: Socket, args: Args| {
            socket.emit("echo", args);
        })
        .on("ack", async |args: Args, ack: Ack| ack.send(args))
        .on("move", async |Data(step): Data<Move>, ack: Ack| {
            ack.send(&step)
        });
    (io, sockets)
}

#[derive(Serialize, Deserialize)]
struct Move {
    player: String,
    x: f64,
    y: f64,
    done: bool,
}

/// The client's end of a WebSocket.
struct Client<S> {
    stream: S,
}

fn text_frame(text: &str) -> Vec<u8> {
    masked_frame(Opcode::Text, text.as_bytes(), [1, 2, 3, 4])
}

/// What a server's frame with a short text is.
fn answer_frame(text: &str) -> Vec<u8> {
    assert!(text.len() < 126);
    let mut frame = vec![0x81, text.len() as u8];
    frame.extend_from_slice(text.as_bytes());
    frame
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Opens a session and joins the main namespace.
    async fn open(stream: S) -> Self {
        let mut client = Self { stream };
        client
            .write(
                b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n\
                  Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            )
            .await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.stream.read_u8().await.expect("a byte of the head"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        assert!(client.read_frame().await.starts_with(b"0{"));
        client.write(&text_frame("40")).await;
        assert!(client.read_frame().await.starts_with(b"40{"));
        client
    }

    async fn write(&mut self, bytes: &[u8]) {
        let written = self.stream.write_all(bytes).await;
        written.expect("the server reads");
    }

    async fn read_frame(&mut self) -> Vec<u8> {
        let mut header = [0; 2];
        let read = self.stream.read_exact(&mut header).await;
        read.expect("a header");
        let length = match header[1] {
            126 => self.stream.read_u16().await.expect("a length").into(),
            length => usize::from(length),
        };
        let mut data = vec![0; length];
        self.stream.read_exact(&mut data).await.expect("the data");
        data
    }

    /// Sends and gets the answer, again and again.
    async fn exchange(&mut self, times: u64, send: &[u8], expected: &[u8]) {
        let mut answer = vec![0; expected.len()];
        for _ in 0..times {
            self.write(send).await;
            let read = self.stream.read_exact(&mut answer).await;
            read.expect("the whole answer");
            assert!(answer == expected);
        }
    }
}

/// A connection in memory. It is no TCP, so the server writes to it from a task of its own.
async fn open_duplex(io: &Server) -> Client<DuplexStream> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(far), TowerToHyperService::new(io.service()))
        .with_upgrades();
    tokio::spawn(connection);
    Client::open(near).await
}

/// Connections over loopback: the path that an application's have, where who sends also writes.
async fn open_tcp(io: &Server, count: usize) -> Vec<Client<TcpStream>> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let serving = io.clone();
    tokio::spawn(async move { serving.serve(listener).await });
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        let stream = TcpStream::connect(address).await.expect("a connection");
        clients.push(Client::open(stream).await);
    }
    clients
}

fn echo_event() -> String {
    format!(r#"42["echo","{TEXT}"]"#)
}

async fn echo_duplex(times: u64) {
    let (io, _sockets) = server();
    let mut client = open_duplex(&io).await;
    let event = echo_event();
    client
        .exchange(times, &text_frame(&event), &answer_frame(&event))
        .await;
}

async fn echo_tcp(times: u64, batch: usize) {
    let (io, _sockets) = server();
    let mut client = open_tcp(&io, 1).await.remove(0);
    let event = echo_event();
    let send = text_frame(&event).repeat(batch);
    let expected = answer_frame(&event).repeat(batch);
    client.exchange(times, &send, &expected).await;
}

/// As `echo_tcp`, with a log.
async fn echo_recovery(times: u64) {
    let (io, _sockets, epoch) = server_with_recovery().await;
    let mut client = open_tcp(&io, 1).await.remove(0);
    let send = text_frame(&echo_event());
    for sequence in (2..).take(times as usize) {
        let offset = Offset { epoch, sequence };
        let answer = format!(r#"42["echo","{TEXT}","{offset}"]"#);
        client.exchange(1, &send, &answer_frame(&answer)).await;
    }
}

/// An event with an attachment of 64 bytes, and the same back.
async fn binary_tcp(times: u64) {
    let (io, _sockets) = server();
    let mut client = open_tcp(&io, 1).await.remove(0);
    let event = r#"451-["echo",{"_placeholder":true,"num":0}]"#;
    let mut send = text_frame(event);
    send.extend(masked_frame(Opcode::Binary, TEXT.as_bytes(), [1, 2, 3, 4]));
    let mut expected = answer_frame(event);
    expected.extend([0x82, TEXT.len() as u8]);
    expected.extend(TEXT.as_bytes());
    client.exchange(times, &send, &expected).await;
}

/// A handler that takes its argument as a type of the application, and acknowledges with one.
async fn data_duplex(times: u64) {
    let (io, _sockets) = server();
    let mut client = open_duplex(&io).await;
    let step = r#"{"player":"alice","x":12.5,"y":-3.25,"done":false}"#;
    let send = text_frame(&format!(r#"427["move",{step}]"#));
    let expected = answer_frame(&format!("437[{step}]"));
    client.exchange(times, &send, &expected).await;
}

async fn ack_duplex(times: u64) {
    let (io, _sockets) = server();
    let mut client = open_duplex(&io).await;
    let send = text_frame(&format!(r#"427["ack","{TEXT}"]"#));
    let expected = answer_frame(&format!(r#"437["{TEXT}"]"#));
    client.exchange(times, &send, &expected).await;
}

/// To all of so many, or to an eighth of them that is in a room.
async fn broadcast(times: u64, clients: usize, room: Option<&'static str>, has_log: bool) {
    use std::io::Read as _;
    let (io, mut sockets, epoch) = if has_log {
        server_with_recovery().await
    } else {
        let (io, sockets) = server();
        (io, sockets, 0)
    };
    let mut receivers = Vec::new();
    for (index, client) in open_tcp(&io, clients).await.into_iter().enumerate() {
        let socket = sockets.recv().await.expect("the server lives");
        if let Some(room) = room {
            if index % 8 != 0 {
                receivers.push((client.stream, false));
                continue;
            }
            socket.join(room);
        }
        receivers.push((client.stream, true));
    }
    // Reading what is there is one call, without the runtime.
    let mut receivers: Vec<_> = receivers
        .into_iter()
        .map(|(stream, receives)| (stream.into_std().expect("a socket"), receives))
        .collect();
    let plain = answer_frame(&format!(r#"42["news","{TEXT}"]"#));
    for sequence in (2..).take(times as usize) {
        let offset = Offset { epoch, sequence };
        let expected = match has_log {
            true => answer_frame(&format!(r#"42["news","{TEXT}","{offset}"]"#)),
            false => plain.clone(),
        };
        let mut answer = vec![0; expected.len()];
        match room {
            Some(room) => drop(io.to(room).emit("news", TEXT)),
            None => drop(io.emit("news", TEXT)),
        }
        tokio::task::yield_now().await;
        for (stream, _) in receivers.iter_mut().filter(|(_, receives)| *receives) {
            while let Err(error) = stream.read_exact(&mut answer) {
                // Slow as it is here, the server gives way to others before it has written to all.
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
                tokio::task::yield_now().await;
            }
            assert!(answer == expected);
        }
    }
}

/// A turn of the event loop to which each in a room has brought a message for all in it.
async fn talk(times: u64, clients: usize) {
    use std::{
        io::{Read as _, Write as _},
        sync::atomic::{AtomicUsize, Ordering},
    };
    /// The kernel may bring a message a little later: what is counted must not depend on it.
    const DELIVERY: Duration = Duration::from_millis(2);
    let (io, mut sockets) = server();
    let handled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handled);
    io.of("/").on("say", move |io: Server, args: Args| {
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            io.to("room").emit("say", args);
        }
    });
    let mut streams = Vec::new();
    for client in open_tcp(&io, clients).await {
        let socket = sockets.recv().await.expect("the server lives");
        socket.join("room");
        let stream = client.stream.into_std().expect("a socket");
        stream.set_nonblocking(false).expect("a socket");
        let limit = Some(Duration::from_secs(60));
        stream.set_read_timeout(limit).expect("a socket");
        streams.push(stream);
    }
    let event = format!(r#"42["say","{TEXT}"]"#);
    let send = text_frame(&event);
    let expected = answer_frame(&event).repeat(clients);
    let mut answer = vec![0; expected.len()];
    for _ in 0..times {
        for stream in &mut streams {
            stream.write_all(&send).expect("the server reads");
        }
        std::thread::sleep(DELIVERY);
        handled.store(0, Ordering::Relaxed);
        while handled.load(Ordering::Relaxed) < clients {
            tokio::task::yield_now().await;
        }
        // What is left for the end of the turn.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        std::thread::sleep(DELIVERY);
        for stream in &mut streams {
            stream.read_exact(&mut answer).expect("all messages");
            assert!(answer == expected);
        }
    }
}

async fn join_leave(times: u64) {
    let (io, mut sockets) = server();
    let _first = open_duplex(&io).await;
    let _second = open_duplex(&io).await;
    let stays = sockets.recv().await.expect("the server lives");
    let moves = sockets.recv().await.expect("the server lives");
    stays.join("room");
    for _ in 0..times {
        moves.join("room");
        moves.leave("room");
    }
    assert_eq!(moves.rooms().len(), 1);
}

/// A request to the server itself, without HTTP in between.
async fn request(io: &Server, method: &str, sid: &str, body: &'static str) -> Bytes {
    let uri = match sid {
        "" => "/socket.io/?EIO=4&transport=polling".to_owned(),
        sid => format!("/socket.io/?EIO=4&transport=polling&sid={sid}"),
    };
    let request = Request::builder().method(method).uri(uri);
    let request = request.body(Full::new(Bytes::from_static(body.as_bytes())));
    let answer = io.service().call(request.expect("a request")).await;
    let Ok(answer) = answer;
    assert!(answer.status().is_success());
    let body = answer
        .into_body()
        .collect()
        .await
        .expect("a whole response");
    body.to_bytes()
}

/// Opens a session and joins the main namespace; returns the session's id.
async fn open_polling(io: &Server) -> String {
    let open = request(io, "GET", "", "").await;
    let sid = &open[br#"0{"sid":""#.len()..][..20];
    let sid = String::from_utf8_lossy(sid).into_owned();
    request(io, "POST", &sid, "40").await;
    assert!(request(io, "GET", &sid, "").await.starts_with(b"40{"));
    sid
}

async fn echo_polling(times: u64) {
    let (io, _sockets) = server();
    let sid = open_polling(&io).await;
    let event: &'static str = echo_event().leak();
    for _ in 0..times {
        request(&io, "POST", &sid, event).await;
        assert!(request(&io, "GET", &sid, "").await == event);
    }
}

/// A session opens, joins the main namespace and is closed by its client.
async fn connect_polling(times: u64) {
    let (io, mut sockets) = server();
    for _ in 0..times {
        let sid = open_polling(&io).await;
        // A client that leaves has a poll under way.
        let poll = {
            let (io, sid) = (io.clone(), sid.clone());
            tokio::spawn(async move { request(&io, "GET", &sid, "").await })
        };
        tokio::task::yield_now().await;
        request(&io, "POST", &sid, "1").await;
        poll.await.expect("the poll doesn't panic");
        sockets.recv().await.expect("the server lives");
    }
}

/// The same on a WebSocket, with HTTP and its upgrade.
async fn connect_duplex(times: u64) {
    let (io, mut sockets) = server();
    let close = masked_close_frame(1000, "", [1, 2, 3, 4]);
    let mut goodbye = Vec::with_capacity(64);
    for _ in 0..times {
        let mut client = open_duplex(&io).await;
        client.write(&close).await;
        goodbye.clear();
        let read = client.stream.read_to_end(&mut goodbye).await;
        read.expect("the server says goodbye");
        sockets.recv().await.expect("the server lives");
    }
}

/// A connection that there is joins another namespace and leaves it.
async fn connect_namespace(times: u64) {
    let (io, _sockets) = server();
    let mut client = open_duplex(&io).await;
    let join = text_frame("40/other,");
    let leave = text_frame("41/other,");
    for _ in 0..times {
        client.write(&join).await;
        assert!(client.read_frame().await.starts_with(b"40/other,{"));
        client.write(&leave).await;
    }
}
