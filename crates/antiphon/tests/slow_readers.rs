//! A client that reads as fast as it can is never cut, however much is emitted at once; one that
//! takes nothing is. What becomes of messages in between is what their policy says.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::Write,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use antiphon::{
    Bytes, Data, EmitError, QueueLimits, QueuePolicy, Server, ServerBuilder, Socket, TransportKind,
};
use socket2::SockRef;
use support::{
    Log, Received, WEBSOCKET, WebSocket, http, listener, serve, serve_on, sid, stream::Stream,
    until, within,
};
use tokio::{io::AsyncReadExt as _, net::TcpStream};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const STREAMING: &str = "/socket.io/?EIO=4&transport=streaming";

/// Limits that a few messages exceed.
const FEW: QueueLimits = QueueLimits::new().packets(6).burst(20);

fn all_transports() -> ServerBuilder {
    use TransportKind::{Polling, Streaming, WebSocket};
    Server::builder().transports([Polling, Streaming, WebSocket])
}

/// A client that polls: its path.
async fn polling(address: SocketAddr) -> String {
    let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
    let path = format!("{POLLING}&sid={}", sid(&open));
    http(address, &format!("POST {path}"), "40").await;
    let joined = poll(address, &path).await;
    assert!(joined[0].starts_with("40{"), "{joined:?}");
    path
}

async fn poll(address: SocketAddr, path: &str) -> Vec<String> {
    let (status, body) = http(address, &format!("GET {path}"), "").await;
    assert_eq!(status, 200, "{body}");
    body.split('\x1e').map(str::to_owned).collect()
}

async fn websocket(address: SocketAddr) -> WebSocket<TcpStream> {
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    client
}

/// How rows are emitted to a socket that asks for them.
const WAYS: &[&str] = &["handler", "task", "room"];

/// Emits rows of a size in one go: in the handler, in a task of its own, or to a room.
fn rows(io: &Server) {
    io.of("/")
        .on_connect(async |socket: Socket| socket.join("readers"));
    io.of("/").on(
        "rows",
        async |io: Server,
               socket: Socket,
               Data((way, count, size)): Data<(String, usize, usize)>| {
            let rows = (0..count).map(move |number| (number, "x".repeat(size)));
            match &*way {
                "handler" => rows.for_each(|row| drop(socket.emit("row", row))),
                "room" => rows.for_each(|row| drop(io.to("readers").emit("row", row))),
                _ => drop(tokio::spawn(async move {
                    rows.for_each(|row| drop(socket.emit("row", row)));
                })),
            }
        },
    );
}

fn row(number: usize, size: usize) -> String {
    format!("42[\"row\",{number},\"{}\"]", "x".repeat(size))
}

async fn reads_by_polling(address: SocketAddr, request: &str, count: usize, size: usize) {
    let path = polling(address).await;
    http(address, &format!("POST {path}"), request).await;
    let mut number = 0;
    while number < count {
        for packet in poll(address, &path).await {
            assert!(packet == row(number, size), "row {number} of {count}");
            number += 1;
        }
    }
}

async fn reads_by_websocket(address: SocketAddr, request: &str, count: usize, size: usize) {
    let mut client = websocket(address).await;
    client.send(request).await;
    for number in 0..count {
        let came = client.next().await;
        assert!(
            came == Received::Text(row(number, size)),
            "row {number} of {count}"
        );
    }
}

async fn reads_by_streaming(address: SocketAddr, request: &str, count: usize, size: usize) {
    let mut stream = Stream::open(address, STREAMING).await;
    stream.expect("id: 0").await;
    let open = stream.event().await.unwrap();
    let path = format!("{STREAMING}&sid={}", sid(&open));
    http(address, &format!("POST {path}"), "40").await;
    stream.event().await.unwrap();
    http(address, &format!("POST {path}"), request).await;
    // The packet that opens the session is one, the one that lets it in another.
    let (mut number, mut had) = (0, 2);
    while number < count {
        let Some(event) = stream.event().await else {
            let resume = format!("{path}&antiphon-offset={had}");
            stream = Stream::open(address, &resume).await;
            stream.expect(&format!("id: {had}")).await;
            continue;
        };
        let expected = format!("data: {}", row(number, size));
        assert!(event == expected, "row {number} of {count}");
        (number, had) = (number + 1, had + 1);
    }
}

