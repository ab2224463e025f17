//! HTTP/2: polling, streaming, and WebSocket by an extended CONNECT (RFC 8441).

// Helpers beside the tests fail them.
#![allow(clippy::unwrap_used)]

mod support;
#[path = "support/tls.rs"]
mod tls;

use std::{net::SocketAddr, time::Duration};

use antiphon::{
    Args, Cors, Data, DisconnectReason, Listener, Server, ServerBuilder, Socket, State,
    TransportKind,
};
use axum::{Router, routing::get};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http2::SendRequest, ext::Protocol, upgrade::Upgraded};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{Log, Received, WEBSOCKET, WebSocket, http_over, listener, sid, within};
use tls::Authority;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client's connection.
struct Client {
    requests: SendRequest<Full<Bytes>>,
    /// Ends with the connection.
    connection: JoinHandle<()>,
}

impl Client {
    async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let shaken =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (requests, connection) = within("the handshake", shaken).await.unwrap();
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Self {
            requests,
            connection,
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let mut requests = self.requests.clone();
        let answer = async move {
            requests.ready().await.unwrap();
            requests.send_request(request).await
        };
        within("the answer", answer).await.unwrap()
    }

    async fn http(&self, method: Method, path: &str, body: &str) -> (u16, String) {
        let request = request(method, path).body(Full::new(body.to_owned().into()));
        let answer = self.send(request.unwrap()).await;
        assert_eq!(answer.version(), Version::HTTP_2);
        let status = answer.status().as_u16();
        let body = within("the body", answer.collect())
            .await
            .unwrap()
            .to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.http(Method::GET, path, "").await
    }

    async fn post(&self, path: &str, body: &str) {
        let answer = self.http(Method::POST, path, body).await;
        assert_eq!(answer, (200, "ok".to_owned()));
    }

    /// Asks for a WebSocket, with one more header.
    async fn connect(&self, path: &str, header: (&str, &str)) -> Response<Incoming> {
        let request = request(Method::CONNECT, path)
            .header("sec-websocket-version", "13")
            .header(header.0, header.1)
            .extension(Protocol::from_static("websocket"));
        self.send(request.body(Full::default()).unwrap()).await
    }

    async fn websocket(&self, path: &str) -> WebSocket<TokioIo<Upgraded>> {
        let answer = self.connect(path, ("x", "y")).await;
        assert_eq!(answer.status(), StatusCode::OK);
        for absent in [
            "connection",
            "upgrade",
            "sec-websocket-accept",
            "content-length",
        ] {
            assert!(!answer.headers().contains_key(absent), "{absent}");
        }
        let upgraded = within("the stream", hyper::upgrade::on(answer)).await;
        WebSocket::opened(TokioIo::new(upgraded.unwrap()))
    }
}

fn request(method: Method, path: &str) -> http::request::Builder {
    let uri = format!("https://localhost{path}");
    Request::builder()
        .method(method)
        .uri(uri)
        .version(Version::HTTP_2)
}

fn server(builder: ServerBuilder) -> (Server, Log) {
    let log = Log::default();
    let io = builder.state(log.clone()).build();
    io.of("/")
        .on("echo", async |socket: Socket, args: Args| {
            socket.emit("echo", args);
        })
        .on("burst", async |socket: Socket, Data(count): Data<usize>| {
            for number in 0..count {
                socket.emit("number", number);
            }
        })
        .on("secure", async |socket: Socket| {
            socket.handshake().is_secure()
        })
        .on_disconnect(async |State(log): State<Log>, reason: DisconnectReason| {
            log.note(reason);
        });
    (io, log)
}

