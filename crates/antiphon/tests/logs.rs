//! Nothing that a log shows lets its reader speak for a client.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::Write,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use antiphon::{Auth, Data, HttpCalls, Rejection, Server, Socket};
use support::{Received, WebSocket, http, serve, sid, until, within};
use tracing_subscriber::fmt::MakeWriter;

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Everything from now on, at every level.
    fn begin() -> Self {
        let log = Self::default();
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(log.clone())
            .init();
        log
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// What a client must keep to itself, in each place where it can say it.
const SECRET: &str = "geheimnis";

fn server() -> Server {
    let io = Server::builder().http_calls(HttpCalls::default()).build();
    for name in ["/", "/chat"] {
        io.of(name)
            .on_connect(async |socket: Socket| {
                socket.middleware(async |event: antiphon::Event| match &*event.0 {
                    "forbidden" => Err(Rejection::new("forbidden", "no")),
                    _ => Ok(()),
                });
                // As applications do.
                tracing::info!(?socket, handshake = ?socket.handshake(), "hello");
                tracing::info!(id = ?socket.id(), rooms = ?socket.to(socket.id()), "hello");
                for remote in socket
                    .namespace()
                    .to(socket.id())
                    .sockets()
                    .await
                    .unwrap_or_default()
                    .sockets
                {
                    tracing::info!(?remote, "somebody else");
                }
                panics();
            })
            .on("panic", async || panics())
            .on("number", async |Data(_): Data<u32>| ())
            .on_disconnect(async || panics());
    }
    io.of("/refused")
        .middleware(async |Auth(_): Auth<u32>| Ok(()));
    io.of("/refused").on("call", async || ());
    io.of("/panics")
        .middleware(async |auth: Auth<serde_json::Value>| {
            tracing::info!(?auth, "asked");
            panic!("the test panics")
        });
    io
}

fn panics() {
    panic!("the test panics");
}

/// Everything that is logged of a client, by WebSocket. Its id.
async fn play(address: SocketAddr, revision: u8) -> String {
    let path = format!("/socket.io/?EIO={revision}&transport=websocket&token={SECRET}");
    let mut client = WebSocket::connect(address, &path).await;
    let Received::Text(open) = client.next().await else {
        panic!("no handshake");
    };
    let id = sid(&open).to_owned();
    let auth = format!("{{\"token\":\"{SECRET}\"}}");
    let joins = match revision {
        3 => ["/chat", "/refused", "/panics"].map(|name| format!("40{name}?token={SECRET}")),
        _ => ["/chat", "/refused", "/panics"].map(|name| format!("40{name},{auth}")),
    };
    if revision == 4 {
        client.send("40").await;
    }
    for join in joins {
        client.send(&join).await;
    }
    for namespace in ["", "/chat,"] {
        for event in ["panic", "number", "forbidden", "unknown"] {
            let event = format!("42{namespace}1[\"{event}\",\"{SECRET}\"]");
            client.send(&event).await;
        }
    }
    client.send("42[").await;
    while client.next().await != Received::Closed(None) {}
    id
}

#[tokio::test]
async fn logs_show_no_credentials() {
    let log = Log::begin();
    let io = server();
    let address = serve(&io).await;
    let mut secrets = vec![SECRET.to_owned()];
    for revision in [3, 4] {
        secrets.push(play(address, revision).await);
        let polling = format!("/socket.io/?EIO={revision}&transport=polling");
        let (_, open) = http(address, &format!("GET {polling}"), "").await;
        secrets.push(sid(&open).to_owned());
        let path = format!("{polling}&sid={}&token={SECRET}", sid(&open));
        for request in [
            format!("POST {path}"),
            format!("PUT {path}"),
            format!("GET {path}x"),
            format!("GET /socket.io/?EIO=4&transport=none&token={SECRET}"),
            format!("POST /socket.io/call/number?token={SECRET}"),
            format!(
                "POST /socket.io/call/refused/call HTTP/1.1\r\nAntiphon-Auth: {{\"a\":\"{SECRET}\"}}\r\nX: y"
            ),
            format!(
                "POST /socket.io/call/refused/call HTTP/1.1\r\nAntiphon-Auth: \"{SECRET}\"\r\nX: y"
            ),
        ] {
            http(address, &request, &format!("[\"{SECRET}\"]")).await;
        }
    }
    within("the close", io.close()).await;
    until("the end of the log", || {
        log.text().contains("session closed")
    })
    .await;
    let log = log.text();
    for line in [
        "a handler panicked",
        "event rejected",
        "refused",
        "socket connected",
        "somebody",
    ] {
        assert!(log.contains(line), "not in the log: {line}\n{log}");
    }
    for secret in secrets {
        let shown: Vec<_> = log.lines().filter(|line| line.contains(&secret)).collect();
        assert!(shown.is_empty(), "{secret} is shown:\n{}", shown.join("\n"));
    }
}
