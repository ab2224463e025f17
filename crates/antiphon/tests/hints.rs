//! Hints name code: each is done as it says, and what was refused works.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;

use antiphon::{Cors, HttpCalls, Server, ServerBuilder, State, TransportKind};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use support::{Received, WEBSOCKET, WebSocket, http, listener, serve, sid, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// One request with these lines of headers: status and body.
async fn ask(address: SocketAddr, request: &str, headers: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{request} HTTP/1.1\r\nHost: server.example\r\n");
    let end = b"\r\n\r\n";
    let request = [head.as_bytes(), headers, end].concat();
    stream.write_all(&request).await.unwrap();
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lines = head.lines().map(str::to_ascii_lowercase);
            let mut length = lines
                .filter_map(|line| Some(line.strip_prefix("content-length: ")?.parse().unwrap()));
            if length
                .next()
                .is_none_or(|length: usize| body.len() >= length)
            {
                return (head[9..12].parse().unwrap(), body.to_owned());
            }
        }
        let read = within("the answer", stream.read_buf(&mut answer)).await;
        assert_ne!(read.unwrap_or(0), 0, "cut: {text}");
    }
}

fn hint(body: &str) -> String {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["hint"].as_str().unwrap().to_owned()
}

/// The text in the first literal of this code, and what is behind it.
fn literal(code: &str) -> (String, &str) {
    let start = code.find('"').unwrap();
    let mut literals = serde_json::Deserializer::from_str(&code[start..]).into_iter();
    let text = literals.next().unwrap().unwrap();
    let end = start + literals.byte_offset();
    (text, &code[end..])
}

/// Does what the code says.
fn run(code: &str) -> Cors {
    if code.starts_with("Cors::any()") {
        return Cors::any();
    }
    let (first, rest) = literal(code);
    if code.starts_with("Cors::origins([\"") {
        assert!(rest.starts_with("])"), "{code}");
        return Cors::origins([first]);
    }
    if code.starts_with("Cors::matching(|origin| origin == \"") {
        assert!(rest.starts_with(')'), "{code}");
        return Cors::matching(move |origin| origin == first);
    }
    let by_ends = "Cors::matching(|origin| origin.starts_with(\"";
    assert!(code.starts_with(by_ends), "{code}");
    assert!(rest.starts_with(") && origin.ends_with(\""), "{code}");
    let (last, _) = literal(rest);
    Cors::matching(move |origin| origin.starts_with(&first) && origin.ends_with(&last))
}

/// What the code of a hint, from `Cors::` on, lets in.
fn cors(hint: &str) -> Cors {
    run(&hint[hint
        .find("Cors::")
        .unwrap_or_else(|| panic!("no code: {hint}"))..])
}

#[tokio::test]
async fn a_refused_origin_may_connect_with_the_option_that_the_hint_names() {
    let refusing = serve(&Server::new()).await;
    for origin in [
        &b"https://app.example"[..],
        b"http://localhost:5173",
        b"https://app.example:443",
        b"ws://app.example:80",
        b"wss://app.example",
        b"HTTP://APP.EXAMPLE:8080/page",
        b"http://[::1]:3000",
        b"null",
        b"file://",
        b"file:///",
        b"*",
        b"http://*.example",
        b"capacitor://localhost",
        b"chrome-extension://abcdefghijklmnop",
        b"app.example",
        b"",
        b"\"quoted\\",
        b"'; drop",
        b"https://user@app.example",
        b"https://m\xc3\xbcnchen.example",
        b"\xff",
    ] {
        let header = [b"Origin: ", origin].concat();
        let name = String::from_utf8_lossy(origin);
        for request in [format!("GET {POLLING}"), format!("GET {WEBSOCKET}")] {
            let (status, body) = ask(refusing, &request, &header).await;
            assert_eq!(status, 403, "{name}: {body}");
            let cors = cors(&hint(&body));
            let allowing = serve(&Server::builder().cors(cors).build()).await;
            let headers = [
                &header[..],
                b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            ];
            let is_websocket = request.ends_with(WEBSOCKET);
            let headers = if is_websocket {
                headers.concat()
            } else {
                header.clone()
            };
            let (status, body) = ask(allowing, &request, &headers).await;
            let expected = if is_websocket { 101 } else { 200 };
            assert_eq!(status, expected, "{name}: {body}");
        }
    }
}

/// The text of a panic.
fn panic_of(run: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let panicked = std::panic::catch_unwind(run).unwrap_err();
    match panicked.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => (*other.downcast::<&str>().unwrap()).to_owned(),
    }
}

async fn allows(cors: Cors, origin: &str) -> bool {
    let address = serve(&Server::builder().cors(cors).build()).await;
    let header = format!("Origin: {origin}");
    ask(address, &format!("GET {POLLING}"), header.as_bytes())
        .await
        .0
        == 200
}