/// Nothing of a burst is lost on any transport.
async fn a_burst_arrives(ways: &[&str], count: usize, size: usize) {
    for way in ways {
        // A server each: a room is for one reader here.
        let served = async || {
            // No heartbeat comes between the rows, however long they take.
            let quiet = all_transports().ping_interval(Duration::from_secs(3_600));
            // So that few rows are too many: to write them takes a test's build long, and nothing is read then.
            let io = quiet.outbound(QueueLimits::new().bytes(4 << 20)).build();
            rows(&io);
            let address = serve(&io).await;
            (io, address)
        };
        let request = format!(r#"42["rows","{way}",{count},{size}]"#);
        let (polled, address) = served().await;
        reads_by_polling(address, &request, count, size).await;
        let (written, address) = served().await;
        reads_by_websocket(address, &request, count, size).await;
        let (streamed, address) = served().await;
        reads_by_streaming(address, &request, count, size).await;
        for io in [polled, written, streamed] {
            assert_eq!(io.stats().slow_readers_closed, 0, "{way}");
        }
    }
}

#[tokio::test]
async fn a_burst_of_many_rows_arrives() {
    a_burst_arrives(WAYS, 20_000, 10).await;
}

#[tokio::test]
async fn a_burst_of_large_rows_arrives() {
    a_burst_arrives(&WAYS[..1], 100, 100_000).await;
}

/// Limits that are exceeded at once, a network that holds little, and 5 s for who is behind: a busy machine
/// takes some of them.
async fn impatient() -> (Server, SocketAddr, Log) {
    let io = Server::builder()
        .outbound(QueueLimits::new().bytes(64 << 10).burst(1_000))
        .ping_timeout(Duration::from_secs(5))
        .build();
    rows(&io);
    let log = Log::default();
    let left = log.clone();
    io.of("/").on_disconnect(move || {
        left.note("left");
        async {}
    });
    let (listener, address) = listener().await;
    SockRef::from(&listener)
        .set_send_buffer_size(16 << 10)
        .unwrap();
    drop(serve_on(&io, listener));
    (io, address, log)
}

#[tokio::test]
async fn a_reader_that_takes_little_by_little_is_kept() {
    let (io, address, log) = impatient().await;
    let mut client = websocket(address).await;
    client.send(r#"42["rows","handler",800,10000]"#).await;
    // More than twice as long as one that takes nothing has.
    for _ in 0..25 {
        tokio::time::sleep(Duration::from_millis(450)).await;
        let mut part = vec![0; 100_000];
        within("a part", client.stream().read_exact(&mut part))
            .await
            .unwrap();
    }
    assert_eq!(io.stats().slow_readers_closed, 0);
    assert_eq!(log.seen(), [""; 0]);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut() {
    let (io, address, log) = impatient().await;
    let mut client = websocket(address).await;
    client.send(r#"42["rows","handler",800,10000]"#).await;
    let path = polling(address).await;
    http(
        address,
        &format!("POST {path}"),
        r#"42["rows","handler",80,10000]"#,
    )
    .await;
    until("the end of both", || io.stats().slow_readers_closed == 2).await;
    log.until("left").await;
}

#[tokio::test]
async fn a_client_between_two_polls_has_its_time() {
    let (io, address, _) = impatient().await;
    let path = polling(address).await;
    for _ in 0..3 {
        http(
            address,
            &format!("POST {path}"),
            r#"42["rows","handler",80,10000]"#,
        )
        .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(poll(address, &path).await.len(), 80);
    }
    assert_eq!(io.stats().slow_readers_closed, 0);
}

#[tokio::test]
async fn a_burst_has_a_bound() {
    let io = Server::builder()
        .outbound(QueueLimits::new().packets(100).burst(10))
        .build();
    rows(&io);
    let address = serve(&io).await;
    let path = polling(address).await;
    http(
        address,
        &format!("POST {path}"),
        r#"42["rows","task",1001,1]"#,
    )
    .await;
    until("the cut", || io.stats().slow_readers_closed == 1).await;
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_says_what_to_do() {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone());
    let _logs = tracing::subscriber::set_default(subscriber.finish());
    let io = Server::builder()
        .outbound(QueueLimits::new().packets(100).burst(1))
        .build();
    rows(&io);
    let address = serve(&io).await;
    let path = polling(address).await;
    http(
        address,
        &format!("POST {path}"),
        r#"42["rows","handler",101,1]"#,
    )
    .await;
    let logged = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    for part in [
        "WARN",
        "reads too slowly",
        "100 packets",
        "ready()",
        "drop_oldest",
        "outbound",
    ] {
        assert!(logged.contains(part), "{part} in {logged}");
    }
}

/// Emits megabytes to a client that polls later.
async fn owes(address: SocketAddr, megabytes: usize) -> String {
    let path = polling(address).await;
    let request = format!(r#"42["rows","handler",{megabytes},1000000]"#);
    http(address, &format!("POST {path}"), &request).await;
    path
}

#[tokio::test]
async fn the_worst_is_cut_where_too_much_waits_for_all() {
    let io = Server::builder().outbound_budget(8 << 20).build();
    rows(&io);
    let address = serve(&io).await;
    let mut paths = Vec::new();
    for megabytes in [4, 1, 7] {
        paths.push(owes(address, megabytes).await);
    }
    until("the cut", || io.stats().sessions_shed > 0).await;
    for (path, rows) in paths.iter().zip([4, 1]) {
        assert_eq!(poll(address, path).await.len(), rows);
    }
    let (status, _) = http(address, &format!("GET {}", paths[2]), "").await;
    assert_eq!(status, 400);
    let stats = io.stats();
    assert_eq!((stats.sessions_shed, stats.slow_readers_closed), (1, 1));
    // There is room again.
    let path = owes(address, 7).await;
    assert_eq!(poll(address, &path).await.len(), 7);
}

#[tokio::test]
async fn many_clients_with_little_each_are_seen_too() {
    let io = Server::builder().outbound_budget(2 << 20).build();
    let address = serve(&io).await;
    for _ in 0..40 {
        polling(address).await;
    }
    for socket in io.of("/").sockets() {
        socket.emit("own", "x".repeat(100_000));
    }
    // 4 MB wait, of which half may.
    until("the cuts", || io.stats().sessions_shed >= 20).await;
    assert!(
        io.stats().sessions_shed < 30,
        "{}",
        io.stats().sessions_shed
    );
}

#[tokio::test]
async fn what_waits_for_many_counts_once() {
    let io = Server::builder().outbound_budget(8 << 20).build();
    let address = serve(&io).await;
    let mut paths = Vec::new();
    for _ in 0..20 {
        paths.push(polling(address).await);
    }
    io.emit("news", "x".repeat(1_000_000));
    // Some close looks.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for path in paths {
        assert!(poll(address, &path).await[0].starts_with(r#"42["news""#));
    }
    assert_eq!(io.stats().sessions_shed, 0);
}

/// Emits `count` events in one go, each with its number and an attachment.
fn pairs(io: &Server, emit: impl Fn(&Socket, usize) + Copy + Send + Sync + 'static) {
    io.of("/")
        .on("pairs", move |socket: Socket, Data(count): Data<usize>| {
            (0..count).for_each(|number| emit(&socket, number));
            std::future::ready(())
        });
}

fn attached(number: usize) -> (usize, Bytes) {
    (number, Bytes::from(vec![u8::try_from(number).unwrap()]))
}

/// The numbers of the events that a client which polls later gets, whole ones all of them.
async fn numbers(io: &Server, count: usize) -> Vec<u8> {
    let address = serve(io).await;
    let path = polling(address).await;
    http(
        address,
        &format!("POST {path}"),
        &format!(r#"42["pairs",{count}]"#),
    )
    .await;
    let packets = poll(address, &path).await;
    let (pairs, rest) = packets.as_chunks::<2>();
    assert_eq!(rest, [""; 0], "half a message");
    let number = |[event, attachment]: &[String; 2]| {
        let (_, number) = event.split_once(r#"451-["n","#).unwrap();
        let number: u8 = number.split(',').next().unwrap().parse().unwrap();
        let expected = ["bAA==", "bAQ==", "bAg==", "bAw==", "bBA==", "bBQ=="];
        assert_eq!(attachment, expected[usize::from(number)]);
        number
    };
    pairs.iter().map(number).collect()
}

#[tokio::test]
async fn of_many_events_the_newest_are_dropped() {
    let io = Server::builder().outbound(FEW).build();
    pairs(&io, |socket, number| {
        drop(socket.drop_newest().emit("n", attached(number)));
    });
    assert_eq!(numbers(&io, 6).await, [0, 1, 2]);
    assert_eq!(io.stats().messages_dropped, 3);
}

#[tokio::test]
async fn of_many_events_the_oldest_are_dropped() {
    let io = Server::builder().outbound(FEW).build();
    pairs(&io, |socket, number| {
        drop(socket.drop_oldest().emit("n", attached(number)));
    });
    assert_eq!(numbers(&io, 6).await, [3, 4, 5]);
    assert_eq!(io.stats().messages_dropped, 3);
}

#[tokio::test]
async fn of_each_key_the_newest_waits_also_where_there_is_room() {
    let io = Server::new();
    pairs(&io, |socket, number| {
        let key = if number % 2 == 0 { "even" } else { "odd" };
        socket.conflate(key).emit("n", attached(number));
    });
    assert_eq!(numbers(&io, 6).await, [4, 5]);
    assert_eq!(io.stats().messages_conflated, 4);
}

#[tokio::test]
async fn rooms_and_namespaces_have_policies_too() {
    let io = Server::builder().outbound(FEW).build();
    pairs(&io, |socket, number| {
        let own = socket.namespace().to(socket.id());
        drop(own.conflate("key").emit("n", attached(number)));
    });
    assert_eq!(numbers(&io, 4).await, [3]);

    let io = Server::builder().outbound(FEW).build();
    io.of("/").queue_policy(QueuePolicy::DropOldest);
    pairs(&io, |socket, number| match number % 2 {
        0 => drop(socket.emit("n", attached(number))),
        _ => drop(socket.namespace().broadcast().emit("n", attached(number))),
    });
    assert_eq!(numbers(&io, 5).await, [2, 3, 4]);
}

/// A key is a namespace's own.
#[tokio::test]
async fn one_namespace_replaces_nothing_of_another() {
    let io = Server::new();
    let _ = io.of("/other");
    io.of("/").on("go", async |io: Server| {
        for name in ["/", "/other"] {
            io.of(name).broadcast().conflate("key").emit("n", name);
        }
    });
    let address = serve(&io).await;
    let path = polling(address).await;
    http(address, &format!("POST {path}"), "40/other,").await;
    poll(address, &path).await;
    http(address, &format!("POST {path}"), r#"42["go"]"#).await;
    let came = poll(address, &path).await;
    assert_eq!(came, [r#"42["n","/"]"#, r#"42/other,["n","/other"]"#]);
}

/// The client is in two children: what is the newest in one isn't that of the other.
#[tokio::test]
async fn what_a_parent_emits_is_replaced_in_each_child_by_itself() {
    let io = Server::new();
    let rooms = io.of_pattern("/room-{id}");
    io.of("/").on("go", move || {
        for number in 0..3 {
            drop(rooms.broadcast().conflate("key").emit("n", number));
        }
    });
    let address = serve(&io).await;
    let path = polling(address).await;
    for room in ["40/room-1,", "40/room-2,"] {
        http(address, &format!("POST {path}"), room).await;
        poll(address, &path).await;
    }
    http(address, &format!("POST {path}"), r#"42["go"]"#).await;
    let mut came = poll(address, &path).await;
    came.sort();
    assert_eq!(came, [r#"42/room-1,["n",2]"#, r#"42/room-2,["n",2]"#]);
}

/// Emits 10 MB of states, one by one, to a client that reads none of them meanwhile: how many old
/// ones it gets when it reads again, before the present one.
async fn old_states(address: SocketAddr, emit: impl Fn(usize)) -> usize {
    const STATES: usize = 10_000;
    let mut client = websocket(address).await;
    for number in 0..STATES {
        emit(number);
        tokio::task::yield_now().await;
    }
    let mut old = 0;
    loop {
        let state = client.expect_prefix(r#"42["state","#).await;
        let state = state.trim_start_matches(r#"42["state","#);
        let number: usize = state.split(',').next().unwrap().parse().unwrap();
        if number + 1 >= STATES {
            return old;
        }
        old += 1;
        // What is volatile comes again with the next state, once the client takes more.
        emit(STATES);
    }
}

/// The states are 1,000 bytes each. Without its bound the kernel takes some 4 MB of them.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_client_that_paused_gets_few_old_states() {
    let io = Server::new();
    old_states_are_few(&io, serve(&io).await).await;
    // Under another HTTP server it is the same.
    #[cfg(feature = "axum")]
    {
        let io = Server::new();
        let (listener, address) = listener().await;
        tokio::spawn(axum::serve(listener, io.router()).into_future());
        old_states_are_few(&io, address).await;
    }
}

#[cfg(target_os = "linux")]
async fn old_states_are_few(io: &Server, address: SocketAddr) {
    let all = || io.of("/").broadcast();
    let state = |number| (number, "x".repeat(980));
    let volatile = old_states(address, |number| {
        drop(all().volatile().emit("state", state(number)));
    });
    let volatile = volatile.await;
    let conflated = |number| drop(all().conflate("key").emit("state", state(number)));
    let conflated = old_states(address, conflated).await;
    println!("old states: {volatile} volatile, {conflated} conflated");
    assert!(volatile < 1_000, "{volatile} volatile states were old");
    assert!(conflated < 1_000, "{conflated} conflated states were old");
}

#[tokio::test]
async fn a_handler_that_awaits_its_client_fills_no_queue() {
    const ROWS: usize = 300;
    let io = Server::builder()
        .outbound(QueueLimits::new().bytes(100_000).burst(2))
        .build();
    io.of("/").on("export", async |socket: Socket| {
        for number in 0..ROWS {
            socket.ready().await.unwrap();
            socket.emit("row", (number, "x".repeat(50_000)));
        }
    });
    let address = serve(&io).await;
    let request = r#"42["export"]"#;
    reads_by_websocket(address, request, ROWS, 50_000).await;
    reads_by_polling(address, request, ROWS, 50_000).await;
    assert_eq!(io.stats().slow_readers_closed, 0);
}

#[tokio::test]
async fn a_handler_that_awaits_a_client_that_goes_is_told() {
    let io = Server::builder().outbound(FEW).build();
    let log = Log::default();
    let noted = log.clone();
    io.of("/").on("export", move |socket: Socket| {
        let log = noted.clone();
        async move {
            for number in 0..100 {
                log.note("emits");
                socket.emit("row", number);
                if let Err(error) = socket.ready().await {
                    assert!(matches!(error, EmitError::Disconnected), "{error}");
                    log.note("told");
                    return;
                }
            }
        }
    });
    let address = serve(&io).await;
    let path = polling(address).await;
    http(address, &format!("POST {path}"), r#"42["export"]"#).await;
    until("seven rows", || log.seen().len() == 7).await;
    http(address, &format!("POST {path}"), "1").await;
    log.until("told").await;
}
