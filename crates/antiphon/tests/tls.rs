//! TLS on the server's own listeners.

// Helpers beside the tests fail them.
#![allow(clippy::unwrap_used)]

mod support;
#[path = "support/tls.rs"]
mod tls;

use std::{fs, net::SocketAddr, time::Duration};

use antiphon::{
    Args, Data, DisconnectReason, Listener, Server, Socket, State, Tls, TlsError,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};
use axum::{Router, routing::get};
use support::{Log, Received, WEBSOCKET, WebSocket, http, http_over, sid, until, within};
use tls::Authority;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// So many texts, each so long.
type Rows = (usize, usize);

fn emit((count, size): Rows, emit: impl Fn(String)) {
    (0..count).for_each(|_| emit("x".repeat(size)));
}

/// A server that notes what becomes of its sockets, with TLS.
struct World {
    io: Server,
    log: Log,
    authority: Authority,
    tls: Tls,
    address: SocketAddr,
}

impl World {
    fn new(name: &str) -> Self {
        let log = Log::default();
        let io = Server::builder().state(log.clone()).build();
        io.of("/")
            .on("echo", async |socket: Socket, args: Args| {
                socket.emit("echo", args);
            })
            .on("to all", async |io: Server, Data(rows): Data<Rows>| {
                emit(rows, |text| drop(io.emit("row", text)));
            })
            .on("to me", async |socket: Socket, Data(rows): Data<Rows>| {
                emit(rows, |text| drop(socket.emit("row", text)));
            })
            .on("secure", async |socket: Socket| {
                socket.handshake().is_secure()
            })
            .on_disconnect(async |State(log): State<Log>, reason: DisconnectReason| {
                log.note(reason);
            });
        let authority = Authority::new(name);
        authority.renew();
        let tls = authority.tls().unwrap();
        let app = Router::new().route("/", get(async || "page"));
        let listener = Listener::tcp("127.0.0.1:0").unwrap().tls(&tls);
        let address = listener.local_addr().unwrap();
        tokio::spawn(io.serving([listener]).app(app).run());
        Self {
            io,
            log,
            authority,
            tls,
            address,
        }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        self.authority.connect(self.address, &[]).await
    }

    async fn websocket(&self) -> WebSocket<TlsStream<TcpStream>> {
        let mut client = WebSocket::over(self.connect().await, WEBSOCKET).await;
        client.join().await;
        client
    }
}

