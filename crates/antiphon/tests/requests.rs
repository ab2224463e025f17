//! What an application's own code sees of requests, and says to them.

mod support;

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
};

use antiphon::{
    ClientFiles, CloseReason, Denial, Extension, RequestError, Revision, Server, Socket,
    adapter::{Adapter, AdapterFactory, InMemory, Local},
    engine::{
        Application, Connection, Engine, EngineConfig, InitialPacket, Message, NotRelayed, Packet,
        Relay, RelayBody, ServerTag, Session,
    },
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, request::Parts};
use support::{WEBSOCKET, WebSocket, http, listener, serve, sid, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Barrier,
};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

#[derive(Debug, Clone, PartialEq, Eq)]
struct User(&'static str);

#[tokio::test]
async fn what_a_layer_puts_into_the_request_reaches_handlers() {
    let io = Server::builder().handshake_extension::<User>().build();
    io.of("/").on(
        "who",
        async |socket: Socket, Extension(user): Extension<User>| {
            let extensions = socket.handshake().extensions();
            assert_eq!(extensions.get(), Some(&user));
            (user.0, extensions.get::<u8>().is_some())
        },
    );
    let (listener, address) = listener().await;
    let app = io
        .router()
        .layer((axum::Extension(User("Ada")), axum::Extension(1_u8)));
    tokio::spawn(axum::serve(listener, app).into_future());

    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    client.send(r#"421["who"]"#).await;
    client.expect(r#"431["Ada",false]"#).await;

    let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
    let url = format!("{POLLING}&sid={}", sid(&open));
    http(address, &format!("POST {url}"), "40\u{1e}421[\"who\"]").await;
    let (_, got) = http(address, &format!("GET {url}"), "").await;
    assert!(got.ends_with(r#"431["Ada",false]"#), "{got}");
}

#[tokio::test]
async fn an_application_refuses_with_a_status_a_code_and_a_text_of_its_own() {
    let io = Server::builder()
        .allow_request(async |request| match request.uri.query() {
            Some(query) if query.contains("deny=text") => Err("not today".into()),
            Some(query) if query.contains("deny=code") => Err(Denial::new("who are you?")
                .code(1_001)
                .status(StatusCode::UNAUTHORIZED)),
            Some(query) if query.contains("deny=secret") => Err(Denial::hide("db is down")),
            _ => Ok(()),
        })
        .build();
    let address = serve(&io).await;
    for (deny, status, says) in [
        ("text", 403, r#"{"code":4,"message":"not today","hint":"#),
        (
            "code",
            401,
            r#"{"code":1001,"message":"who are you?","hint":"#,
        ),
        ("secret", 403, r#"{"code":4,"message":"Forbidden","hint":"#),
    ] {
        for url in [POLLING, WEBSOCKET] {
            let upgrade = "HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\
                           \r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX:";
            let request = format!("GET {url}&deny={deny} {upgrade}");
            let (got, body) = http(address, &request, "").await;
            assert_eq!(got, status, "{url} {body}");
            assert!(body.starts_with(says), "{url} {body}");
            assert!(!body.contains("db is down"), "{body}");
        }
    }
    assert_eq!(http(address, &format!("GET {POLLING}"), "").await.0, 200);
}

#[tokio::test]
async fn what_a_request_middleware_finds_out_reaches_handlers() {
    let io = Server::builder()
        .request_middleware(async |mut request| {
            let cookie = request.headers().get("cookie");
            let user = match cookie.map(HeaderValue::as_bytes) {
                Some(b"user=ada") => User("Ada"),
                _ => User("nobody"),
            };
            request.extensions_mut().insert(user);
            Ok(request)
        })
        .handshake_extension::<User>()
        .build();
    io.of("/").on("who", async |socket: Socket| {
        let user = socket.handshake().extensions().get::<User>();
        user.map(|user| user.0)
    });
    let address = serve(&io).await;
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut client, _) = WebSocket::offering(stream, WEBSOCKET, "Cookie: user=ada\r\n").await;
    client.join().await;
    client.send(r#"421["who"]"#).await;
    client.expect(r#"431["Ada"]"#).await;
}

#[tokio::test]
async fn a_request_middleware_may_give_any_response_which_a_page_may_read() {
    let io = Server::builder()
        .request_middleware(async |request| {
            let mut response = Response::new(Bytes::from_static(b"closed for today"));
            *response.status_mut() = StatusCode::from_u16(418).unwrap();
            match request.uri().path() {
                "/socket.io/tea" => Err(response),
                _ => Ok(request),
            }
        })
        .build();
    let address = serve(&io).await;
    let request = "GET /socket.io/tea?EIO=4&transport=polling HTTP/1.1\r\nHost: test\r\n\
                   Origin: https://app.example\r\nConnection: close\r\nX:";
    let answered = http(address, request, "").await;
    assert_eq!(answered, (418, "closed for today".to_owned()));
    assert_eq!(io.stats().requests_refused, 1);
    assert_eq!(http(address, &format!("GET {POLLING}"), "").await.0, 200);
}

#[tokio::test]
async fn the_application_is_told_why_with_the_request() {
    let seen: Arc<Mutex<Vec<(RequestError, String)>>> = Arc::default();
    let told = Arc::clone(&seen);
    let io = Server::builder()
        .on_connection_error(move |error, request| {
            let path = request.uri.path().to_owned();
            told.lock().unwrap().push((error.clone(), path));
        })
        .allow_eio3(false)
        .build();
    let address = serve(&io).await;
    for url in [
        "/socket.io/a?EIO=4&transport=smoke",
        "/socket.io/b?EIO=3&transport=polling",
        "/socket.io/c?EIO=4&transport=polling&sid=x",
    ] {
        http(address, &format!("GET {url}"), "").await;
    }
    let expected = [
        (
            RequestError::UnknownTransport(Some("smoke".into())),
            "/socket.io/a".into(),
        ),
        (
            RequestError::UnsupportedRevision(Some("3".into())),
            "/socket.io/b".into(),
        ),
        (RequestError::UnknownSession, "/socket.io/c".into()),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

/// Servers of a cluster, of which this is the only one that is there.
struct Alone(ServerTag);

impl Relay for Alone {
    fn tag(&self) -> ServerTag {
        self.0
    }

    fn relay(
        &self,
        _: ServerTag,
        _: http::Request<RelayBody>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<RelayBody>, NotRelayed>> + Send + '_>> {
        Box::pin(std::future::ready(Err(NotRelayed::Unknown)))
    }
}

struct Cluster(Arc<Alone>);

impl AdapterFactory for Cluster {
    fn make(&self, _: &str, local: Local) -> Arc<dyn Adapter> {
        Arc::new(InMemory::new(local))
    }

    fn relay(&self) -> Option<Arc<dyn Relay>> {
        Some(Arc::clone(&self.0) as _)
    }
}

#[tokio::test]
async fn in_a_cluster_an_id_that_is_given_names_its_server() {
    let tag = ServerTag::from_hash(7);
    let io = Server::builder()
        .adapter(Cluster(Arc::new(Alone(tag))))
        .generate_id(async |_| Ok("made-by-the-test_000".to_owned()))
        .build();
    let address = serve(&io).await;
    let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
    let id = sid(&open);
    assert_eq!(&id[..14], "made-by-the-te");
    assert_eq!(ServerTag::of_id(id), Some(tag));
    let url = format!("POST {POLLING}&sid={id}");
    assert_eq!(http(address, &url, "40").await, (200, "ok".to_owned()));
    // The next would have the same.
    assert_eq!(http(address, &format!("GET {POLLING}"), "").await.0, 400);
}

/// Both have had their 101 when the second finds the id taken.
#[tokio::test]
async fn an_id_that_two_websockets_are_given_at_once_is_the_firsts() {
    let both = Arc::new(Barrier::new(2));
    let io = Server::builder()
        .generate_id(move |_| {
            let both = Arc::clone(&both);
            async move {
                both.wait().await;
                Ok("the-same-for-both-00".to_owned())
            }
        })
        .build();
    // Under an HTTP server, which makes the session when it has answered.
    let (listener, address) = listener().await;
    tokio::spawn(axum::serve(listener, io.router()).into_future());
    let connect = || async move {
        let mut client = WebSocket::connect(address, WEBSOCKET).await;
        let open = client.expect_prefix("0{").await;
        client.send("40").await;
        client.expect_prefix("40{").await;
        (sid(&open).to_owned(), client)
    };
    let ((one, _first), (two, _second)) =
        within("both", async { tokio::join!(connect(), connect()) }).await;
    assert_ne!(one, two);
    assert!([one, two].contains(&"the-same-for-both-00".to_owned()));
    assert_eq!(io.stats().sessions, 2);
}

#[tokio::test]
async fn clients_may_leave_out_the_slash_behind_the_path() {
    let io = Server::new();
    let (listener, behind_axum) = listener().await;
    tokio::spawn(axum::serve(listener, io.router()).into_future());
    for address in [serve(&io).await, behind_axum] {
        let url = "/socket.io?EIO=4&transport=polling";
        let (status, open) = http(address, &format!("GET {url}"), "").await;
        assert_eq!(status, 200, "{open}");
        let mut client = WebSocket::connect(address, "/socket.io?EIO=4&transport=websocket").await;
        client.join().await;
    }
}

#[tokio::test]
async fn the_clients_files_may_be_a_part_of_the_program() {
    let embedded = antiphon::client_files!("tests/client_files");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client_files");
    for files in [embedded, ClientFiles::folder(folder).unwrap()] {
        let io = Server::builder().path("/a/b").serve_client(files).build();
        let address = serve(&io).await;
        for kind in ["", ".min", ".msgpack.min", ".esm.min"] {
            let name = format!("socket.io{kind}.js");
            let (status, script) = http(address, &format!("GET /a/b/{name}"), "").await;
            assert_eq!(status, 200);
            assert!(script.contains(&format!("{name:?}")), "{script}");
            let (status, map) = http(address, &format!("GET /a/b/{name}.map"), "").await;
            assert_eq!(status, 200);
            assert!(map.contains(&format!("{name:?}")), "{map}");
        }
        assert_eq!(
            http(address, "GET /socket.io/socket.io.js", "").await.0,
            404
        );
        assert_eq!(http(address, "GET /a/b/index.html", "").await.0, 400);
    }
}

#[tokio::test]
async fn a_header_may_be_added_to_all_responses() {
    let io = Server::builder()
        .response_header(
            HeaderName::from_static("x-node"),
            HeaderValue::from_static("eu1"),
        )
        .build();
    let address = serve(&io).await;
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (_client, head) = WebSocket::offering(stream, WEBSOCKET, "").await;
    assert!(head.contains("x-node: eu1\r\n"), "{head}");
    for url in [POLLING, "/socket.io/?transport=none", "/other"] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {url} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        within("the response", stream.read_to_string(&mut response))
            .await
            .unwrap();
        assert!(response.contains("x-node: eu1\r\n"), "{response}");
    }
}

#[tokio::test]
async fn an_app_on_the_servers_listener_may_say_a_header_itself() {
    let name = HeaderName::from_static("x-node");
    let io = Server::builder()
        .response_header(name.clone(), HeaderValue::from_static("eu1"))
        .build();
    let app = axum::Router::new()
        .route("/silent", axum::routing::get(async || "page"))
        .route(
            "/own",
            axum::routing::get(async move || ([(name, "eu2")], "page")),
        );
    let (listener, address) = listener().await;
    tokio::spawn(async move { io.serve_with(listener, app).await });
    for (path, expected) in [("/silent", "eu1"), ("/own", "eu2")] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        within("the response", stream.read_to_string(&mut response))
            .await
            .unwrap();
        let said: Vec<_> = response
            .lines()
            .filter(|line| line.starts_with("x-node"))
            .collect();
        assert_eq!(said, [format!("x-node: {expected}")]);
    }
}

#[test]
fn headers_of_the_protocol_are_not_the_applications() {
    for name in [
        "content-type",
        "sec-websocket-accept",
        "access-control-allow-origin",
    ] {
        let name = HeaderName::from_static(name);
        let value = HeaderValue::from_static("x");
        let panicked =
            std::panic::catch_unwind(|| Server::builder().response_header(name, value)).err();
        let panicked = panicked.expect("it panics");
        let text = panicked.downcast_ref::<String>().unwrap();
        assert!(text.contains("leave it out"), "{text}");
    }
}

#[tokio::test]
async fn packets_that_come_are_seen_before_they_are_handled() {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = Arc::clone(&seen);
    let io = Server::builder()
        .on_packet(move |session, packet| {
            let text = match packet {
                Packet::Message(Message::Text(text)) => (*text).to_owned(),
                other => format!("{other:?}"),
            };
            assert_eq!(session.revision(), Revision::V4);
            told.lock().unwrap().push(text);
        })
        .build();
    let saw = Arc::clone(&seen);
    io.of("/").on("count", move || {
        std::future::ready(saw.lock().unwrap().len())
    });
    let address = serve(&io).await;
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    client.send("3").await;
    client.send(r#"421["count"]"#).await;
    client.expect("431[3]").await;
    let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
    let url = format!("POST {POLLING}&sid={}", sid(&open));
    http(address, &url, "40\u{1e}1").await;
    let seen = seen.lock().unwrap();
    let expected = ["0", "Pong(\"\")", r#"21["count"]"#, "0", "Close"];
    assert_eq!(*seen, expected);
}

/// Broadcasts to many share what they write, but not with who is observed.
#[cfg(feature = "deflate")]
#[tokio::test]
async fn messages_that_are_sent_are_seen_for_each_receiver() {
    use std::collections::HashMap;

    use antiphon::SessionId;
    use support::Received;

    let seen: Arc<Mutex<HashMap<SessionId, Vec<String>>>> = Arc::default();
    let told = Arc::clone(&seen);
    let builder = Server::builder().on_outgoing_packet(move |session, packet| {
        let text = match packet {
            Packet::Message(Message::Text(text)) => (*text).to_owned(),
            other => format!("{other:?}"),
        };
        let mut told = told.lock().unwrap();
        told.entry(session.id()).or_default().push(text);
    });
    let io = builder.compression(10).build();
    io.of("/").on("all", async |io: Server| {
        for number in 0..3 {
            io.emit("number", number);
        }
        io.emit("bytes", Bytes::from_static(&[1, 2, 3]));
        io.emit("long", "x".repeat(100));
    });
    let address = serve(&io).await;
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let (compressed, _) = WebSocket::offering(stream, WEBSOCKET, offer).await;
    let mut compressed = compressed.map_decoder(|decoder| decoder.with_deflate());
    compressed.join().await;
    let mut plain = WebSocket::connect(address, WEBSOCKET).await;
    plain.join().await;
    plain.send(r#"42["all"]"#).await;
    let long = format!(r#"2["long","{}"]"#, "x".repeat(100));
    for client in [&mut plain, &mut compressed] {
        for number in 0..3 {
            client.expect(&format!(r#"42["number",{number}]"#)).await;
        }
        client.expect_prefix("451-").await;
        assert_eq!(client.next().await, Received::Binary(vec![1, 2, 3]));
        client.expect(&format!("4{long}")).await;
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    for packets in seen.values() {
        let expected = [
            r#"2["number",0]"#,
            r#"2["number",1]"#,
            r#"2["number",2]"#,
            r#"51-["bytes",{"_placeholder":true,"num":0}]"#,
            "Message(Binary([1, 2, 3]))",
            &long,
        ];
        assert!(packets[0].starts_with("0{"), "{packets:?}");
        assert_eq!(packets[1..], expected);
    }
}

#[tokio::test]
async fn a_server_that_was_closed_says_that_another_one_is_to_be_built() {
    let io = Server::new();
    within("close", io.close()).await;
    let error = within("listen", io.listen("127.0.0.1:0"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("Server::builder()"), "{error}");
    // What is served already goes on to be refused.
    let (listener, _) = listener().await;
    within("serve", io.serve(listener)).await;
}

/// Says nothing.
struct Silent;

impl Application for Silent {
    fn connect(&self, _: &Arc<Session>, _: &Parts) -> Arc<dyn Connection> {
        Arc::new(Self)
    }
}

impl Connection for Silent {
    fn message(&self, _: &Arc<Session>, _: Message<'_>) {}
    fn closed(&self, _: &Arc<Session>, _: CloseReason) {}
}

#[tokio::test]
async fn an_initial_packet_comes_first() {
    let mut config = EngineConfig::default();
    config.initial_packet = Some(InitialPacket::Text("welcome".to_owned()));
    let engine = Engine::new(config, Arc::new(Silent));
    let (listener, address) = listener().await;
    let app = axum::Router::new().route_service("/socket.io/", engine.service());
    tokio::spawn(axum::serve(listener, app).into_future());
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.expect_prefix("0{").await;
    client.expect("4welcome").await;
    let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
    let poll = format!("GET {POLLING}&sid={}", sid(&open));
    assert_eq!(http(address, &poll, "").await.1, "4welcome");
}
