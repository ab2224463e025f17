//! What sockets and handlers do, seen from a client of bytes.

mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use antiphon::{
    Ack, AckError, Args, ConnectError, Data, DisconnectReason, ErrorAcks, Event, QueueLimits,
    Rejection, Server, ServerBuilder, Socket, State,
};
use bytes::Bytes;
use support::{Received, WEBSOCKET, WebSocket, http, serve, sid, until, within};
use tokio::sync::Notify;

async fn joined(address: SocketAddr) -> WebSocket<tokio::net::TcpStream> {
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    client
}

#[tokio::test]
async fn what_a_handler_returns_is_its_acknowledgement() {
    let io = Server::new();
    io.of("/")
        .on("add", async |Data((a, b)): Data<(i64, i64)>| a + b)
        .on("pair", async || ("a", 1))
        .on("nothing", async || {})
        .on("fails", async || Err::<(), _>("no"))
        .on("later", async |ack: Ack| {
            tokio::spawn(async move { ack.send("later") });
        })
        .on("binary", async |Data(data): Data<Bytes>| data);
    let mut client = joined(serve(&io).await).await;
    for (sent, expected) in [
        (r#"421["add",1,2]"#, r#"431[3]"#),
        (r#"422["pair"]"#, r#"432["a",1]"#),
        (r#"423["nothing"]"#, r#"433[]"#),
        (r#"424["fails"]"#, r#"434[{"error":"no"}]"#),
        (r#"425["later"]"#, r#"435["later"]"#),
        (
            r#"426["unknown"]"#,
            r#"436[{"error":{"code":"unknown_event","message":"no handler for the event \"unknown\""}}]"#,
        ),
    ] {
        client.send(sent).await;
        client.expect(expected).await;
    }
    client
        .send(r#"451-7["binary",{"_placeholder":true,"num":0}]"#)
        .await;
    client
        .send_frame(antiphon_protocol::websocket::Opcode::Binary, &[1, 2, 3])
        .await;
    client
        .expect(r#"461-7[{"_placeholder":true,"num":0}]"#)
        .await;
    assert_eq!(client.next().await, Received::Binary(vec![1, 2, 3]));
}

#[tokio::test]
async fn the_first_of_several_handlers_that_returns_something_answers() {
    let io = Server::new();
    io.of("/").on("ask", async || {}).on("ask", async || {
        tokio::task::yield_now().await;
        "second"
    });
    let mut client = joined(serve(&io).await).await;
    client.send(r#"420["ask"]"#).await;
    client.expect(r#"430["second"]"#).await;
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_answered_with_their_path() {
    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Message {
        text: String,
    }
    let io = Server::new();
    io.of("/").on(
        "say",
        async |Data((_room, _message)): Data<(String, Message)>| {},
    );
    let mut client = joined(serve(&io).await).await;
    client.send(r#"420["say","lobby",{"text":7}]"#).await;
    let Received::Text(answer) = client.next().await else {
        panic!("no answer");
    };
    assert!(answer.contains(r#""code":"invalid_arguments""#), "{answer}");
    assert!(answer.contains(r#""path":"[1].text""#), "{answer}");
    assert!(answer.contains("expected a string"), "{answer}");
    assert_eq!(io.stats().events_rejected, 1);
}

#[tokio::test]
async fn a_panic_ends_that_call_alone() {
    let io = Server::new();
    io.of("/")
        .on("at once", async || panics())
        .on("later", async || {
            tokio::task::yield_now().await;
            panics();
        })
        .on("as it is written", async || Panics(0))
        .on("as it is sent", async |ack: Ack| ack.send(Panics(0)))
        .on("fine", async || "fine");
    let mut client = joined(serve(&io).await).await;
    let events = ["at once", "later", "as it is written", "as it is sent"];
    for (id, event) in events.into_iter().enumerate() {
        client.send(&format!(r#"42{id}["{event}"]"#)).await;
        let expected = format!(
            r#"43{id}[{{"error":{{"code":"internal_error","message":"the handler failed"}}}}]"#
        );
        client.expect(&expected).await;
    }
    client.send(r#"424["fine"]"#).await;
    client.expect(r#"434["fine"]"#).await;
    assert_eq!(io.stats().handler_panics, 4);
}

#[tokio::test]
async fn the_server_chooses_which_errors_are_acknowledged() {
    for (error_acks, expected) in [
        (
            ErrorAcks::All,
            &["unknown", "panic", "later", "number", "own"][..],
        ),
        (ErrorAcks::Lasting, &["number", "own"]),
        (ErrorAcks::None, &[]),
    ] {
        let io = Server::builder().error_acks(error_acks).build();
        io.of("/")
            .on("panic", async || panics())
            .on("later", async || {
                tokio::task::yield_now().await;
                panics();
            })
            .on("number", async |Data(_): Data<u32>| {})
            .on("end", async || "end");
        io.of("/").on_connect(async |socket: Socket| {
            socket.middleware(async |event: Event| match &*event.0 {
                "own" => Err(Rejection::new("own", "no")),
                _ => Ok(()),
            });
        });
        let mut client = joined(serve(&io).await).await;
        let events = ["unknown", "panic", "later", "number", "own"];
        for (id, event) in events.iter().enumerate() {
            client.send(&format!("42{id}[\"{event}\",\"x\"]")).await;
        }
        until("all errors", || {
            let stats = io.stats();
            stats.handler_panics == 2 && stats.events_rejected == 3
        })
        .await;
        client.send("429[\"end\"]").await;
        let mut acknowledged = Vec::new();
        loop {
            let Received::Text(ack) = client.next().await else {
                panic!("no answer");
            };
            if ack == "439[\"end\"]" {
                break;
            }
            assert!(ack.contains("\"error\""), "{ack}");
            let id: usize = ack[2..3].parse().unwrap_or_default();
            acknowledged.push(events[id]);
        }
        acknowledged.sort_by_key(|event| events.iter().position(|one| one == event));
        assert_eq!(acknowledged, expected, "{error_acks:?}");
    }
}

#[tokio::test]
async fn a_middleware_that_panics_refuses_its_socket_as_the_guide_says() {
    let io = Server::new();
    io.of("/").middleware(async || {
        panics();
        Ok::<(), ConnectError>(())
    });
    let mut client = WebSocket::connect(serve(&io).await, WEBSOCKET).await;
    assert!(matches!(client.next().await, Received::Text(open) if open.starts_with("0{")));
    client.send("40").await;
    let refused = r#"44{"message":"internal error","data":{"code":"internal_error","message":"internal error"}}"#;
    client.expect(refused).await;
}

/// An answer that can't be written.
struct Panics(#[expect(dead_code, reason = "an answer of no size is none")] u8);

impl serde::Serialize for Panics {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panics();
        unreachable!()
    }
}

fn panics() {
    panic!("the test asked for a panic");
}

#[tokio::test]
async fn handlers_start_in_order_of_arrival_and_events_wait_for_the_connect_handler() {
    let order = Arc::new(Mutex::new(Vec::<u32>::new()));
    let gate = Arc::new(Notify::new());
    let io = Server::builder()
        .state(Arc::clone(&order))
        .state(Arc::clone(&gate))
        .build();
    io.of("/")
        .on_connect(
            async |State(gate): State<Arc<Notify>>, State(order): State<Arc<Mutex<Vec<u32>>>>| {
                gate.notified().await;
                order.lock().unwrap().push(0);
            },
        )
        .on(
            "next",
            async |State(order): State<Arc<Mutex<Vec<u32>>>>, Data(number): Data<u32>| {
                order.lock().unwrap().push(number);
                tokio::task::yield_now().await;
            },
        );
    let mut client = joined(serve(&io).await).await;
    for number in 1..=100 {
        client.send(&format!(r#"42["next",{number}]"#)).await;
    }
    gate.notify_one();
    client.send(r#"421["next",101]"#).await;
    client.expect("431[]").await;
    assert_eq!(*order.lock().unwrap(), (0..=101).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_acknowledgement_fails_when_its_socket_leaves_or_the_time_is_up() {
    let io = Server::new();
    let (results, mut received) = tokio::sync::mpsc::unbounded_channel();
    io.of("/").on_connect(move |socket: Socket| {
        let results = results.clone();
        async move {
            for timeout in [Duration::ZERO, Duration::from_secs(60)] {
                let asked = socket
                    .timeout(timeout)
                    .emit_with_ack::<Args>("question", ());
                let results = results.clone();
                tokio::spawn(async move { results.send(asked.await.map(|_| ())) });
            }
        }
    });
    let mut client = joined(serve(&io).await).await;
    client.next().await;
    client.next().await;
    assert!(matches!(
        received.recv().await,
        Some(Err(AckError::Timeout))
    ));
    client.send("41").await;
    let left = within("the second result", received.recv()).await;
    assert!(
        matches!(left, Some(Err(AckError::Disconnected))),
        "{left:?}"
    );
}

#[tokio::test]
async fn a_slow_reader_is_closed_at_the_bound_of_its_queue() {
    let builder: ServerBuilder = Server::builder();
    let io = builder
        .outbound(QueueLimits::new().packets(1_000).bytes(1 << 20))
        .build();
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let left = Arc::new(Notify::new());
    io.of("/").on_disconnect({
        let (reasons, left) = (Arc::clone(&reasons), Arc::clone(&left));
        move |reason: DisconnectReason| {
            reasons.lock().unwrap().push(reason);
            left.notify_one();
            std::future::ready(())
        }
    });
    let client = joined(serve(&io).await).await;
    let text = "x".repeat(100_000);
    // The kernel takes some megabytes before the queue begins to fill.
    let mut refused = false;
    for _ in 0..1_000 {
        io.emit("news", &text);
        if io.stats().slow_readers_closed == 1 {
            refused = true;
            break;
        }
    }
    assert!(refused, "the queue grew without bound");
    within("the end of the slow reader", left.notified()).await;
    assert_eq!(*reasons.lock().unwrap(), [DisconnectReason::TransportError]);
    drop(client);
}

#[tokio::test]
async fn reading_stops_while_too_many_handlers_run() {
    let started = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let io = Server::builder()
        .max_running_handlers(10)
        .state(Arc::clone(&started))
        .state(Arc::clone(&gate))
        .build();
    io.of("/").on(
        "wait",
        async |State(started): State<Arc<AtomicUsize>>,
               State(gate): State<Arc<tokio::sync::Semaphore>>| {
            started.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await.unwrap().forget();
        },
    );
    let mut client = joined(serve(&io).await).await;
    for _ in 0..10 {
        client.send(r#"42["wait"]"#).await;
    }
    until("ten handlers", || started.load(Ordering::SeqCst) >= 10).await;
    // Whatever comes now stays in the network.
    client.send(r#"421["wait"]"#).await;
    gate.add_permits(11);
    client.expect("431[]").await;
    assert_eq!(started.load(Ordering::SeqCst), 11);
}

#[tokio::test]
async fn a_refused_socket_learns_why_and_never_joins() {
    let io = Server::new();
    io.of("/private").middleware(async |_: Socket| {
        Err(ConnectError::new("no").with_data(serde_json::json!({"code": 7})))
    });
    let address = serve(&io).await;
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.next().await;
    client.send("40/private,").await;
    client
        .expect(r#"44/private,{"message":"no","data":{"code":7}}"#)
        .await;
    assert_eq!(io.of("/private").sockets_count(), 0);
    client.send("40/unknown,").await;
    client
        .expect(r#"44/unknown,{"message":"Invalid namespace"}"#)
        .await;
    assert_eq!(io.stats().connects_refused, 2);
}

#[tokio::test]
async fn a_session_that_is_abandoned_goes_away() {
    let io = Server::builder()
        .ping_interval(Duration::from_millis(20))
        .ping_timeout(Duration::from_millis(20))
        .build();
    let address = serve(&io).await;
    for _ in 0..50 {
        // A handshake and nothing more.
        let (_, open) = http(address, "GET /socket.io/?EIO=4&transport=polling", "").await;
        let url = format!("/socket.io/?EIO=4&transport=polling&sid={}", sid(&open));
        // A joined socket whose client vanishes between two polls.
        http(address, &format!("POST {url}"), "40").await;
    }
    assert_eq!(io.stats().sessions_opened, 50);
    within("the end of all sessions", async {
        while io.stats().sessions > 0 || io.of("/").sockets_count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn over_polling_the_next_ping_is_due_one_interval_after_the_pong() {
    let io = Server::builder()
        .ping_interval(Duration::from_millis(20))
        // Were it waited for, the test would fail.
        .ping_timeout(Duration::from_secs(60))
        .build();
    let address = serve(&io).await;
    let (_, open) = http(address, "GET /socket.io/?EIO=4&transport=polling", "").await;
    let url = format!("/socket.io/?EIO=4&transport=polling&sid={}", sid(&open));
    for _ in 0..5 {
        let (_, packets) = http(address, &format!("GET {url}"), "").await;
        assert_eq!(packets, "2");
        http(address, &format!("POST {url}"), "3").await;
    }
}

#[tokio::test]
async fn closing_waits_for_disconnect_handlers_and_those_under_way() {
    let ended = Arc::new(AtomicUsize::new(0));
    let io = Server::builder().state(Arc::clone(&ended)).build();
    io.of("/")
        .on(
            "work",
            async |socket: Socket, State(ended): State<Arc<AtomicUsize>>| {
                socket.emit("started", ());
                tokio::time::sleep(Duration::from_millis(50)).await;
                ended.fetch_add(1, Ordering::SeqCst);
            },
        )
        .on_disconnect(
            async |reason: DisconnectReason, State(ended): State<Arc<AtomicUsize>>| {
                tokio::time::sleep(Duration::from_millis(50)).await;
                assert_eq!(reason, DisconnectReason::ServerShuttingDown);
                ended.fetch_add(1, Ordering::SeqCst);
            },
        );
    let mut client = joined(serve(&io).await).await;
    client.send(r#"42["work"]"#).await;
    client.expect(r#"42["started"]"#).await;
    within("close", io.close()).await;
    assert_eq!(ended.load(Ordering::SeqCst), 2);
}
