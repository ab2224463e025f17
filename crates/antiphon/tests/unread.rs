//! What requests leave behind that were given up, or whose answers nobody reads.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use antiphon::{Cors, Server, ServerBuilder, TransportKind, engine::EngineService};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use support::{http, listener, serve, sid, until, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tower_service::Service;

/// Engine.IO 4 by polling, where packets are kept until they are confirmed.
const TRACKED: &str = "/socket.io/?EIO=4&transport=polling&antiphon-offset=0";

/// A task that is never woken. It lives as long as somebody knows it.
struct Task;

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

/// A request that goes to the server without a connection.
fn request(
    service: &mut EngineService,
    method: &str,
    path: &str,
    body: &str,
) -> <EngineService as Service<Request<Full<Bytes>>>>::Future {
    let request = Request::builder().method(method).uri(path);
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    service.call(request.body(body).unwrap())
}

async fn text(service: &mut EngineService, method: &str, path: &str, body: &str) -> String {
    let answer = request(service, method, path, body).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn requests_that_have_gone_leave_no_wakers_in_a_session_that_is_not_read() {
    let io = Server::builder().max_running_handlers(1).build();
    let started = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&started);
    io.of("/").on("hang", move || {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<()>()
    });
    let mut service = io.service();
    let open = text(&mut service, "GET", TRACKED, "").await;
    let path = format!("{TRACKED}&sid={}", sid(&open));
    assert_eq!(text(&mut service, "POST", &path, "40").await, "ok");
    assert_eq!(
        text(&mut service, "POST", &path, "42[\"hang\"]").await,
        "ok"
    );
    until("the handler", || started.load(Ordering::Relaxed) > 0).await;
    let socket = io.of("/").sockets().remove(0);
    socket.emit("unread", "x");
    let mut tasks = Vec::new();
    for round in 0..100 {
        let task = Arc::new(Task);
        tasks.push(Arc::downgrade(&task));
        let waker = Waker::from(task);
        let mut context = Context::from_waker(&waker);
        let mut post = request(&mut service, "POST", &path, "3");
        assert!(post.as_mut().poll(&mut context).is_pending(), "{round}");
        // As a handler that gives up waiting for its client.
        let mut flushed = Box::pin(socket.flushed());
        assert!(flushed.as_mut().poll(&mut context).is_pending(), "{round}");
    }
    let known = tasks.iter().filter(|task| task.strong_count() > 0).count();
    assert!(known < 4, "{known} tasks are still known");
}

/// Bytes of memory that this process holds.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

const LARGE: usize = 4 << 20;

/// Ways to serve: the own listener, and one that isn't ours.
async fn served(io: &Server) -> [SocketAddr; 2] {
    let (listener, by_axum) = listener().await;
    let app = axum::Router::new().merge(io.router());
    tokio::spawn(async move { axum::serve(listener, app).await });
    [serve(io).await, by_axum]
}

