//! Streaming, polls that are asked again, and short polls, to the byte.

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

use antiphon::{Data, QueueLimits, Server, ServerBuilder, Socket, TransportKind};
use support::{Received, WEBSOCKET, WebSocket, http, serve, sid, stream::Stream, until, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const STREAMING: &str = "/socket.io/?EIO=4&transport=streaming";
const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

fn all() -> ServerBuilder {
    use TransportKind::{Polling, Streaming, WebSocket};
    Server::builder().transports([Polling, Streaming, WebSocket])
}

/// A server that echoes the event `echo`.
fn echo(builder: ServerBuilder) -> Server {
    let io = builder.build();
    io.of("/")
        .on("echo", async |socket: Socket, Data(text): Data<String>| {
            socket.emit("echo", text);
        });
    io
}

async fn post(address: SocketAddr, path: &str, body: &str) {
    let answered = http(address, &format!("POST {path}"), body).await;
    assert_eq!(answered, (200, "ok".to_owned()), "POST {body}");
}

/// Opens a session on streaming and joins the main namespace: its path, with two packets had.
async fn joined(address: SocketAddr) -> (Stream, String) {
    let mut stream = Stream::open(address, STREAMING).await;
    stream.expect("id: 0").await;
    let open = stream.event().await.unwrap();
    let path = format!(
        "{STREAMING}&sid={}",
        sid(open.strip_prefix("data: ").unwrap())
    );
    post(address, &path, "40").await;
    let joined = stream.event().await.unwrap();
    assert!(joined.starts_with("data: 40{\"sid\":"), "{joined}");
    (stream, path)
}

#[tokio::test]
async fn a_session_begins_with_a_stream() {
    let address = serve(&echo(all())).await;
    let mut stream = Stream::open(address, STREAMING).await;
    for line in [
        "http/1.1 200 ok\r\n",
        "content-type: text/event-stream; charset=utf-8\r\n",
        "cache-control: no-store, no-transform\r\n",
        "x-accel-buffering: no\r\n",
        "transfer-encoding: chunked\r\n",
    ] {
        assert!(stream.head.contains(line), "{line} in {}", stream.head);
    }
    stream.expect("id: 0").await;
    let open = stream.event().await.unwrap();
    assert!(open.contains(r#""upgrades":["websocket"]"#), "{open}");
}

#[tokio::test]
async fn messages_go_both_ways() {
    let address = serve(&echo(all())).await;
    let (mut stream, path) = joined(address).await;
    post(address, &path, "42[\"echo\",\"a\"]\u{1e}42[\"echo\",\"b\"]").await;
    stream.expect("data: 42[\"echo\",\"a\"]").await;
    stream.expect("data: 42[\"echo\",\"b\"]").await;
    post(address, &path, "1").await;
    stream.expect("data: 6").await;
    stream.expect_end().await;
    let (status, _) = http(address, &format!("POST {path}"), "40").await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_stream_that_was_cut_goes_on_where_the_client_says() {
    let address = serve(&echo(all())).await;
    for had in 2..=5 {
        let (mut stream, path) = joined(address).await;
        for text in ["a", "b", "c"] {
            post(address, &path, &format!("42[\"echo\",\"{text}\"]")).await;
            stream
                .expect(&format!("data: 42[\"echo\",\"{text}\"]"))
                .await;
        }
        drop(stream);
        post(address, &path, "42[\"echo\",\"d\"]").await;
        let mut stream = Stream::open(address, &format!("{path}&antiphon-offset={had}")).await;
        stream.expect(&format!("id: {had}")).await;
        for text in ["a", "b", "c", "d"].iter().skip(had - 2) {
            stream
                .expect(&format!("data: 42[\"echo\",\"{text}\"]"))
                .await;
        }
    }
}

#[tokio::test]
async fn a_newer_stream_takes_over() {
    let address = serve(&echo(all())).await;
    let (mut old, path) = joined(address).await;
    let mut new = Stream::open(address, &format!("{path}&antiphon-offset=2")).await;
    new.expect("id: 2").await;
    old.expect_end().await;
    post(address, &path, "42[\"echo\",\"a\"]").await;
    new.expect("data: 42[\"echo\",\"a\"]").await;
}

#[tokio::test]
async fn a_long_stream_ends_in_order_and_the_next_goes_on() {
    let address = serve(&echo(all().max_stream_bytes(1_000))).await;
    let (mut stream, path) = joined(address).await;
    let text = "x".repeat(900);
    let message = format!("42[\"echo\",\"{text}\"]");
    post(address, &path, &message).await;
    stream.expect(&format!("data: {message}")).await;
    stream.expect_end().await;
    post(address, &path, &message).await;
    let mut stream = Stream::open(address, &format!("{path}&antiphon-offset=3")).await;
    stream.expect("id: 3").await;
    stream.expect(&format!("data: {message}")).await;
}

#[tokio::test]
async fn a_reader_that_never_reads_hits_the_bound_of_its_queue() {
    let limits = QueueLimits::new().packets(1_000).bytes(1 << 20);
    let io = all().outbound(limits).build();
    let address = serve(&io).await;
    let (stream, _) = joined(address).await;
    let text = "x".repeat(10_000);
    within("the bound", async {
        while io.stats().slow_readers_closed == 0 {
            io.emit("much", &text);
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(io.stats().slow_readers_closed, 1);
    drop(stream);
}

#[tokio::test]
async fn a_client_that_never_confirms_hits_the_bound_too() {
    let limits = QueueLimits::new().packets(10).bytes(1 << 20).burst(1);
    let io = all().outbound(limits).build();
    let address = serve(&io).await;
    let (mut stream, path) = joined(address).await;
    // Half of the bound was sent: the stream ends, so that the client confirms.
    for _ in 0..4 {
        io.emit("x", ());
        stream.expect("data: 42[\"x\"]").await;
    }
    stream.expect_end().await;
    for _ in 0..5 {
        io.emit("x", ());
    }
    assert_eq!(io.stats().slow_readers_closed, 1);
    let (status, _) = http(address, &format!("GET {path}&antiphon-offset=2"), "").await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn offsets_and_numbers_that_make_no_sense_are_refused() {
    let address = serve(&echo(all())).await;
    for junk in [
        "antiphon-offset=x",
        "antiphon-offset=-1",
        "antiphon-offset=9007199254740993",
        "antiphon-offset=",
    ] {
        let (stream, path) = joined(address).await;
        let (status, error) = http(address, &format!("GET {path}&{junk}"), "").await;
        assert_eq!(status, 400);
        assert!(error.starts_with(r#"{"code":3,"#), "{junk}: {error}");
        drop(stream);
        // The session lives on: nothing was done.
        post(address, &path, "42[\"echo\",\"a\"]").await;
    }
    for wrong in [3, 1_000_000] {
        let (_stream, path) = joined(address).await;
        let (status, error) =
            http(address, &format!("GET {path}&antiphon-offset={wrong}"), "").await;
        assert_eq!(status, 400);
        assert!(error.contains("is not one of 0 to 2"), "{wrong}: {error}");
        let (status, error) = http(address, &format!("POST {path}"), "3").await;
        assert_eq!((status, &error[..9]), (400, "{\"code\":1"), "{error}");
    }
}

#[tokio::test]
async fn what_an_application_has_in_the_query_is_not_for_the_engine() {
    let address = serve(&echo(all())).await;
    let junk = ["0", "1m", "", "-1", "x", "9007199254740993", "%22", "60000"];
    for value in junk {
        // Its own names, and those of extensions, of which a stock client knows nothing.
        for prefix in ["", "antiphon-"] {
            let mut path = POLLING.to_owned();
            for name in ["wait", "interval", "post"] {
                path += &format!("&{prefix}{name}={value}");
            }
            if (prefix, value) != ("antiphon-", "0") {
                path += &format!("&{prefix}offset={value}");
            }
            let (status, open) = http(address, &format!("GET {path}"), "").await;
            assert_eq!(status, 200, "{path}: {open}");
            let path = format!("{path}&sid={}", sid(&open));
            post(address, &path, "40").await;
            let (status, joined) = http(address, &format!("GET {path}"), "").await;
            assert_eq!(status, 200, "{path}: {joined}");
            // Two POSTs with the same names are two, and each answer comes once.
            for text in ["a", "b"] {
                post(address, &path, &format!(r#"42["echo","{text}"]"#)).await;
                let (_, echoed) = http(address, &format!("GET {path}"), "").await;
                assert_eq!(echoed, format!(r#"42["echo","{text}"]"#), "{path}");
            }
        }
    }
}

#[tokio::test]
async fn streaming_is_for_revision_4_and_for_who_turned_it_on() {
    let address = serve(&echo(all())).await;
    let (status, error) = http(address, "GET /socket.io/?EIO=3&transport=streaming", "").await;
    assert_eq!((status, &error[..9]), (400, "{\"code\":0"));
    let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
    assert!(
        open.contains(r#""upgrades":["websocket","streaming"]"#),
        "{open}"
    );
    let (_, open) = http(address, "GET /socket.io/?EIO=3&transport=polling", "").await;
    assert!(open.contains(r#""upgrades":["websocket"]"#), "{open}");

    let address = serve(&echo(Server::builder())).await;
    let (status, error) = http(address, &format!("GET {STREAMING}"), "").await;
    assert_eq!((status, &error[..9]), (400, "{\"code\":0"));
    let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
    assert!(open.contains(r#""upgrades":["websocket"]"#), "{open}");
}

/// Opens a session by polling, with these parameters, and joins the main namespace: its id.
async fn polling(address: SocketAddr, parameters: &str) -> String {
    let (_, open) = http(address, &format!("GET {POLLING}{parameters}"), "").await;
    let sid = sid(&open).to_owned();
    post(address, &format!("{POLLING}&sid={sid}"), "40").await;
    sid
}

#[tokio::test]
async fn a_session_on_polling_moves_to_a_stream() {
    let address = serve(&echo(all())).await;
    let sid = polling(address, "&antiphon-offset=0").await;
    let mut stream = Stream::open(address, &format!("{STREAMING}&sid={sid}")).await;
    stream.expect(":").await;
    let path = format!("{STREAMING}&sid={sid}");
    post(address, &path, "2probe").await;
    stream.expect("data: 3probe").await;
    let poll = format!("GET {POLLING}&sid={sid}&antiphon-offset=1");
    let (_, joined) = http(address, &poll, "").await;
    assert!(joined.starts_with("40{"), "{joined}");
    // The next one is ended, so that the client can pause.
    let poll = format!("GET {POLLING}&sid={sid}&antiphon-offset=2");
    assert_eq!(http(address, &poll, "").await, (200, "6".to_owned()));
    // What follows in the same request is for the session already.
    post(address, &path, "5\u{1e}42[\"echo\",\"a\"]").await;
    stream.expect("id: 0").await;
    stream.expect("data: 42[\"echo\",\"a\"]").await;
    let (status, _) = http(address, &poll, "").await;
    assert_eq!(status, 400, "a poll of a session that streams");
    drop(stream);
    let mut stream = Stream::open(address, &format!("{path}&antiphon-offset=1")).await;
    stream.expect("id: 1").await;
    post(address, &path, "42[\"echo\",\"b\"]").await;
    stream.expect("data: 42[\"echo\",\"b\"]").await;
}

#[tokio::test]
async fn a_probe_that_fails_leaves_the_session_alone() {
    let io = echo(all());
    let address = serve(&io).await;
    let sid = polling(address, "").await;
    let path = format!("{STREAMING}&sid={sid}");
    // Without a stream there is nothing to probe.
    let (status, _) = http(address, &format!("POST {path}"), "2probe").await;
    assert_eq!(status, 400);
    for wrong in ["4hello", "2other", "\u{1e}"] {
        let mut stream = Stream::open(address, &path).await;
        stream.expect(":").await;
        let (status, _) = http(address, &format!("POST {path}"), wrong).await;
        assert_eq!(status, 400, "{wrong:?}");
        stream.expect_end().await;
    }
    // A second one ends the first, and a client that goes away the second.
    let mut first = Stream::open(address, &path).await;
    first.expect(":").await;
    let mut second = Stream::open(address, &path).await;
    second.expect(":").await;
    first.expect_end().await;
    drop(second);
    within("the end of the attempt", async {
        while http(address, &format!("POST {path}"), "2probe").await.0 == 200 {}
    })
    .await;
    let (_, joined) = http(address, &format!("GET {POLLING}&sid={sid}"), "").await;
    assert!(joined.starts_with("40{"), "{joined}");
    assert_eq!(io.stats().upgrades_completed, 0);
}

#[tokio::test]
async fn of_two_probes_the_first_that_is_completed_counts() {
    let address = serve(&echo(all())).await;
    let sid = polling(address, "").await;
    let path = format!("{STREAMING}&sid={sid}");
    let mut stream = Stream::open(address, &path).await;
    stream.expect(":").await;
    post(address, &path, "2probe").await;
    stream.expect("data: 3probe").await;
    let mut websocket = WebSocket::connect(address, &format!("{WEBSOCKET}&sid={sid}")).await;
    websocket.send("2probe").await;
    websocket.expect("3probe").await;
    websocket.send("5").await;
    stream.expect_end().await;
    let joined = websocket.next().await;
    assert!(matches!(joined, Received::Text(text) if text.starts_with("40{")));
    websocket.send("42[\"echo\",\"a\"]").await;
    websocket.expect("42[\"echo\",\"a\"]").await;
    // The second may have been on its way already: no error, but nothing goes by it either.
    let late = http(address, &format!("POST {path}"), "5").await;
    assert_eq!(late, (200, "ok".to_owned()));
    let (status, _) = http(address, &format!("POST {path}"), "42[\"echo\",\"b\"]").await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_probe_that_comes_second_while_its_body_is_on_the_way_is_no_error() {
    let address = serve(&echo(all())).await;
    let sid = polling(address, "").await;
    let path = format!("{STREAMING}&sid={sid}");
    let mut stream = Stream::open(address, &path).await;
    stream.expect(":").await;
    let mut post = TcpStream::connect(address).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\n2pro");
    post.write_all(head.as_bytes()).await.unwrap();
    let mut websocket = WebSocket::connect(address, &format!("{WEBSOCKET}&sid={sid}")).await;
    websocket.send("2probe").await;
    websocket.expect("3probe").await;
    websocket.send("5").await;
    stream.expect_end().await;
    post.write_all(b"be").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        let read = within("the answer", post.read_buf(&mut answer)).await;
        assert_ne!(read.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn a_session_on_streaming_moves_to_websocket() {
    let address = serve(&echo(all())).await;
    let (mut stream, path) = joined(address).await;
    let sid = path.split_once("sid=").unwrap().1;
    let mut websocket = WebSocket::connect(address, &format!("{WEBSOCKET}&sid={sid}")).await;
    websocket.send("2probe").await;
    websocket.expect("3probe").await;
    // The end of the stream tells the client that nothing is on its way any more.
    stream.expect_end().await;
    websocket.send("5").await;
    websocket.send("42[\"echo\",\"a\"]").await;
    websocket.expect("42[\"echo\",\"a\"]").await;
    let (status, _) = http(address, &format!("GET {path}&antiphon-offset=2"), "").await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_poll_that_was_cut_is_answered_again() {
    let address = serve(&echo(all())).await;
    let sid = polling(address, "&antiphon-offset=0").await;
    let path = format!("{POLLING}&sid={sid}");
    let (_, joined) = http(address, &format!("GET {path}&antiphon-offset=1"), "").await;
    assert_eq!(
        http(address, &format!("GET {path}&antiphon-offset=1"), "")
            .await
            .1,
        joined
    );
    // A client that goes away from its poll, and comes again.
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let poll = format!("GET {path}&antiphon-offset=2 HTTP/1.1\r\nHost: test\r\n\r\n");
    tcp.write_all(poll.as_bytes()).await.unwrap();
    drop(tcp);
    post(address, &path, "42[\"echo\",\"a\"]").await;
    let answered = http(address, &format!("GET {path}&antiphon-offset=2"), "").await;
    assert_eq!(answered, (200, "42[\"echo\",\"a\"]".to_owned()));
}

#[tokio::test]
async fn a_post_that_a_browser_repeats_is_handled_once() {
    let handled = Arc::new(AtomicUsize::new(0));
    let io = all().build();
    let count = Arc::clone(&handled);
    io.of("/").on("count", move || {
        let count = Arc::clone(&count);
        async move {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let address = serve(&io).await;
    let (_stream, path) = joined(address).await;
    for t in ["a", "a", "b", "b", "b"] {
        post(
            address,
            &format!("{path}&antiphon-post={t}"),
            "42[\"count\"]",
        )
        .await;
    }
    assert_eq!(handled.load(Ordering::Relaxed), 2);
    // A stock client's session takes each as it comes: its protocol knows no repetition.
    let sid = polling(address, "").await;
    for _ in 0..2 {
        let path = format!("{POLLING}&sid={sid}&antiphon-post=a");
        post(address, &path, "42[\"count\"]").await;
    }
    assert_eq!(handled.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_short_poll_is_answered_in_time() {
    let address = serve(&echo(all())).await;
    for is_tracked in [false, true] {
        let offset = |count| match is_tracked {
            true => format!("&antiphon-offset={count}"),
            false => String::new(),
        };
        let sid = polling(address, &offset(0)).await;
        let poll = async |had, wait| {
            let path = format!("{POLLING}&sid={sid}&antiphon-wait={wait}{}", offset(had));
            http(address, &format!("GET {path}"), "").await
        };
        let (_, joined) = poll(1, 0).await;
        assert!(joined.starts_with("40{"), "{joined}");
        for wait in [0, 20] {
            assert_eq!(poll(2, wait).await, (200, "6".to_owned()));
        }
        post(
            address,
            &format!("{POLLING}&sid={sid}"),
            "42[\"echo\",\"a\"]",
        )
        .await;
        let answered = poll(2, 0).await;
        assert_eq!(answered, (200, "42[\"echo\",\"a\"]".to_owned()));
    }
}

#[tokio::test]
async fn a_client_that_comes_at_intervals_may_be_silent_for_longer() {
    let address = serve(&all().build()).await;
    for (interval, timeout) in [(1_000, 21_000), (25_000, 45_000), (60_000, 45_000)] {
        let path = format!("{POLLING}&antiphon-interval={interval}");
        let (_, open) = http(address, &format!("GET {path}"), "").await;
        let expected = format!(r#""pingTimeout":{timeout}"#);
        assert!(open.contains(&expected), "{interval}: {open}");
    }
}

#[tokio::test]
async fn no_interval_keeps_a_silent_session_beyond_the_servers_options() {
    let io = all()
        .ping_interval(Duration::from_millis(50))
        .ping_timeout(Duration::from_millis(50))
        .build();
    let address = serve(&io).await;
    for path in [
        format!("{POLLING}&antiphon-interval=60000"),
        format!("{POLLING}&antiphon-interval=60000&antiphon-offset=0"),
    ] {
        assert_eq!(http(address, &format!("GET {path}"), "").await.0, 200);
    }
    until("the end of the silent sessions", || {
        io.stats().sessions == 0
    })
    .await;
}
