//! Requests of a session that come to another server than its own, by the broker in memory.

#![allow(clippy::unwrap_used)]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use antiphon::{
    Args, Server, ServerBuilder, TransportKind,
    adapter::{AdapterFactory as _, ServerTag},
};
use antiphon_cluster::{Address, Cluster, broker::memory::Hub};
use antiphon_protocol::websocket::Opcode;
use antiphon_test_cluster::support::{
    Received, WebSocket, http, listener, serve_on, sid, stream::Stream, until, within,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// Servers of a cluster, and where each is.
struct Servers {
    hub: Hub,
    clusters: Vec<Cluster>,
    servers: Vec<Server>,
    at: Vec<SocketAddr>,
}

fn builder() -> ServerBuilder {
    let transports = [
        TransportKind::Polling,
        TransportKind::WebSocket,
        TransportKind::Streaming,
    ];
    Server::builder()
        .transports(transports)
        .max_payload(2_000_000)
        .max_payload_before_join(2_000_000)
}

/// Short heartbeats, so that what waits is soon given up.
fn hasty() -> ServerBuilder {
    let short = Duration::from_millis(200);
    builder().ping_interval(short).ping_timeout(short)
}

fn url(address: SocketAddr) -> Address {
    Address::new(&format!("http://{address}"))
}

/// A server of the cluster on its own listener.
async fn join(hub: &Hub, builder: ServerBuilder) -> (Cluster, Server, SocketAddr) {
    let (listener, at) = listener().await;
    let cluster = Cluster::builder(hub.broker()).advertise(url(at)).start();
    let io = builder.adapter(cluster.clone()).build();
    io.of("/").on("echo", async |args: Args| args);
    drop(serve_on(&io, listener));
    (cluster, io, at)
}

async fn servers<const N: usize>(builder: impl Fn() -> ServerBuilder) -> Servers {
    let hub = Hub::new();
    let (mut clusters, mut servers, mut at) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..N {
        let (cluster, io, address) = join(&hub, builder()).await;
        clusters.push(cluster);
        servers.push(io);
        at.push(address);
    }
    for cluster in &clusters {
        until("all servers", || cluster.servers().len() == N).await;
    }
    Servers {
        hub,
        clusters,
        servers,
        at,
    }
}

/// Opens a session by polling. Gives its id.
async fn open(at: SocketAddr, path: &str) -> String {
    let (status, open) = http(at, &format!("GET {path}"), "").await;
    assert_eq!(status, 200, "{open}");
    sid(&open).to_owned()
}

async fn post(at: SocketAddr, id: &str, body: &str) -> (u16, String) {
    http(at, &format!("POST {POLLING}&sid={id}"), body).await
}

async fn poll(at: SocketAddr, id: &str) -> (u16, String) {
    http(at, &format!("GET {POLLING}&sid={id}"), "").await
}

fn assert_unknown(answer: &(u16, String)) {
    let is_unknown = answer.0 == 400 && answer.1.starts_with(r#"{"code":1,"message":"Session ID "#);
    assert!(is_unknown, "{answer:?}");
}

fn tag(cluster: &Cluster) -> ServerTag {
    cluster.relay().unwrap().tag()
}

/// An id that nobody has given out, of this server.
fn forged(tag: ServerTag) -> String {
    format!("forged-forged-{}", tag.as_str())
}

/// A server of the cluster that a test plays itself: where its sessions' requests come, and the id
/// of one.
async fn played(servers: &Servers) -> (TcpListener, String) {
    let (listener, at) = listener().await;
    let broker = servers.hub.broker();
    let cluster = Cluster::builder(broker).advertise(url(at)).start();
    let last = servers.clusters.last().unwrap();
    until("the new server", || last.servers().contains(cluster.node())).await;
    let id = forged(tag(&cluster));
    // It is there as long as the test.
    std::mem::forget(cluster);
    (listener, id)
}

/// What comes on this connection until it pauses.
async fn heard(stream: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    let first = within("what is sent", stream.read_buf(&mut heard)).await;
    assert!(first.unwrap() > 0, "nothing is sent");
    let pause = Duration::from_millis(200);
    while let Ok(read) = tokio::time::timeout(pause, stream.read_buf(&mut heard)).await {
        if read.unwrap() == 0 {
            break;
        }
    }
    String::from_utf8(heard).unwrap()
}

#[tokio::test]
async fn each_request_of_a_polling_session_may_come_to_any_server() {
    let Servers { clusters, at, .. } = servers::<3>(builder).await;
    let id = open(at[0], POLLING).await;
    assert_eq!(post(at[1], &id, "40").await, (200, "ok".to_owned()));
    let (status, connected) = poll(at[2], &id).await;
    assert!(status == 200 && connected.starts_with("40{"), "{connected}");
    let answer = tokio::spawn(async move { poll(at[1], &id).await });
    until("the poll", || clusters[1].stats().passed_on > 0).await;
    assert!(!answer.is_finished(), "it waits for the ping");
    assert_eq!(clusters[0].stats().passed_on, 0);
    assert_eq!(clusters[2].stats().passed_on, 1);
    answer.abort();
}

#[tokio::test]
async fn what_is_emitted_ends_a_poll_that_waits_at_another_server() {
    let Servers { servers, at, .. } = servers::<2>(builder).await;
    let id = open(at[0], POLLING).await;
    post(at[1], &id, "40").await;
    poll(at[1], &id).await;
    let waits = tokio::spawn({
        let (at, id) = (at[1], id.clone());
        async move { poll(at, &id).await }
    });
    servers[1].emit("news", "of the other server");
    let expected = r#"42["news","of the other server"]"#;
    assert_eq!(waits.await.unwrap(), (200, expected.to_owned()));
    let attachment = "451-1[\"echo\",{\"_placeholder\":true,\"num\":0}]\u{1e}bAAEC";
    post(at[1], &id, attachment).await;
    let (_, echo) = poll(at[1], &id).await;
    assert_eq!(echo, "461-1[{\"_placeholder\":true,\"num\":0}]\u{1e}bAAEC");
}

#[tokio::test]
async fn an_upgrade_at_another_server_is_a_tunnel() {
    let Servers { servers, at, .. } = servers::<2>(builder).await;
    let id = open(at[0], POLLING).await;
    let path = format!("/socket.io/?EIO=4&transport=websocket&sid={id}");
    let mut client = WebSocket::connect(at[1], &path).await;
    client.send("2probe").await;
    client.expect("3probe").await;
    client.send("5").await;
    client.send("40").await;
    client.expect_prefix("40{").await;
    client.send(r#"421["echo","é"]"#).await;
    client.expect(r#"431["é"]"#).await;
    let large = vec![7; 1_000_000];
    let head = r#"451-2["echo",{"_placeholder":true,"num":0}]"#;
    client.send(head).await;
    client.send_frame(Opcode::Binary, &large).await;
    client
        .expect(r#"461-2[{"_placeholder":true,"num":0}]"#)
        .await;
    assert_eq!(client.next().await, Received::Binary(large));
    servers[0].close().await;
    assert!(matches!(client.next().await, Received::Closed(_)));
}

#[tokio::test]
async fn a_client_that_hangs_up_its_tunnel_has_left() {
    let Servers { servers, at, .. } = servers::<2>(builder).await;
    let id = open(at[0], POLLING).await;
    let path = format!("/socket.io/?EIO=4&transport=websocket&sid={id}");
    let mut client = WebSocket::connect(at[1], &path).await;
    client.send_together(&["2probe", "5"]).await;
    client.expect("3probe").await;
    client.send("40").await;
    client.expect_prefix("40{").await;
    assert_eq!(servers[0].engine().sessions_count(), 1);
    drop(client);
    until("the end", || servers[0].engine().sessions_count() == 0).await;
}

#[tokio::test]
async fn streams_and_their_posts_may_come_to_any_server() {
    let Servers { servers, at, .. } = servers::<3>(builder).await;
    let path = "/socket.io/?EIO=4&transport=streaming";
    let mut first = Stream::open(at[0], path).await;
    first.expect("id: 0").await;
    let id = sid(&first.event().await.unwrap()).to_owned();
    drop(first);
    let with = format!("{path}&sid={id}&antiphon-offset=1");
    let mut stream = Stream::open(at[1], &with).await;
    stream.expect("id: 1").await;
    let posted = http(at[2], &format!("POST {path}&sid={id}"), "40").await;
    assert_eq!(posted, (200, "ok".to_owned()));
    let connected = stream.event().await.unwrap();
    assert!(connected.contains("40{"), "{connected}");
    servers[2].emit("news", 7);
    let news = stream.event().await.unwrap();
    assert!(news.contains(r#"42["news",7]"#), "{news}");
    let head = stream.head;
    assert!(
        head.contains("\r\ncontent-type: text/event-stream"),
        "{head}"
    );
}

#[tokio::test]
async fn revision_3_and_jsonp_go_the_same_way() {
    let Servers { at, .. } = servers::<2>(builder).await;
    let polling = "/socket.io/?EIO=3&transport=polling";
    let id = open(at[0], polling).await;
    let (_, welcome) = http(at[1], &format!("GET {polling}&sid={id}&b64=1"), "").await;
    assert_eq!(welcome, "2:40");
    let event = r#"421["echo",7]"#;
    let body = format!("{}:{event}", event.len());
    let posted = http(at[1], &format!("POST {polling}&sid={id}"), &body).await;
    assert_eq!(posted, (200, "ok".to_owned()));
    // A script says of which page it is.
    let jsonp = format!("GET {polling}&sid={id}&j=0 HTTP/1.1\r\nReferer: http://test/\r\nX: y");
    let (status, script) = http(at[1], &jsonp, "").await;
    assert!(
        status == 200 && script.starts_with("___eio[0]("),
        "{script}"
    );
    assert!(script.contains(r#"431[7]"#), "{script}");
}

#[tokio::test]
async fn a_request_is_passed_on_once() {
    let servers = servers::<2>(builder).await;
    let id = open(servers.at[0], POLLING).await;
    let marked = format!("GET {POLLING}&sid={id} HTTP/1.1\r\nAntiphon-Passed-On: 1\r\nX: y");
    assert_unknown(&http(servers.at[1], &marked, "").await);
    // Somebody advertises the address of another.
    let broker = servers.hub.broker();
    let liar = Cluster::builder(broker)
        .advertise(url(servers.at[0]))
        .start();
    for other in &servers.clusters {
        until("the liar", || other.servers().len() == 3).await;
    }
    let loops = within("no loop", poll(servers.at[1], &forged(tag(&liar)))).await;
    assert_unknown(&loops);
    assert_eq!(servers.clusters[0].stats().passed_on, 0);
}

#[tokio::test]
async fn forged_ids_are_unknown_sessions() {
    let Servers { clusters, at, .. } = servers::<2>(builder).await;
    let nobody = ServerTag::from_hash(7);
    for id in [
        forged(nobody),
        forged(tag(&clusters[0])),
        forged(tag(&clusters[1])),
        "short".to_owned(),
        "x".repeat(2_000),
        "%0d%0aX:%20y".to_owned(),
    ] {
        assert_unknown(&poll(at[1], &id).await);
    }
    // One of them has been asked for.
    assert_eq!(clusters[1].stats().passed_on, 1);
    assert_eq!(clusters[1].stats().not_passed_on, 1);
}

#[tokio::test]
async fn sessions_of_a_server_that_is_gone_are_unknown() {
    let servers = servers::<2>(builder).await;
    let id = open(servers.at[0], POLLING).await;
    servers.servers[0].close().await;
    until("its end", || servers.clusters[1].servers().len() == 1).await;
    assert_unknown(&poll(servers.at[1], &id).await);
    // Nobody listens any more, and it hasn't said so.
    let (listener, id) = played(&servers).await;
    drop(listener);
    assert_unknown(&poll(servers.at[1], &id).await);
    let path = format!("/socket.io/?EIO=4&transport=websocket&sid={id}");
    let stream = TcpStream::connect(servers.at[1]).await.unwrap();
    let refused = WebSocket::try_offering(stream, &path, "").await.err();
    let refused = refused.unwrap().to_string();
    assert!(refused.contains("HTTP/1.1 400"), "{refused}");
}

#[tokio::test]
async fn a_server_without_an_address_keeps_its_clients_to_itself() {
    let servers = servers::<1>(builder).await;
    let cluster = Cluster::new(servers.hub.broker());
    until("both", || servers.clusters[0].servers().len() == 2).await;
    assert_unknown(&poll(servers.at[0], &forged(tag(&cluster))).await);
}

#[tokio::test]
async fn an_owner_that_does_not_answer_is_given_up() {
    let servers = servers::<1>(hasty).await;
    let (_listener, id) = played(&servers).await;
    let begun = Instant::now();
    assert_unknown(&poll(servers.at[0], &id).await);
    assert!(begun.elapsed() >= Duration::from_millis(600));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    let servers = servers::<1>(hasty).await;
    let (listener, id) = played(&servers).await;
    for head in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let owner = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            heard(&mut stream).await;
            let part = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\n42[\"x\"\r\n");
            stream.write_all(part.as_bytes()).await.unwrap();
        };
        let request = format!("GET {POLLING}&sid={id}");
        let client = async {
            let stream = TcpStream::connect(servers.at[0]).await.unwrap();
            let mut stream = stream;
            let head = format!("{request} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            let _ = within("the end", stream.read_to_string(&mut answer)).await;
            answer
        };
        let (answer, ()) = tokio::join!(client, owner);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let is_whole = answer.ends_with("\r\n0\r\n\r\n") || !answer.contains("42[");
        assert!(!is_whole, "{answer}");
    }
    let owner = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        heard(&mut stream).await;
    };
    let (answer, ()) = tokio::join!(poll(servers.at[0], &id), owner);
    assert_unknown(&answer);
}

#[tokio::test]
async fn large_posts_pass_and_too_large_ones_are_refused_by_their_server() {
    let Servers { at, .. } = servers::<2>(builder).await;
    let id = open(at[0], POLLING).await;
    post(at[1], &id, "40").await;
    poll(at[1], &id).await;
    let large = "x".repeat(1 << 20);
    let event = format!(r#"421["echo","{large}"]"#);
    assert_eq!(post(at[1], &id, &event).await, (200, "ok".to_owned()));
    let (_, echo) = poll(at[1], &id).await;
    assert_eq!(echo, format!(r#"431["{large}"]"#));
    let (status, refusal) = post(at[1], &id, &"x".repeat(3 << 20)).await;
    assert_eq!(status, 413, "{refusal}");
}

/// What the owner of a session is sent if a client sends this, and 204 is answered.
async fn sent(servers: &Servers, request: &str) -> String {
    let (listener, id) = played(servers).await;
    let mut client = TcpStream::connect(servers.at[0]).await.unwrap();
    let request = request.replace("ID", &id);
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut owner, _) = within("the owner", listener.accept()).await.unwrap();
    let heard = heard(&mut owner).await;
    let answer =
        b"HTTP/1.1 204 No Content\r\nConnection: x-inner\r\nX-Inner: 1\r\nX-Outer: 2\r\n\r\n";
    owner.write_all(answer).await.unwrap();
    let mut head = [0; 1_024];
    let read = within("the answer", client.read(&mut head)).await.unwrap();
    let head = String::from_utf8_lossy(&head[..read]).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 204"), "{head}");
    assert!(
        head.contains("x-outer: 2") && !head.contains("x-inner"),
        "{head}"
    );
    heard.to_ascii_lowercase()
}

#[tokio::test]
async fn headers_of_a_connection_stay_with_it() {
    let servers = servers::<1>(builder).await;
    let heard = sent(
        &servers,
        "GET /socket.io/?EIO=4&transport=polling&sid=ID HTTP/1.1\r\nHost: outer:1\r\n\
         Connection: keep-alive, x-mine, antiphon-passed-on\r\nKeep-Alive: timeout=5\r\n\
         X-Mine: 1\r\nX-Yours: 2\r\nTE: trailers\r\nProxy-Authorization: x\r\n\
         Upgrade: h2c\r\nExpect: 100-continue\r\nX-Forwarded-For: 10.9.8.7\r\nCookie: a=b\r\n\r\n",
    )
    .await;
    for there in [
        "\r\nhost: outer:1\r\n",
        "\r\nx-yours: 2\r\n",
        "\r\ncookie: a=b\r\n",
        "\r\nx-forwarded-for: 10.9.8.7\r\nx-forwarded-for: 127.0.0.1\r\n",
        "\r\nantiphon-passed-on: 1\r\n",
    ] {
        assert!(heard.contains(there), "{there} in {heard}");
    }
    for gone in [
        "connection:",
        "keep-alive",
        "x-mine",
        "\r\nte:",
        "proxy-",
        "upgrade:",
        "expect:",
        "content-length",
        "transfer-encoding",
    ] {
        assert!(!heard.contains(gone), "{gone} in {heard}");
    }
}

#[tokio::test]
async fn a_body_has_one_end() {
    let servers = servers::<1>(builder).await;
    let inner = "GET /inner HTTP/1.1\r\nHost: x\r\n\r\n";
    let chunk = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
    let heard = sent(
        &servers,
        &format!(
            "POST /socket.io/?EIO=4&transport=polling&sid=ID HTTP/1.1\r\nHost: x\r\n\
             Transfer-Encoding: chunked\r\n\r\n{chunk}"
        ),
    )
    .await;
    let (head, body) = heard.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
    assert_eq!(body, chunk.to_ascii_lowercase());
    let heard = sent(
        &servers,
        &format!(
            "POST /socket.io/?EIO=4&transport=polling&sid=ID HTTP/1.1\r\nHost: x\r\n\
             Connection: content-length\r\nContent-Length: {}\r\n\r\n{inner}",
            inner.len()
        ),
    )
    .await;
    let (head, body) = heard.split_once("\r\n\r\n").unwrap();
    let length = format!("content-length: {}", inner.len());
    assert_eq!(head.matches("content-length").count(), 1, "{head}");
    assert!(head.contains(&length), "{head}");
    assert_eq!(body, inner.to_ascii_lowercase());
}

#[tokio::test]
async fn a_body_goes_no_faster_than_its_server_takes_it() {
    let servers = servers::<1>(builder).await;
    let (listener, id) = played(&servers).await;
    let mut client = TcpStream::connect(servers.at[0]).await.unwrap();
    let head = format!(
        "POST {POLLING}&sid={id} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let _owner = within("the owner", listener.accept()).await.unwrap();
    let (piece, mut written) = (vec![0; 65_536], 0);
    let pause = Duration::from_millis(500);
    while let Ok(count) = tokio::time::timeout(pause, client.write(&piece)).await {
        written += count.unwrap();
        assert!(written < 64 << 20, "nobody reads it, and all is taken");
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_its_poll_hangs_up_at_the_owner() {
    let servers = servers::<1>(builder).await;
    let (listener, id) = played(&servers).await;
    let mut client = TcpStream::connect(servers.at[0]).await.unwrap();
    let head = format!("GET {POLLING}&sid={id} HTTP/1.1\r\nHost: x\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    let (mut owner, _) = within("the owner", listener.accept()).await.unwrap();
    assert!(heard(&mut owner).await.starts_with("GET "));
    drop(client);
    let read = within("the end", owner.read(&mut [0; 16])).await;
    assert_eq!(read.unwrap_or(0), 0);
}

#[tokio::test]
async fn connections_between_servers_are_used_again() {
    let servers = servers::<1>(builder).await;
    let (listener, id) = played(&servers).await;
    let accepted = Arc::new(Mutex::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            *count.lock().unwrap() += 1;
            tokio::spawn(async move {
                let mut read = Vec::new();
                while stream.read_buf(&mut read).await.unwrap_or(0) > 0 {
                    if read.ends_with(b"\r\n\r\n") {
                        read.clear();
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n6";
                        stream.write_all(answer).await.unwrap();
                    }
                }
            });
        }
    });
    for _ in 0..10 {
        assert_eq!(poll(servers.at[0], &id).await, (200, "6".to_owned()));
    }
    assert_eq!(*accepted.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_router_of_axum_passes_on_and_takes_too() {
    let hub = Hub::new();
    let mut at = Vec::new();
    let mut clusters = Vec::new();
    for _ in 0..2 {
        let (listener, address) = listener().await;
        let cluster = Cluster::builder(hub.broker())
            .advertise(url(address))
            .start();
        let io = builder().adapter(cluster.clone()).build();
        io.of("/").on("echo", async |args: Args| args);
        tokio::spawn(async move { axum::serve(listener, io.router::<()>()).await.unwrap() });
        at.push(address);
        clusters.push(cluster);
    }
    for cluster in &clusters {
        until("both servers", || cluster.servers().len() == 2).await;
    }
    let id = open(at[0], POLLING).await;
    let path = format!("/socket.io/?EIO=4&transport=websocket&sid={id}");
    let mut client = WebSocket::connect(at[1], &path).await;
    client.send("2probe").await;
    client.expect("3probe").await;
    client.send("5").await;
    client.send("40").await;
    client.expect_prefix("40{").await;
    client.send(r#"421["echo",1]"#).await;
    client.expect("431[1]").await;
    let id = open(at[0], POLLING).await;
    assert_eq!(post(at[1], &id, "40").await.0, 200);
    assert!(poll(at[1], &id).await.1.starts_with("40{"));
}
