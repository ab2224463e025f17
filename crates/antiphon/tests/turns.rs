//! Turns: what all ready connections of a thread cause goes to each receiver in one write, and
//! nobody waits for the work of another.

#![allow(clippy::unwrap_used)]

#[cfg(feature = "deflate")]
#[path = "support/deflate.rs"]
mod deflate;
mod support;

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use antiphon::{Args, Data, Server, Socket};
use antiphon_protocol::websocket::{Opcode, masked_frame};
use hyper_util::rt::TokioIo;
use support::{WEBSOCKET, WebSocket, http, serve, sid, until, within};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    net::TcpStream,
};

/// A server whose sockets are all in one room, in which everyone talks.
fn chat() -> Server {
    let io = Server::new();
    io.of("/")
        .on_connect(async |socket: Socket| socket.join("room"))
        .on("say", async |io: Server, Data(text): Data<String>| {
            io.to("room").emit("said", &text);
        })
        .on("echo", async |socket: Socket, args: Args| {
            socket.emit("echo", args);
        });
    io
}

async fn joined(address: SocketAddr) -> WebSocket<TcpStream> {
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    client
}

/// A stream that counts the writes of its server.
struct Counted {
    stream: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write_vectored(context, data)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Serves one connection.
fn serve_over(io: &Server, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let service = hyper_util::service::TowerToHyperService::new(io.service());
    tokio::spawn(async move {
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let _ = connection.await;
    });
}

/// A client over memory, and the count of its server's writes.
async fn counted(io: &Server) -> (WebSocket<DuplexStream>, Arc<AtomicUsize>) {
    let (stream, other) = tokio::io::duplex(64 << 10);
    let writes = Arc::new(AtomicUsize::new(0));
    let server = Counted {
        stream,
        writes: Arc::clone(&writes),
    };
    serve_over(io, server);
    let mut client = WebSocket::over(other, WEBSOCKET).await;
    client.join().await;
    (client, writes)
}

#[tokio::test]
async fn what_many_talkers_cause_in_one_turn_is_one_write_for_each_listener() {
    const TALKERS: usize = 8;
    let io = chat();
    let (mut listener, writes) = counted(&io).await;
    let mut talkers = Vec::new();
    for _ in 0..TALKERS {
        talkers.push(counted(&io).await.0);
    }
    // A thread that is held up by others has more than one turn for them.
    for round in 0..100 {
        let before = writes.load(Ordering::Relaxed);
        for (number, talker) in talkers.iter_mut().enumerate() {
            talker.send(&format!(r#"42["say","{number}"]"#)).await;
        }
        let mut said = Vec::new();
        for _ in 0..TALKERS {
            said.push(listener.next().await);
        }
        let expected = (0..TALKERS).map(|number| format!(r#"42["said","{number}"]"#));
        assert!(said.into_iter().eq(expected.map(support::Received::Text)));
        for talker in &mut talkers {
            for _ in 0..TALKERS {
                talker.next().await;
            }
        }
        if writes.load(Ordering::Relaxed) - before == 1 {
            return;
        }
        assert_ne!(round, 99, "no round in which all left in one write");
    }
}

const BLOCKED_AT_THE_MOST: Duration = Duration::from_secs(10);

/// A server with a handler that blocks, how often it has begun and ended, and what lets it go.
struct Blocking {
    io: Server,
    blocked: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
    release: mpsc::Sender<()>,
}

/// A server with a handler that blocks until it is let go; if `emits`, it has emitted before.
fn blocking(emits: bool) -> Blocking {
    let io = chat();
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let (blocked, ended) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let (begins, ends) = (Arc::clone(&blocked), Arc::clone(&ended));
    io.of("/").on("block", move |io: Server| {
        if emits {
            io.to("room").emit("blocks", ());
        }
        begins.fetch_add(1, Ordering::Relaxed);
        // A lock, a file, a password hash: what the user should not have done. Without an end, a
        // test that fails would never end, since timers stand still, too.
        let _ = released.lock().unwrap().recv_timeout(BLOCKED_AT_THE_MOST);
        ends.fetch_add(1, Ordering::Relaxed);
        async {}
    });
    Blocking {
        io,
        blocked,
        ended,
        release,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_stops_nobody_else() {
    let Blocking {
        io,
        blocked,
        ended,
        release,
    } = blocking(false);
    let address = serve(&io).await;
    let mut other = joined(address).await;
    let mut blocker = joined(address).await;
    for round in 1..=5 {
        blocker.send(r#"42["block"]"#).await;
        until("the handler blocks", || {
            blocked.load(Ordering::Relaxed) == round
        })
        .await;
        for number in 0..5 {
            other.send(&format!(r#"42["echo",{number}]"#)).await;
            other.expect(&format!(r#"42["echo",{number}]"#)).await;
        }
        // Others come and go, too.
        joined(address).await;
        assert_eq!(ended.load(Ordering::Relaxed), round - 1, "it blocks still");
        release.send(()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_blocked_thread_owes_holds_back_nobody_else() {
    let Blocking {
        io,
        blocked,
        ended,
        release,
    } = blocking(true);
    let address = serve(&io).await;
    let mut others = Vec::new();
    for _ in 0..8 {
        others.push(joined(address).await);
    }
    let mut blocker = joined(address).await;
    blocker.send(r#"42["block"]"#).await;
    until("the handler blocks", || {
        blocked.load(Ordering::Relaxed) == 1
    })
    .await;
    // Each listener is owed what the blocked handler has emitted.
    others[0].send(r#"42["say","hello"]"#).await;
    for other in &mut others {
        loop {
            match other.next().await {
                support::Received::Text(text) if text == r#"42["said","hello"]"# => break,
                support::Received::Text(text) if text == r#"42["blocks"]"# => {}
                unexpected => panic!("{unexpected:?}"),
            }
        }
    }
    assert_eq!(ended.load(Ordering::Relaxed), 0, "it blocks still");
    release.send(()).unwrap();
}

/// A client that sends `frame` again and again, as fast as it is taken, until it is dropped.
struct Flood {
    stream: std::net::TcpStream,
}

impl Flood {
    async fn begin(address: SocketAddr, text: &str, copies: usize) -> Self {
        let mut client = joined(address).await;
        let std = std::mem::replace(client.stream(), TcpStream::connect(address).await.unwrap());
        let mut stream = std.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        let frame = masked_frame(Opcode::Text, text.as_bytes(), [1, 2, 3, 4]);
        let all = frame.repeat(copies);
        let flood = Self {
            stream: stream.try_clone().unwrap(),
        };
        // What comes back is read, so that the client counts as one that reads.
        let mut reader = stream.try_clone().unwrap();
        thread::spawn(move || io::copy(&mut reader, &mut io::sink()));
        thread::spawn(move || io::Write::write_all(&mut stream, &all));
        flood
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// A chat with an event that is dear, one that joins a room, and one that panics; and how many
/// events it has handled.
fn flooded() -> (Server, Arc<AtomicUsize>) {
    let io = chat();
    let handled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handled);
    io.of("/")
        .on("dear", || {
            let began = Instant::now();
            while began.elapsed() < Duration::from_micros(50) {
                std::hint::spin_loop();
            }
            async {}
        })
        .on("join", async |socket: Socket, Data(room): Data<String>| {
            socket.join(&room);
            socket.leave(&room);
        })
        .on("cheap", async || {})
        .on_any(move || {
            count.fetch_add(1, Ordering::Relaxed);
            async {}
        });
    (io, handled)
}

/// How much of a flood of `text` is handled while another client gets its echoes.
async fn meanwhile_of(text: &str, copies: usize) -> usize {
    let (io, handled) = flooded();
    let address = serve(&io).await;
    let mut other = joined(address).await;
    let _flood = Flood::begin(address, text, copies).await;
    let count = || handled.load(Ordering::Relaxed);
    until("the flood has begun", || count() > 0).await;
    let before = count();
    for number in 0..5 {
        other.send(&format!(r#"42["echo",{number}]"#)).await;
        loop {
            match other.next().await {
                support::Received::Text(text) if text == format!(r#"42["echo",{number}]"#) => break,
                support::Received::Text(text) if text.starts_with(r#"42["said","#) => {}
                unexpected => panic!("{unexpected:?}"),
            }
        }
    }
    count() - before
}

/// Each kind of flood, in a runtime of its own: echoes of others come long before its end.
fn floods(runtime: impl Fn() -> tokio::runtime::Runtime) {
    let large = format!(r#"42["cheap","{}"]"#, "x".repeat(16 << 10));
    let kinds = [
        (r#"42["cheap"]"#, 100_000),
        (r#"42["dear"]"#, 10_000),
        (r#"42["say","x"]"#, 20_000),
        (r#"42["join","a"]"#, 40_000),
        (&large, 5_000),
    ];
    for (text, copies) in kinds {
        let name = &text[..text.len().min(20)];
        // A client that is held up by others than the server sees more of the flood pass.
        let mut floods = (0..10).map(|_| {
            let runtime = runtime();
            let meanwhile = runtime.block_on(within(name, meanwhile_of(text, copies)));
            // Not waited for: a flood may still be under way.
            runtime.shutdown_background();
            meanwhile
        });
        let isnt_starved = |meanwhile| meanwhile < copies / 2;
        assert!(floods.any(isnt_starved), "{name}: the echoes come late");
    }
}

#[test]
fn a_flood_starves_nobody_on_its_thread() {
    floods(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    });
}

#[test]
fn a_flood_starves_nobody_on_many_threads() {
    floods(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().unwrap()
    });
}

/// The most events that one turn has handled until there are so many.
async fn most_a_turn(handled: &AtomicUsize, count: usize) -> usize {
    let (mut most, mut before) = (0, 0);
    while before < count {
        // Polled once a turn, as others would be.
        tokio::task::yield_now().await;
        let now = handled.load(Ordering::Relaxed);
        most = most.max(now - before);
        before = now;
    }
    most
}

/// The most events of a flood of compressed messages that one turn has handled.
#[cfg(feature = "deflate")]
async fn events_a_turn(text: &str, copies: usize) -> usize {
    use antiphon_protocol::websocket::deflate::OFFER;

    let io = Server::builder().compression(1_000).build();
    let handled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handled);
    io.of("/").on("cheap", move || {
        count.fetch_add(1, Ordering::Relaxed);
        async {}
    });
    let address = serve(&io).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let offer = format!("Sec-WebSocket-Extensions: {OFFER}\r\n");
    let (mut client, _) = WebSocket::offering(stream, WEBSOCKET, &offer).await;
    client.join().await;
    let payload = deflate::deflated(text.as_bytes());
    let frame = deflate::compressed_frame(Opcode::Text, &payload);
    client
        .stream()
        .write_all(&frame.repeat(copies))
        .await
        .unwrap();

    most_a_turn(&handled, copies).await
}

/// docs/protocol.md 22.3 bounds one message; what a turn takes is bounded by the bytes that were
/// inflated, and not by those that were read.
#[cfg(feature = "deflate")]
#[tokio::test]
async fn compressed_messages_count_as_what_they_are_inflated_to() {
    let large = format!(r#"42["cheap","{}"]"#, "x".repeat(900_000));
    let most = within("the large", events_a_turn(&large, 100)).await;
    assert!(most <= 2, "{most} of almost 1 MB in one turn");
    let small = format!(r#"42["cheap","{}"]"#, "x".repeat(20_000));
    let most = within("the small", events_a_turn(&small, 500)).await;
    assert!(most <= 14, "{most} of 20 KB in one turn");
}

/// Almost 1 MB of blocks with nothing in them.
#[cfg(feature = "deflate")]
fn empty_blocks() -> Vec<u8> {
    [0, 0, 0, 0xff, 0xff].repeat(190_000)
}

/// How many turns others have until `done` is: everything is in memory, and in one thread.
#[cfg(feature = "deflate")]
async fn turns_until(done: impl Future) -> usize {
    let mut turns = 0;
    tokio::select! {
        biased;
        () = async {
            loop {
                tokio::task::yield_now().await;
                turns += 1;
            }
        } => {}
        _ = done => {}
    }
    turns
}

/// It inflates to one short event, slowly.
#[cfg(feature = "deflate")]
#[tokio::test]
async fn a_message_that_takes_long_to_inflate_gives_way_meanwhile() {
    use antiphon_protocol::websocket::deflate::OFFER;

    let io = Server::builder().compression(1_000).build();
    io.of("/")
        .on("echo", async |socket: Socket| socket.emit("echo", ()));
    let (stream, other) = tokio::io::duplex(2 << 20);
    serve_over(&io, stream);
    let offer = format!("Sec-WebSocket-Extensions: {OFFER}\r\n");
    let (mut client, _) = WebSocket::offering(other, WEBSOCKET, &offer).await;
    client.join().await;
    let event = deflate::deflated(format!(r#"42["echo"{}]"#, " ".repeat(50)).as_bytes());
    let payload = [empty_blocks(), event].concat();
    let frame = deflate::compressed_frame(Opcode::Text, &payload);
    client.stream().write_all(&frame).await.unwrap();
    let turns = turns_until(client.expect(r#"42["echo"]"#)).await;
    assert!(turns > payload.len() / (40 << 10), "{turns}");
}

#[cfg(feature = "deflate")]
#[tokio::test]
async fn a_post_that_takes_long_to_inflate_gives_way_meanwhile() {
    use antiphon_protocol::content_coding::{ContentCoding, Encoder};

    let io = Server::builder().http_compression(1_000).build();
    let path = "/socket.io/?EIO=4&transport=polling";
    let address = serve(&io).await;
    let (_, open) = http(address, &format!("GET {path}"), "").await;
    let path = format!("{path}&sid={}", sid(&open));
    http(address, &format!("POST {path}"), "40").await;
    let mut body = Encoder::new(ContentCoding::Gzip).encode(br#"42["cheap"]"#, true);
    // Behind the header of gzip.
    body.splice(10..10, empty_blocks());
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Encoding: gzip\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let (stream, mut client) = tokio::io::duplex(2 << 20);
    serve_over(&io, stream);
    client
        .write_all(&[head.as_bytes(), &body].concat())
        .await
        .unwrap();
    let mut answer = [0; 15];
    let turns = turns_until(async { client.read_exact(&mut answer).await.unwrap() }).await;
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert!(turns > body.len() / (40 << 10), "{turns}");
}

const DEAR_EVENTS: usize = 4_000;

/// A session by polling that is in the main namespace, and a POST of these packets for it.
async fn post_of(address: SocketAddr, packets: &[&str]) -> String {
    let path = "/socket.io/?EIO=4&transport=polling";
    let (_, open) = http(address, &format!("GET {path}"), "").await;
    let path = format!("{path}&sid={}", sid(&open));
    http(address, &format!("POST {path}"), "40").await;
    let body = packets.join("\x1e");
    format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// One of many dear events.
async fn dear_post(address: SocketAddr) -> String {
    post_of(address, &[r#"42["dear"]"#; DEAR_EVENTS]).await
}

#[tokio::test]
async fn a_post_of_large_events_gives_way_between_them() {
    let (io, handled) = flooded();
    let address = serve(&io).await;
    let large = format!(r#"42["cheap","{}"]"#, "x".repeat(90_000));
    let post = post_of(address, &[&*large; 10]).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(post.as_bytes()).await.unwrap();
    let most = within("the POST", most_a_turn(&handled, 10)).await;
    assert!(most <= 3, "{most} of 90 KB in one turn");
}

#[tokio::test]
async fn a_post_of_many_events_starves_nobody() {
    let (io, handled) = flooded();
    let address = serve(&io).await;
    let post = dear_post(address).await;
    let mut other = joined(address).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(post.as_bytes()).await.unwrap();
    until("the POST is handled", || {
        handled.load(Ordering::Relaxed) > 0
    })
    .await;
    for number in 0..3 {
        other.send(&format!(r#"42["echo",{number}]"#)).await;
        other.expect(&format!(r#"42["echo",{number}]"#)).await;
    }
    assert!(handled.load(Ordering::Relaxed) < DEAR_EVENTS);
    let mut answer = [0; 15];
    within("the answer", stream.read_exact(&mut answer))
        .await
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    // The echoes are events, too.
    assert_eq!(handled.load(Ordering::Relaxed), DEAR_EVENTS + 3);
}

#[tokio::test]
async fn a_post_whose_client_has_gone_is_handled_to_its_end() {
    let (io, handled) = flooded();
    let address = serve(&io).await;
    let post = dear_post(address).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(post.as_bytes()).await.unwrap();
    until("the POST is handled", || {
        handled.load(Ordering::Relaxed) > 0
    })
    .await;
    drop(stream);
    until("the end", || handled.load(Ordering::Relaxed) == DEAR_EVENTS).await;
}

#[tokio::test]
async fn what_a_client_has_sent_before_it_went_is_handled_though_writing_fails() {
    let (io, handled) = flooded();
    io.of("/").on("work", async |socket: Socket, args: Args| {
        let began = Instant::now();
        while began.elapsed() < Duration::from_micros(50) {
            std::hint::spin_loop();
        }
        socket.emit("done", args);
    });
    let address = serve(&io).await;
    for round in 1..=5 {
        let mut client = joined(address).await;
        let frame = masked_frame(Opcode::Text, br#"42["work",1]"#, [1, 2, 3, 4]);
        let all = frame.repeat(400);
        client.stream().write_all(&all).await.unwrap();
        drop(client);
        until("the end", || io.stats().sessions == 0).await;
        assert_eq!(handled.load(Ordering::Relaxed), 400 * round);
    }
}