/// Makes a request, and reads nothing.
async fn get_unread(address: SocketAddr, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(32 << 10).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Waits until a response has begun, of which only a little is read.
async fn begun(stream: &mut TcpStream) -> String {
    let mut head = vec![0; 12];
    within("a head", stream.read_exact(&mut head))
        .await
        .unwrap();
    String::from_utf8(head).unwrap()
}

/// Opens a session and joins: its path.
async fn joined(address: SocketAddr, path: &str) -> String {
    let (_, open) = http(address, &format!("GET {path}"), "").await;
    // A script of JSONP has it in quotes with backslashes.
    let open = open.replace('\\', "");
    let path = format!("{path}&sid={}", sid(&open));
    let body = match path.contains("&j=") {
        true => "d=40",
        false => "40",
    };
    let (status, answer) = http(address, &format!("POST {path}"), body).await;
    assert_eq!(status, 200, "{answer}");
    path
}

fn all() -> ServerBuilder {
    use TransportKind::{Polling, Streaming, WebSocket};
    Server::builder()
        .transports([Polling, Streaming, WebSocket])
        .cors(Cors::any())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_hold_no_more_than_one() {
    const GETS: usize = 40;
    let streaming = TRACKED.replace("polling", "streaming");
    for path in [TRACKED, &format!("{TRACKED}&j=0"), &streaming] {
        let io = all().close_timeout(Duration::from_millis(100)).build();
        for address in served(&io).await {
            let path = match path.contains("streaming") {
                // Its handshake never ends: it begins as a poll would.
                true => {
                    let mut stream = get_unread(address, path).await;
                    let mut read = Vec::new();
                    while !read.ends_with(b"}") {
                        within("the handshake", stream.read_buf(&mut read))
                            .await
                            .unwrap();
                        read.truncate(read.trim_ascii_end().len());
                    }
                    let read = String::from_utf8(read).unwrap();
                    let path = format!("{path}&sid={}", sid(&read));
                    assert_eq!(http(address, &format!("POST {path}"), "40").await.0, 200);
                    path
                }
                false => joined(address, path).await,
            };
            until("the socket", || io.of("/").sockets_count() == 1).await;
            let socket = io.of("/").sockets().remove(0);
            socket.emit("large", "x".repeat(LARGE));
            let before = memory();
            let mut unread = Vec::new();
            for _ in 0..GETS {
                let mut stream = get_unread(address, &path).await;
                assert_eq!(begun(&mut stream).await, "HTTP/1.1 200");
                unread.push(stream);
            }
            let held = memory().saturating_sub(before);
            assert!(held < 16 * LARGE, "{path}: {} MB", held >> 20);
            socket.close_connection();
            drop(unread);
            until("its end", || io.stats().sessions == 0).await;
        }
    }
}

#[tokio::test]
async fn a_get_behind_an_answer_that_was_not_read_ends_the_session() {
    for revision in [3, 4] {
        let io = Server::new();
        for address in served(&io).await {
            let path = format!("/socket.io/?EIO={revision}&transport=polling");
            let (_, open) = http(address, &format!("GET {path}"), "").await;
            let path = format!("{path}&sid={}", sid(&open));
            if revision == 4 {
                http(address, &format!("POST {path}"), "40").await;
            }
            let socket = io.of("/").sockets().remove(0);
            socket.emit("large", "x".repeat(LARGE));
            let mut unread = get_unread(address, &path).await;
            assert_eq!(begun(&mut unread).await, "HTTP/1.1 200");
            let (status, error) = http(address, &format!("GET {path}"), "").await;
            assert_eq!(status, 400, "{error}");
            until("its end", || io.stats().sessions == 0).await;
            // Its connection ends before what was said to come.
            let mut rest = Vec::new();
            let _ = within("the end", unread.read_to_end(&mut rest)).await;
            assert!(rest.len() < LARGE, "{} bytes", rest.len());
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_not_read_ends_in_time() {
    let io = all()
        .ping_interval(Duration::from_millis(100))
        .ping_timeout(Duration::from_millis(100))
        .build();
    let own = serve(&io).await;
    let path = joined(own, "/socket.io/?EIO=4&transport=polling").await;
    let socket = io.of("/").sockets().remove(0);
    socket.emit("large", "x".repeat(LARGE));
    let mut unread = get_unread(own, &path).await;
    assert_eq!(begun(&mut unread).await, "HTTP/1.1 200");
    until("the session's end", || io.stats().sessions == 0).await;
    // The connection, too: nothing more is read, and still it is closed.
    within("the end", async {
        while unread.write_all(b"x").await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_left_at_the_close_can_still_be_read() {
    let io = Server::new();
    for address in served(&io).await {
        let path = joined(address, "/socket.io/?EIO=4&transport=polling").await;
        let socket = io.of("/").sockets().remove(0);
        socket.emit("large", "x".repeat(LARGE));
        let mut unread = get_unread(address, &path).await;
        assert_eq!(begun(&mut unread).await, "HTTP/1.1 200");
        socket.close_connection();
        let (status, _) = http(
            address,
            &format!("GET {}", path.replace("sid=", "sid=x")),
            "",
        )
        .await;
        assert_eq!(status, 400);
        let mut rest = Vec::new();
        while rest.len() < LARGE {
            let count = within("the rest", unread.read_buf(&mut rest))
                .await
                .unwrap();
            assert_ne!(count, 0, "cut after {} bytes", rest.len());
        }
    }
}