/// Serves with the own listener, without TLS.
fn serve(io: &Server) -> SocketAddr {
    let listener = Listener::tcp("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route("/", get(async || "page"));
    tokio::spawn(io.serving([listener]).app(app).run());
    address
}

async fn connect(address: SocketAddr) -> Client {
    Client::over(TcpStream::connect(address).await.unwrap()).await
}

async fn works(client: &Client) {
    assert_eq!(client.get("/").await, (200, "page".to_owned()));
    // Polling, with the POST beside the poll that waits.
    let (status, open) = client.get(POLLING).await;
    assert_eq!(status, 200, "{open}");
    let path = format!("{POLLING}&sid={}", sid(&open));
    client.post(&path, "40").await;
    assert!(client.get(&path).await.1.starts_with("40{"));
    let (echo, ()) = tokio::join!(client.get(&path), client.post(&path, r#"42["echo",1]"#));
    assert_eq!(echo.1, r#"42["echo",1]"#);
    // The upgrade to a WebSocket on the same connection.
    let url = format!("{WEBSOCKET}&sid={}", sid(&open));
    let mut upgraded = client.websocket(&url).await;
    upgraded.send("2probe").await;
    upgraded.expect("3probe").await;
    upgraded.send("5").await;
    upgraded.send(r#"42["echo",2]"#).await;
    upgraded.expect(r#"42["echo",2]"#).await;
    // And another one beside it, with messages larger than what the stream takes at once.
    let mut websocket = client.websocket(WEBSOCKET).await;
    websocket.join().await;
    let large = format!(r#"42["echo","{}"]"#, "x".repeat(900_000));
    for _ in 0..3 {
        websocket.send(&large).await;
        websocket.expect(&large).await;
    }
    websocket.send(r#"42["burst",1000]"#).await;
    for number in 0..1_000 {
        websocket.expect(&format!(r#"42["number",{number}]"#)).await;
    }
}

#[tokio::test]
async fn polling_websocket_and_the_app_share_a_connection() {
    let (io, _) = server(Server::builder());
    works(&connect(serve(&io)).await).await;
}

#[tokio::test]
async fn tls_agrees_on_it() {
    let (io, log) = server(Server::builder());
    let authority = Authority::new("http2");
    authority.renew();
    let tls = authority.tls().unwrap();
    let listener = Listener::tcp("127.0.0.1:0").unwrap().tls(&tls);
    let address = listener.local_addr().unwrap();
    let app = Router::new().route("/", get(async || "page"));
    let running = tokio::spawn(io.serving([listener]).app(app).run());
    let stream = authority.connect(address, &["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let client = Client::over(stream).await;
    works(&client).await;
    let mut websocket = client.websocket(WEBSOCKET).await;
    websocket.join().await;
    websocket.send(r#"421["secure"]"#).await;
    websocket.expect("431[true]").await;
    // Those that don't speak it get what they speak.
    let stream = authority.connect(address, &["http/1.1"]).await;
    assert_eq!(http_over(stream, "GET /", "").await.1, "page");
    within("close", io.close()).await;
    assert!(matches!(
        websocket.next().await,
        Received::Closed(Some(1000))
    ));
    within("the end of the server", running)
        .await
        .unwrap()
        .unwrap();
    within("the end of the connection", client.connection)
        .await
        .unwrap();
    assert!(
        log.seen()
            .iter()
            .all(|reason| reason == "server shutting down" || reason == "transport close")
    );
}

#[tokio::test]
async fn axum_carries_it() {
    let (io, _) = server(Server::builder());
    let (listener, address) = listener().await;
    let app = Router::new()
        .route("/", get(async || "page"))
        .merge(io.router());
    tokio::spawn(axum::serve(listener, app).into_future());
    works(&connect(address).await).await;
}

#[tokio::test]
async fn a_stream_of_events_is_a_response_of_it() {
    let (io, _) = server(Server::builder().transports([TransportKind::Streaming]));
    let client = connect(serve(&io)).await;
    let path = "/socket.io/?EIO=4&transport=streaming";
    let request = request(Method::GET, path).body(Full::default()).unwrap();
    let mut stream = client.send(request).await.into_body();
    let mut seen = String::new();
    let mut until = async |what: &str| {
        while !seen.contains(what) {
            let frame = within(what, stream.frame()).await.unwrap().unwrap();
            seen.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        seen.clone()
    };
    let open = until("sid").await;
    let path = format!("{path}&sid={}&antiphon-offset=0", sid(&open));
    client.post(&path, "40").await;
    until("40{").await;
    client.post(&path, r#"42["echo","by a stream"]"#).await;
    until("by a stream").await;
}

#[tokio::test]
async fn a_websocket_that_ends_or_is_reset_ends_its_session_and_no_other() {
    let (io, log) = server(Server::builder());
    let stream = std::net::TcpStream::connect(serve(&io)).unwrap();
    stream.set_nonblocking(true).unwrap();
    let line = stream.try_clone().unwrap();
    let client = Client::over(TcpStream::from_std(stream).unwrap()).await;
    let mut first = client.websocket(WEBSOCKET).await;
    first.join().await;
    let mut second = client.websocket(WEBSOCKET).await;
    second.join().await;
    drop(first);
    log.until("transport close").await;
    second.send(r#"42["echo",1]"#).await;
    second.expect(r#"42["echo",1]"#).await;
    assert_eq!(io.stats().sessions, 1);
    // All of them go with the connection.
    line.shutdown(std::net::Shutdown::Both).unwrap();
    support::until("the end of the session", || io.stats().sessions == 0).await;
}

#[tokio::test]
async fn a_handshake_is_checked_as_one_of_http_1() {
    let (io, _) = server(Server::builder().cors(Cors::origins(["https://app.example"])));
    let client = connect(serve(&io)).await;
    for (path, header, status) in [
        (WEBSOCKET, ("origin", "https://localhost"), 200),
        (WEBSOCKET, ("origin", "https://app.example"), 200),
        (WEBSOCKET, ("origin", "https://foreign.example"), 403),
        ("/socket.io/?EIO=7&transport=websocket", ("x", "y"), 400),
        (
            "/socket.io/?EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAAAAAA",
            ("x", "y"),
            400,
        ),
        (POLLING, ("x", "y"), 200),
    ] {
        // A poll by CONNECT is no WebSocket, whatever it says.
        let answer = client.connect(path, header).await;
        let expected = if path == POLLING { 400 } else { status };
        assert_eq!(answer.status().as_u16(), expected, "{path} {header:?}");
    }
    let other = request(Method::CONNECT, WEBSOCKET)
        .header("sec-websocket-version", "13")
        .extension(Protocol::from_static("connect-udp"));
    let answer = client.send(other.body(Full::default()).unwrap()).await;
    assert_eq!(answer.status(), 400);
}

#[tokio::test]
async fn a_subprotocol_and_compression_are_agreed_on() {
    let (io, _) = server(Server::builder().compression(1));
    let client = connect(serve(&io)).await;
    let offered = ("sec-websocket-extensions", "permessage-deflate");
    let answer = client.connect(WEBSOCKET, offered).await;
    let agreed = answer.headers()["sec-websocket-extensions"]
        .to_str()
        .unwrap();
    assert!(agreed.starts_with("permessage-deflate"), "{agreed}");
    let offered = ("sec-websocket-protocol", "first, second");
    let answer = client.connect(WEBSOCKET, offered).await;
    assert_eq!(answer.headers()["sec-websocket-protocol"], "first");
}

/// A server whose sessions have no heartbeat that would be due within a test.
fn calm() -> ServerBuilder {
    Server::builder().ping_interval(Duration::from_secs(3_600))
}

/// Lets so many seconds pass at once, one by one, so that what happens in each can happen.
async fn pass(seconds: usize) {
    for _ in 0..seconds {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::time::resume();
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

#[tokio::test]
async fn a_connection_without_requests_is_closed() {
    let (io, _) = server(calm());
    let address = serve(&io);
    let client = connect(address).await;
    assert_eq!(client.get("/").await.0, 200);
    // Not even all of the preface; the preface and nothing behind it.
    let mut silent = Vec::new();
    for said in [&PREFACE[..10], PREFACE] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said).await.unwrap();
        silent.push(stream);
    }
    pass(25).await;
    assert!(!client.connection.is_finished());
    pass(10).await;
    for mut stream in silent {
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        within("the end of a silent one", ended).await.unwrap();
    }
    within("the end of the other", client.connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_websocket_keeps_its_connection_which_takes_no_other_requests() {
    let (io, log) = server(calm());
    let client = connect(serve(&io)).await;
    let mut websocket = client.websocket(WEBSOCKET).await;
    websocket.join().await;
    pass(65).await;
    websocket.send(r#"42["echo",1]"#).await;
    websocket.expect(r#"42["echo",1]"#).await;
    assert_eq!(log.seen(), [""; 0]);
    let another = request(Method::GET, "/").body(Full::default()).unwrap();
    let mut requests = client.requests.clone();
    let answer = within("the refusal", requests.send_request(another)).await;
    assert!(answer.is_err(), "it was not told to go");
    // Once it has ended its connection has no use.
    drop(websocket);
    within("the end", client.connection).await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_answer_pings_is_gone() {
    let (io, _) = server(calm());
    let mut server = TcpStream::connect(serve(&io)).await.unwrap();
    let (ours, mut theirs) = tokio::io::duplex(64 << 10);
    let (cut, was_cut) = oneshot::channel::<()>();
    // A line that is cut without a word to either end.
    let line = tokio::spawn(async move {
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut theirs, &mut server) => {}
            _ = was_cut => {}
        }
        let mut rest = Vec::new();
        let _ = server.read_to_end(&mut rest).await;
    });
    let client = Client::over(ours).await;
    let mut websocket = client.websocket(WEBSOCKET).await;
    websocket.join().await;
    pass(45).await;
    assert!(!line.is_finished());
    cut.send(()).unwrap();
    pass(15).await;
    assert!(!line.is_finished());
    pass(30).await;
    within("the end of the connection", line).await.unwrap();
    support::until("the end of the session", || io.stats().sessions == 0).await;
}