#[tokio::test]
async fn polling_websocket_and_the_app_are_served() {
    let world = World::new("served");
    let page = http_over(world.connect().await, "GET /", "").await;
    assert_eq!(page, (200, "page".to_owned()));
    let (status, open) = http_over(world.connect().await, &format!("GET {POLLING}"), "").await;
    assert_eq!(status, 200, "{open}");
    let poll = format!("{POLLING}&sid={}", sid(&open));
    let posted = http_over(world.connect().await, &format!("POST {poll}"), "40").await;
    assert_eq!(posted, (200, "ok".to_owned()));
    let (_, joined) = http_over(world.connect().await, &format!("GET {poll}"), "").await;
    assert!(joined.starts_with("40{"), "{joined}");
    http_over(world.connect().await, &format!("POST {poll}"), "1").await;

    let mut client = world.websocket().await;
    client.send(r#"42["echo","hello"]"#).await;
    client.expect(r#"42["echo","hello"]"#).await;
    client.send(r#"421["secure"]"#).await;
    client.expect("431[true]").await;
    // Larger than what the connection takes at once: the rest is written when there is room again.
    let large = format!(r#"42["echo","{}"]"#, "x".repeat(900_000));
    for _ in 0..3 {
        client.send(&large).await;
        client.expect(&large).await;
    }
    within("close", world.io.close()).await;
    assert!(matches!(client.next().await, Received::Closed(Some(1000))));
}

#[tokio::test]
async fn without_tls_nothing_is_secure() {
    let io = Server::new();
    io.of("/").on("secure", async |socket: Socket| {
        socket.handshake().is_secure()
    });
    let address = support::serve(&io).await;
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    client.send(r#"421["secure"]"#).await;
    client.expect("431[false]").await;
}

#[tokio::test]
async fn a_session_moves_from_polling_to_a_websocket() {
    let world = World::new("upgrade");
    let (_, open) = http_over(world.connect().await, &format!("GET {POLLING}"), "").await;
    let url = format!("{WEBSOCKET}&sid={}", sid(&open));
    let mut client = WebSocket::over(world.connect().await, &url).await;
    client.send("2probe").await;
    client.expect("3probe").await;
    client.send("5").await;
    client.send("40").await;
    client.expect_prefix("40{").await;
    assert_eq!(world.io.stats().upgrades_completed, 1);
}

/// A client reads one record at a time.
#[tokio::test]
async fn what_a_turn_causes_is_one_record() {
    let world = World::new("record");
    let mut talker = world.websocket().await;
    let mut listener = world.websocket().await;
    let counted = async |client: &mut WebSocket<TlsStream<TcpStream>>| {
        let mut read = vec![0; 64 << 10];
        let length = within("the burst", client.stream().read(&mut read)).await;
        let words = read[..length.unwrap()].windows(6);
        words.filter(|bytes| bytes == b"\"row\",").count()
    };
    talker.send(r#"42["to all",100,10]"#).await;
    assert_eq!(counted(&mut listener).await, 100);
    assert_eq!(counted(&mut talker).await, 100);
    // Those don't lie side by side before they are written.
    talker.send(r#"42["to me",3,5000]"#).await;
    assert_eq!(counted(&mut talker).await, 3);
}

#[tokio::test]
async fn a_client_that_goes_without_a_word_has_closed_the_transport() {
    let world = World::new("gone");
    let client = world.websocket().await;
    drop(client);
    world.log.until("transport close").await;
}

#[tokio::test]
async fn a_new_certificate_is_for_those_that_come_and_the_others_stay() {
    let world = World::new("reload");
    let certificate =
        |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    let mut early = world.websocket().await;
    let first = certificate(early.stream());
    let second = world.authority.renew();
    assert_ne!(first, second);
    let mut client = world.websocket().await;
    assert_eq!(
        certificate(client.stream()),
        first,
        "nobody has asked for the new one"
    );
    world.tls.reload().unwrap();
    let mut client = world.websocket().await;
    assert_eq!(certificate(client.stream()), second);
    early.send(r#"42["echo",1]"#).await;
    early.expect(r#"42["echo",1]"#).await;
}

#[tokio::test]
async fn a_broken_certificate_leaves_the_old_one() {
    let world = World::new("broken");
    let (chain, key) = (world.authority.chain(), world.authority.key());
    let good = fs::read(&key).unwrap();
    type IsIt = fn(&TlsError) -> bool;
    let is_pem: IsIt = |error| matches!(error, TlsError::Pem { .. });
    let breaks: [(&dyn Fn(), IsIt); 4] = [
        (&|| fs::write(&key, "no key").unwrap(), is_pem),
        (&|| fs::remove_file(&key).unwrap(), is_pem),
        // The certificate of another key.
        (
            &|| {
                world.authority.renew();
                fs::write(&key, &good).unwrap();
            },
            |error| matches!(error, TlsError::Certificate(_)),
        ),
        (&|| fs::write(&chain, &good).unwrap(), is_pem),
    ];
    for (break_it, is_it) in breaks {
        break_it();
        let error = world.tls.reload().unwrap_err();
        assert!(is_it(&error), "{error}");
        world.websocket().await;
    }
    let error = world.authority.tls().unwrap_err().to_string();
    assert!(error.contains("chain.pem"), "{error}");
}

#[tokio::test]
async fn plain_http_is_told_to_use_tls() {
    let world = World::new("plain");
    let (status, body) = http(world.address, &format!("GET {POLLING}"), "").await;
    assert_eq!(status, 400);
    assert!(body.contains("https://"), "{body}");
}

/// Whether the server hangs up on a client that says this, by the clock of the test.
async fn hangs_up(address: SocketAddr, said: &[u8]) -> Duration {
    let begun = tokio::time::Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(said).await.unwrap();
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(300), stream.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "it waits for more behind {said:?}");
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn garbage_and_handshakes_that_do_not_end_are_dropped() {
    let world = World::new("garbage");
    for garbage in [
        &b"\x00\xffgarbage"[..],
        b"\x80\x2e\x01",
        b"\x15\x03\x01\x00\x02\x02\x28",
    ] {
        hangs_up(world.address, garbage).await;
    }
    // The beginnings of a handshake.
    for beginning in [
        &b""[..],
        b"\x16",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        let time = hangs_up(world.address, beginning).await;
        assert!(time <= Duration::from_secs(11), "{time:?}");
    }
    // With the handshake done, the head of a request has its own time.
    let mut stream = world.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    assert!(
        tokio::time::timeout(Duration::from_secs(120), ended)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn handshakes_that_wait_hold_up_nobody() {
    let world = World::new("flood");
    let mut half_open = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(b"\x16\x03\x01").await.unwrap();
        half_open.push(stream);
    }
    world.websocket().await;
}

#[tokio::test]
async fn a_configuration_of_the_program_is_served_and_has_no_files() {
    let authority = Authority::new("own");
    authority.renew();
    let chain = CertificateDer::from_pem_file(authority.chain()).unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.key()).unwrap();
    let provider = ring::default_provider();
    let config = ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap();
    let tls = Tls::new(config);
    assert!(matches!(tls.reload(), Err(TlsError::NoFiles)));
    let io = Server::new();
    let listener = Listener::tcp("127.0.0.1:0").unwrap().tls(&tls);
    let address = listener.local_addr().unwrap();
    tokio::spawn(io.serving([listener]).run());
    let stream = authority.connect(address, &["http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    WebSocket::over(stream, WEBSOCKET).await.join().await;
}

#[tokio::test]
async fn a_runtime_for_each_core_serves_it_beside_a_plain_listener() {
    let authority = Authority::new("cores");
    authority.renew();
    let io = Server::new();
    let bind = || Listener::tcp("127.0.0.1:0").unwrap();
    let serving = io.serving([bind(), bind().tls(&authority.tls().unwrap())]);
    let cores = serving.per_core().unwrap().threads(2);
    let addresses = cores.local_addrs();
    let thread = std::thread::spawn(move || cores.run());
    let mut clients = Vec::new();
    let mut plain = Vec::new();
    for _ in 0..10 {
        let stream = authority.connect(addresses[1], &[]).await;
        let mut client = WebSocket::over(stream, WEBSOCKET).await;
        client.join().await;
        clients.push(client);
        let mut client = WebSocket::connect(addresses[0], WEBSOCKET).await;
        client.join().await;
        plain.push(client);
    }
    until("all", || io.stats().sessions == 20).await;
    io.emit("all", ());
    for client in &mut clients {
        client.expect(r#"42["all"]"#).await;
    }
    for client in &mut plain {
        client.expect(r#"42["all"]"#).await;
    }
    within("close", io.close()).await;
    let ended = tokio::task::spawn_blocking(|| thread.join().unwrap());
    within("the end of run", ended).await.unwrap().unwrap();
}