#[tokio::test]
async fn an_origin_that_cannot_be_listed_is_allowed_as_the_panic_says() {
    for (listed, origin) in [
        ("http://app.example:80", "http://app.example"),
        ("https://App.example:443", "https://app.example"),
        ("wss://[0::1]:443", "https://[::1]"),
    ] {
        let text = panic_of(|| drop(Cors::origins([listed])));
        let (_, code) = text.split_once("write ").unwrap();
        assert!(
            allows(Cors::origins([literal(code).0]), origin).await,
            "{text}"
        );
    }
    for (listed, origin) in [
        ("http://*.example", "http://app.example"),
        ("https://app.*", "https://app.example"),
        ("http://localhost:*", "http://localhost:5173"),
        ("*", "http://app.example"),
    ] {
        let text = panic_of(|| drop(Cors::origins([listed])));
        assert!(allows(cors(&text), origin).await, "{text}");
    }
    let text = panic_of(|| drop(Cors::any().with_credentials()));
    assert!(
        text.contains("Cors::origins") && text.contains("Cors::matching"),
        "{text}"
    );
    let app = "https://app.example";
    assert!(allows(Cors::origins([app]).with_credentials(), app).await);
    assert!(allows(Cors::matching(move |it| it == app).with_credentials(), app).await);
}

/// The request is refused with a hint that names the option, and served once that is set.
async fn is_served_with(
    option: &str,
    request: &str,
    body: &str,
    without: ServerBuilder,
    with: ServerBuilder,
) {
    let (status, refused) = http(serve(&without.build()).await, request, body).await;
    assert!(status >= 400, "{refused}");
    let hint = hint(&refused);
    assert!(hint.contains(&format!("`{option}`")), "{hint}");
    let (status, served) = http(serve(&with.build()).await, request, body).await;
    assert_eq!(status, 200, "{option}: {served}");
}

#[tokio::test]
async fn options_that_hints_name_let_requests_in() {
    let get = |url: &str| format!("GET {url}");
    let new = Server::builder;
    let old = get("/socket.io/?transport=polling");
    is_served_with(
        "allow_eio3",
        &old,
        "",
        new().allow_eio3(false),
        new().allow_eio3(true),
    )
    .await;
    let old = get("/socket.io/?EIO=3&transport=polling");
    is_served_with(
        "allow_eio3",
        &old,
        "",
        new().allow_eio3(false),
        new().allow_eio3(true),
    )
    .await;
    let script = get(&format!("{POLLING}&j=0"));
    let any = || new().cors(Cors::any());
    is_served_with(
        "allow_jsonp",
        &script,
        "",
        any().allow_jsonp(false),
        any().allow_jsonp(true),
    )
    .await;
    // What its hint says besides: without `j` it is polling.
    let address = serve(&any().allow_jsonp(false).build()).await;
    assert_eq!(http(address, &get(POLLING), "").await.0, 200);
    let denied = new().allow_request(async |_| Err("no".into()));
    let allowed = new().allow_request(async |_| Ok(()));
    is_served_with("allow_request", &get(POLLING), "", denied, allowed).await;
    let only = new().transports([TransportKind::WebSocket]);
    let both = new().transports([TransportKind::WebSocket, TransportKind::Polling]);
    is_served_with("transports", &get(POLLING), "", only, both).await;
    let calls = |limit| {
        let io = new().http_calls(HttpCalls::default());
        io.max_payload(limit)
    };
    let large = format!("[{}]", " ".repeat(100));
    for (limit, expected) in [(99, 413), (1_000, 404)] {
        let address = serve(&calls(limit).build()).await;
        let (_, open) = http(address, &get(POLLING), "").await;
        let url = format!("POST {POLLING}&sid={}", sid(&open));
        let (status, body) = http(address, &url, &large).await;
        match expected {
            413 => {
                assert_eq!(status, 413);
                assert!(hint(&body).contains("`max_payload`"), "{body}");
            }
            // It was read: it isn't a packet.
            _ => assert!(hint(&body).contains("could not be decoded"), "{body}"),
        }
    }
}

#[tokio::test]
async fn with_upgrades_gives_plain_hyper_its_websockets() {
    // The log says: "under plain hyper the connection needs `with_upgrades()`".
    let io = Server::new();
    for with_upgrades in [false, true] {
        let (listener, address) = listener().await;
        let service = TowerToHyperService::new(io.service());
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let http1 = hyper::server::conn::http1::Builder::new();
            let connection = http1.serve_connection(TokioIo::new(stream), service);
            let _ = match with_upgrades {
                true => connection.with_upgrades().await,
                false => connection.await,
            };
        });
        let mut client = WebSocket::connect(address, WEBSOCKET).await;
        let first = client.next().await;
        let opens = matches!(&first, Received::Text(open) if open.starts_with("0{"));
        assert_eq!(opens, with_upgrades, "{first:?}");
    }
}

#[derive(Clone)]
struct Greeting(&'static str);

#[tokio::test]
async fn a_state_that_was_not_there_is_there_with_the_builders_option() {
    // The log says: "no state of type ..: give it to ServerBuilder::state".
    for (builder, expected) in [
        (Server::builder(), 500),
        (Server::builder().state(Greeting("hello")), 200),
    ] {
        let io = builder.http_calls(HttpCalls::default()).build();
        io.of("/")
            .on("greet", async |State(Greeting(text)): State<Greeting>| text);
        let (status, body) = http(serve(&io).await, "POST /socket.io/call/greet", "").await;
        assert_eq!(status, expected, "{body}");
    }
}
