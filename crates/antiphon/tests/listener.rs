//! The server's own listener: what it takes that an HTTP server in front doesn't.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use antiphon::{Cors, Server};
use axum::{Router, extract::ConnectInfo, routing::get};
use support::{WEBSOCKET, http, listener, serve, sid, until, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: ";

/// One exchange on a connection that stays open: head and body.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> (String, String) {
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    loop {
        if let Some((head, body)) = answer.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head
                .split_once("content-length: ")
                .map_or(0, |(_, rest)| rest.lines().next().unwrap().parse().unwrap());
            if body.len() >= length {
                return (head.clone(), body.to_owned());
            }
        }
        let mut piece = [0; 1_024];
        let read = within("an answer", stream.read(&mut piece)).await.unwrap();
        assert_ne!(read, 0, "cut: {answer}");
        answer += &String::from_utf8_lossy(&piece[..read]);
    }
}

#[tokio::test]
async fn raw_bytes_in_a_query_are_taken_in_every_request_of_a_connection() {
    let io = Server::new();
    io.of("/").on_connect(async |socket: antiphon::Socket| {
        let query = socket.handshake().query("name");
        socket.emit("query", query);
    });
    let address = serve(&io).await;
    for raw in [
        &b"\"<a>\""[..],
        b"<",
        b"a\"b",
        b"{|}^`\\[]",
        "\u{e9}\u{1f980}".as_bytes(),
    ] {
        let expected = std::str::from_utf8(raw).unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = |method: &str, sid: &str, body: &str| {
            let head = format!(
                " HTTP/1.1\r\nHost: test\r\nX: <\"\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let line = format!("{method} {POLLING}{sid}&name=");
            [line.as_bytes(), raw, head.as_bytes(), body.as_bytes()].concat()
        };
        let (head, open) = exchange(&mut stream, &request("GET", "", "")).await;
        assert!(head.starts_with("http/1.1 200"), "{expected}: {head}");
        let sid = format!("&sid={}", sid(&open));
        let (head, _) = exchange(&mut stream, &request("POST", &sid, "40")).await;
        assert!(head.starts_with("http/1.1 200"), "{expected}: {head}");
        let (_, joined) = exchange(&mut stream, &request("GET", &sid, "")).await;
        let (_, event) = joined.split_once("\x1e42").unwrap();
        let event: (String, String) = serde_json::from_str(event).unwrap();
        assert_eq!(event.1, expected);

        let line = format!("GET {WEBSOCKET}&name=");
        let head = format!(" HTTP/1.1\r\nHost: test\r\n{UPGRADE}13\r\n\r\n");
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = [line.as_bytes(), raw, head.as_bytes()].concat();
        let (head, _) = exchange(&mut stream, &request).await;
        assert!(head.starts_with("http/1.1 101"), "{expected}: {head}");
    }
}

#[tokio::test]
async fn a_refusal_of_a_query_with_raw_bytes_says_why() {
    let address = serve(&Server::builder().cors(Cors::any()).build()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        let request = b"GET /socket.io/?EIO=4&transport=\"x\" HTTP/1.1\r\nHost: test\r\nOrigin: http://a.example\r\n\r\n";
        let (head, body) = exchange(&mut stream, request).await;
        assert!(head.starts_with("http/1.1 400"), "{head}");
        assert!(head.contains("access-control-allow-origin: *"), "{head}");
        assert!(
            body.contains(r#""code":0"#) && body.contains("hint"),
            "{body}"
        );
    }
}

/// How a client leaves right behind its POST.
#[derive(Debug, Clone, Copy)]
enum Leaves {
    /// It sends nothing more, and still reads.
    Half,
    Closes,
    Resets,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_post_is_handled_if_its_client_hangs_up_right_behind() {
    const TIMES: usize = 40;
    let io = Server::new();
    let handled = Arc::new(AtomicUsize::new(0));
    io.of("/").on("note", {
        let handled = Arc::clone(&handled);
        move |_: antiphon::Args| {
            handled.fetch_add(1, Ordering::Relaxed);
            std::future::ready(())
        }
    });
    let address = serve(&io).await;
    for (leaves, padding) in [
        (Leaves::Half, 0),
        (Leaves::Half, 100_000),
        (Leaves::Closes, 0),
        (Leaves::Closes, 100_000),
        // A reset also takes what the network still holds.
        (Leaves::Resets, 0),
    ] {
        handled.store(0, Ordering::Relaxed);
        for _ in 0..TIMES {
            let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
            let path = format!("{POLLING}&sid={}", sid(&open));
            http(address, &format!("POST {path}"), "40").await;
            let event = format!(r#"42["note","{}"]"#, "x".repeat(padding));
            let mut stream = TcpStream::connect(address).await.unwrap();
            let length = event.len();
            let head = format!("Host: test\r\nContent-Length: {length}");
            let request = format!("POST {path} HTTP/1.1\r\n{head}\r\n\r\n{event}");
            stream.write_all(request.as_bytes()).await.unwrap();
            match leaves {
                Leaves::Half => {
                    stream.shutdown().await.unwrap();
                    let mut rest = Vec::new();
                    let read = stream.read_to_end(&mut rest);
                    let _ = within("the end of the connection", read).await;
                }
                Leaves::Closes => drop(stream),
                Leaves::Resets => {
                    let socket = socket2::SockRef::from(&stream);
                    socket.set_linger(Some(Duration::ZERO)).unwrap();
                    drop(stream);
                }
            }
        }
        let all = format!("{TIMES} events, {leaves:?}, {padding} bytes");
        until(&all, || handled.load(Ordering::Relaxed) == TIMES).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_waits_for_the_one_that_its_client_has_gone_from() {
    const EVENTS: usize = 100;
    let io = Server::new();
    let seen = support::Log::default();
    let begun = support::Gate::new();
    io.of("/").on("note", {
        let (seen, begun) = (seen.clone(), begun.clone());
        move |antiphon::Data(number): antiphon::Data<usize>| {
            begun.open(1);
            // Long enough that the POST is handled in several parts.
            std::thread::sleep(Duration::from_millis(1));
            seen.note(number);
            async {}
        }
    });
    let address = serve(&io).await;
    let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
    let path = format!("{POLLING}&sid={}", sid(&open));
    http(address, &format!("POST {path}"), "40").await;
    let events: Vec<_> = (0..EVENTS)
        .map(|number| format!(r#"42["note",{number}]"#))
        .collect();
    let body = events.join("\x1e");
    let length = body.len();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    within("the first event", begun.pass()).await;
    drop(stream);
    let last = format!(r#"42["note",{EVENTS}]"#);
    let answer = http(address, &format!("POST {path}"), &last).await;
    assert_eq!(answer, (200, "ok".to_owned()));
    let all: Vec<_> = (0..=EVENTS).map(|number| number.to_string()).collect();
    assert_eq!(seen.seen(), all);
}

#[tokio::test]
async fn half_a_post_is_not_handled() {
    let io = Server::new();
    let address = serve(&io).await;
    let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
    let path = format!("{POLLING}&sid={}", sid(&open));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\n40");
    stream.write_all(request.as_bytes()).await.unwrap();
    drop(stream);
    until("the end of the session", || io.stats().sessions == 0).await;
}

#[tokio::test]
async fn an_app_is_served_beside_it() {
    let (listener, address) = listener().await;
    let io = Server::new();
    let app = Router::new().route("/", get(async || "page")).route(
        "/address",
        get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.ip().to_string()),
    );
    let serving = {
        let io = io.clone();
        tokio::spawn(async move { io.serve_with(listener, app).await })
    };
    assert_eq!(http(address, "GET /", "").await, (200, "page".to_owned()));
    assert_eq!(http(address, "GET /address", "").await.1, "127.0.0.1");
    assert_eq!(http(address, "GET /nowhere", "").await.0, 404);
    let mut client = support::WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    drop(client);
    within("close", io.close()).await;
    within("the end of the serving", serving).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_or_half_a_head_is_closed() {
    let (listener, address) = listener().await;
    let io = Server::new();
    let app = Router::new().route("/", get(async || "page"));
    tokio::spawn(async move { io.serve_with(listener, app).await });
    for said in [
        "",
        "GET / HTTP/1.1\r\nHost:",
        "GET /socket.io/?EIO=4 HTTP/1.1\r\nHost: x\r\n",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        // By the clock of the test, which goes on whenever nothing else is to be done.
        let ended = tokio::time::timeout(Duration::from_secs(120), stream.read_to_end(&mut rest));
        assert!(ended.await.is_ok(), "{said}");
    }
}

#[tokio::test]
async fn many_connections_may_wait_to_be_accepted() {
    const MANY: usize = 300;
    let address = listener().await.1;
    let io = Server::new();
    let listening = {
        let io = io.clone();
        tokio::spawn(async move { io.listen(address).await })
    };
    while TcpStream::connect(address).await.is_err() {
        tokio::task::yield_now().await;
    }
    // In this thread, which accepts none meanwhile.
    let connect = |_| std::net::TcpStream::connect_timeout(&address, Duration::from_secs(20));
    let started = std::time::Instant::now();
    let streams: Result<Vec<_>, _> = (0..MANY).map(connect).collect();
    assert_eq!(streams.unwrap().len(), MANY);
    // One that found no place would have been repeated after a second, and again after two.
    assert!(started.elapsed() < Duration::from_secs(20));
    io.close().await;
    within("the end", listening).await.unwrap().unwrap();
}

#[tokio::test]
async fn version_8_of_websocket_is_taken_as_13_is() {
    let address = serve(&Server::new()).await;
    for (version, origin, status) in [
        ("8", "", "101"),
        ("13", "", "101"),
        ("7", "", "426"),
        ("", "", "426"),
        // Its browsers named their page so.
        ("8", "Sec-WebSocket-Origin: http://test\r\n", "101"),
        (
            "8",
            "Sec-WebSocket-Origin: http://foreign.example\r\n",
            "403",
        ),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request =
            format!("GET {WEBSOCKET} HTTP/1.1\r\nHost: test\r\n{origin}{UPGRADE}{version}\r\n\r\n");
        let (head, _) = exchange(&mut stream, request.as_bytes()).await;
        assert!(
            head.starts_with(&format!("http/1.1 {status}")),
            "{version} {origin}: {head}"
        );
        if status == "426" {
            assert!(head.contains("sec-websocket-version: 13, 8"), "{head}");
        }
    }
}

#[tokio::test]
async fn a_poll_that_comes_with_the_goodbye_ends_in_order() {
    for (eio, goodbye, noop) in [(4, "1", "6"), (3, "1:1", "1:6")] {
        let io = Server::new();
        let address = serve(&io).await;
        let polling = format!("/socket.io/?EIO={eio}&transport=polling");
        let (_, open) = http(address, &format!("GET {polling}"), "").await;
        let path = format!("{polling}&sid={}", sid(&open));
        if eio == 3 {
            http(address, &format!("GET {path}"), "").await;
        }
        let post = tokio::spawn({
            let path = path.clone();
            async move { http(address, &format!("POST {path}"), goodbye).await }
        });
        until("the end of the session", || io.stats().sessions == 0).await;
        let poll = http(address, &format!("GET {path}"), "").await;
        assert_eq!(poll, (200, noop.to_owned()));
        assert_eq!(post.await.unwrap(), (200, "ok".to_owned()));
        // It was one poll, and none after the goodbye.
        assert_eq!(http(address, &format!("GET {path}"), "").await.0, 400);
    }
}

#[tokio::test]
async fn a_handshake_may_have_to_say_its_revision() {
    let io = Server::builder().require_eio(true).build();
    let address = serve(&io).await;
    for (eio, status) in [("", 400), ("EIO=2&", 400), ("EIO=3&", 200), ("EIO=4&", 200)] {
        let request = format!("GET /socket.io/?{eio}transport=polling");
        assert_eq!(http(address, &request, "").await.0, status, "{eio}");
    }
}
