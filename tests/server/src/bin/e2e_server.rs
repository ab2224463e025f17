//! The server that the end-to-end tests talk to. Its flags and events are a contract with the tests:
//! see `tests/README.md`.

use std::{
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use antiphon::{
    Ack, Args, Auth, BigInt, ClientFiles, ConnectError, Cookie, Cors, Data, Denial,
    DisconnectReason, ErrorAcks, Event, Extension, HttpCalls, JoinRequest, Listener, Namespace,
    NewEvent, Param, Parser, Recovery, Rejection, Server, ServerBuilder, Socket, Tls,
    TransportKind,
    engine::{Engine, EngineConfig},
    recovery::LogFile,
};
use antiphon_test_server::{cbor_parser::Cbor, engine_echo, plain_parser::Plain};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, request::Parts};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("e2e_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments: Vec<_> = std::env::args().skip(1).collect();
    let flags = arguments.len();
    arguments.retain(|flag| flag != "--per-core");
    let per_core = arguments.len() < flags;
    let (port, builder, tls) = options(arguments.into_iter())?;
    let runtime = tokio::runtime::Runtime::new();
    if !per_core && tls.is_none() {
        return runtime?.block_on(serve(port, server(builder)));
    }
    let io = server(builder.close_timeout(PATIENCE));
    let mut listener = Listener::tcp(("127.0.0.1", port))?;
    if let Some(tls) = &tls {
        listener = listener.tls(tls);
    }
    let serving = io.serving([listener]);
    if per_core {
        let cores = serving.per_core()?.threads(2);
        println!("listening on {}", cores.local_addrs()[0]);
        cores.run_until(told_to_end(tls))?;
    } else {
        println!("listening on {}", serving.local_addrs()[0]);
        runtime?.block_on(serving.run_until(told_to_end(tls)))?;
    }
    Ok(())
}

/// Functions that see requests and responses of the engine.
fn hooks(builder: ServerBuilder) -> ServerBuilder {
    let header = |name, value| {
        move |headers: &mut HeaderMap, _: &Parts| {
            headers.insert(name, HeaderValue::from_static(value));
        }
    };
    builder
        .request_middleware(async |mut request| {
            let query = request.uri().query().unwrap_or_default();
            if query.split('&').any(|pair| pair == "refuse=1") {
                let refused = Denial::new("Bad request").code(3);
                return Err(refused.status(StatusCode::BAD_REQUEST).into());
            }
            let kind = match request.sid() {
                Some(_) => "session",
                None => "handshake",
            };
            let asked = request.response_headers_mut();
            asked.insert("x-asked", HeaderValue::from_static(kind));
            Ok(request)
        })
        .on_initial_headers(header("x-initial", "yes"))
        .on_headers(header("x-each", "yes"))
        .on_connection_error(|error, _| {
            let (code, message) = (error.code(), error.to_string());
            let line = json!({"event": "connection_error", "code": code, "message": message});
            println!("{line}");
        })
        .generate_id(async |request: Parts| {
            let query = request.uri.query().unwrap_or_default();
            let id = query.split('&').find_map(|pair| pair.strip_prefix("id="));
            match id {
                Some("fail") => Err("the test asked for it".into()),
                Some(id) => Ok(id.to_owned()),
                None => Ok(format!("{:020}", IDS.fetch_add(1, Ordering::Relaxed))),
            }
        })
}

static IDS: AtomicU64 = AtomicU64::new(0);

/// Resolves at SIGTERM. Until then SIGHUP renews the certificate.
async fn told_to_end(tls: Option<Tls>) {
    let signals = signal(SignalKind::terminate()).and_then(|terminated| {
        let renewed = signal(SignalKind::hangup())?;
        Ok((terminated, renewed))
    });
    let (mut terminated, mut renewed) = match signals {
        Ok(signals) => signals,
        Err(error) => return eprintln!("e2e_server: {error}"),
    };
    loop {
        tokio::select! {
            _ = terminated.recv() => return,
            _ = renewed.recv() => {}
        }
        if let Some(tls) = &tls {
            let error = tls.reload().err().map(|error| error.to_string());
            println!("{}", json!({"event": "reload", "error": error}));
        }
    }
}

/// The server and its events.
fn server(builder: ServerBuilder) -> Server {
    let io = builder
        .allow_request(|request| {
            let query = request.uri.query().unwrap_or_default();
            let denied = query.split('&').any(|pair| pair == "deny=1");
            std::future::ready(match denied {
                true => Err("denied by the test".into()),
                false => Ok(()),
            })
        })
        .build();
    for name in [
        "/",
        "/chat",
        "/custom",
        "/slow-connect",
        "/auth",
        "/slow-auth",
    ] {
        events(&io.of(name));
    }
    for name in ["/", "/chat", "/custom", "/auth", "/slow-auth"] {
        io.of(name).on_connect(greet);
    }
    io.of("/slow-connect")
        .on_connect(async |socket: Socket, auth: Auth<Option<Box<RawValue>>>| {
            tokio::time::sleep(Duration::from_millis(200)).await;
            greet(socket, auth).await;
        });
    io.of("/slow-auth").middleware(async |socket: Socket| {
        socket.join("asked");
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(())
    });
    // Children have the events of the other namespaces, which they get when they are made.
    io.on_new_namespace(|namespace| events(&namespace));
    io.of_pattern("/room-{id}")
        .on_connect(greet)
        .on(
            "to-all-rooms",
            async |namespace: Namespace, Data((event, value)): Data<(String, Any)>| {
                if let Some(rooms) = namespace.parent() {
                    rooms.emit(&event, (value,));
                }
            },
        )
        .on("which-room", async |Param(id): Param<String>| id);
    io.of_matching(async |request: JoinRequest| {
        let auth: Value = request.auth().unwrap_or_default();
        Ok(request.name().starts_with("/tenant-") && auth["token"] == "secret")
    })
    .on_connect(greet);
    io.of("/auth").middleware(async |Auth(auth): Auth<Value>| {
        if auth["token"] == "secret" {
            return Ok(());
        }
        Err(ConnectError::new("not authorized").with_data(json!({"code": "E_AUTH"})))
    });
    io
}

/// Serves it with axum, and an engine without Socket.IO beside it.
async fn serve(port: u16, io: Server) -> Result<(), Box<dyn std::error::Error>> {
    // No namespace is ever joined there.
    let mut config: EngineConfig = io.engine().config().clone();
    config.max_payload_before_join = usize::MAX;
    let echo = Engine::new(config, Arc::new(engine_echo::Echo));
    let app = axum::Router::new()
        .merge(io.router())
        .route_service("/engine.io/", echo.service());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);

    let mut terminated = signal(SignalKind::terminate())?;
    let (closed, is_closed) = tokio::sync::oneshot::channel();
    let serving = axum::serve(listener, app).with_graceful_shutdown(async move {
        terminated.recv().await;
        // Who polls may have gone without a word, and would be waited for.
        let _ = tokio::time::timeout(PATIENCE, io.close()).await;
        let _ = closed.send(());
    });
    // A request that was begun and never ended isn't waited for either.
    let given_up = async {
        let _ = is_closed.await;
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::select! {
        served = serving => served?,
        () = given_up => {}
    }
    Ok(())
}

/// How long the end of the server may take for what it waits for.
const PATIENCE: Duration = Duration::from_secs(2);

/// The flags, on top of the stock settings.
fn options(
    mut arguments: impl Iterator<Item = String>,
) -> Result<(u16, ServerBuilder, Option<Tls>), Box<dyn std::error::Error>> {
    let port = arguments.next().ok_or("usage: e2e_server PORT [flags]")?;
    let mut builder = Server::builder();
    let mut cors = None;
    let mut tls = None;
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
        let milliseconds = |value: String| value.parse().map(Duration::from_millis);
        builder = match flag.as_str() {
            "--path" => builder.path(value()?),
            "--ping-interval" => builder.ping_interval(milliseconds(value()?)?),
            "--ping-timeout" => builder.ping_timeout(milliseconds(value()?)?),
            "--connect-timeout" => builder.connect_timeout(milliseconds(value()?)?),
            "--upgrade-timeout" => builder.upgrade_timeout(milliseconds(value()?)?),
            "--max-payload" => builder.max_payload(value()?.parse()?),
            "--max-packets" => builder.max_packets_per_payload(value()?.parse()?),
            "--transports" => builder.transports(value()?.split(',').map(|name| match name {
                "polling" => TransportKind::Polling,
                "streaming" => TransportKind::Streaming,
                _ => TransportKind::WebSocket,
            })),
            "--http-calls" => builder.http_calls(HttpCalls::default()),
            "--error-acks" => builder.error_acks(match value()?.as_str() {
                "lasting" => ErrorAcks::Lasting,
                "none" => ErrorAcks::None,
                _ => ErrorAcks::All,
            }),
            "--compression" => builder.compression(value()?.parse()?),
            "--client" => builder.serve_client(ClientFiles::folder(value()?)?),
            "--hooks" => hooks(builder),
            "--msgpack" => builder.parser(Parser::Msgpack),
            "--plain" => builder.parser(Plain),
            "--cbor" => builder.parser(Cbor),
            "--recovery" => builder.recovery(Recovery::new().duration(milliseconds(value()?)?)),
            "--durable" | "--durable-later" => {
                let file = LogFile::open(value()?)?;
                let file = match flag.as_str() {
                    "--durable" => file.stored_before_delivery(),
                    _ => file,
                };
                let recovery = Recovery::new().data::<String>("text");
                builder.recovery(recovery.durable(file))
            }
            "--no-upgrades" => builder.allow_upgrades(false),
            "--no-eio3" => builder.allow_eio3(false),
            "--cors" => {
                let list = value()?;
                cors = Some(match list.as_str() {
                    "*" => Cors::any(),
                    list => Cors::origins(list.split(',')),
                });
                builder
            }
            "--cors-credentials" => {
                cors = cors.map(Cors::with_credentials);
                builder
            }
            "--tls" => {
                let chain = value()?;
                tls = Some(Tls::from_files(chain, value()?)?);
                builder
            }
            "--cookie" => builder.cookie(Cookie::named(value()?)),
            _ => return Err(format!("unknown flag {flag}").into()),
        };
    }
    if let Some(cors) = cors {
        builder = builder.cors(cors);
    }
    Ok((port.parse()?, builder, tls))
}

/// The transport that a socket's connection has moved to.
#[derive(Clone)]
struct Upgraded(TransportKind);

/// An argument of any type.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Any {
    Json(Value),
    Binary(Bytes),
}

/// What the catch-alls of one socket saw, and what its ordered handlers recorded.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<Vec<Value>>>);

impl Record {
    fn add(&self, value: impl Into<Value>) {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        values.push(value.into());
    }

    fn take(&self) -> Vec<Value> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Clone, Default)]
struct Seen(Record);

#[derive(Clone, Default)]
struct Sent(Record);

#[derive(Clone, Default)]
struct Order(Record);

async fn greet(socket: Socket, Auth(auth): Auth<Option<Box<RawValue>>>) {
    let (seen, sent) = (Seen::default(), Sent::default());
    socket.insert(seen.clone());
    socket.insert(sent.clone());
    socket.insert(Order::default());
    socket
        .on_any(move |Event(name): Event| {
            seen.0.add(name);
            std::future::ready(())
        })
        .on_any_outgoing(move |Event(name): Event| {
            sent.0.add(name);
            std::future::ready(())
        })
        .once("once", async |socket: Socket| {
            socket.emit("once-back", ());
        })
        .on("removable", async |socket: Socket| {
            socket.emit("removable-back", ());
        })
        .on("off", async |socket: Socket| {
            socket.off("removable");
        })
        .middleware(async |Event(name): Event| match name.as_str() {
            "forbidden" => Err(Rejection::new("forbidden", "the test forbids it")),
            _ => Ok(()),
        })
        .map_events(async |Event(name): Event, args: Args| match name.as_str() {
            "old-message" => NewEvent::new("message", args),
            name => NewEvent::new(name, args),
        })
        .on("two", async |socket: Socket| {
            socket.emit("two-back", "second");
        })
        .prepend("two", async |socket: Socket| {
            socket.emit("two-back", "first");
        })
        .on("off-all", async |socket: Socket| {
            socket.off_any().off_any_outgoing().off_all();
        });
    match auth {
        Some(auth) => socket.emit("auth", (auth,)),
        None => socket.emit("auth", (json!({}),)),
    };
}

fn events(namespace: &Namespace) {
    namespace
        .on("message", async |socket: Socket, args: Args| {
            socket.emit("message-back", args);
        })
        .on("message-with-ack", async |args: Args, ack: Ack| ack.send(args))
        .on("emit-with-ack", async |socket: Socket, args: Args| {
            if let Ok(answer) = socket.emit_with_ack::<Args>("emit-with-ack", args).await {
                socket.emit("emit-with-ack", answer);
            }
        })
        .on("ask", async |socket: Socket, Data(ms): Data<u64>| {
            let timeout = Duration::from_millis(ms);
            let answer = socket.timeout(timeout).emit_with_ack::<Value>("question", ());
            socket.emit("answer", (answer.await.unwrap_or_else(|_| json!("timeout")),));
        })
        .on("ask-room", async |namespace: Namespace, Data((room, ms)): Data<(String, u64)>| {
            let asked = namespace.to(room).timeout(Duration::from_millis(ms));
            let answers = asked.emit_with_ack::<Value>("question", ()).await;
            let answers = answers.map(|collected| collected.answers).unwrap_or_default();
            answers.into_iter().filter_map(|(_, answer)| answer.ok()).collect::<Vec<_>>()
        })
        .on("join", async |socket: Socket, Data(room): Data<String>| socket.join(room))
        .on("leave", async |socket: Socket, Data(room): Data<String>| socket.leave(room))
        .on("rooms", async |socket: Socket| {
            socket.rooms().iter().map(ToString::to_string).collect::<Vec<_>>()
        })
        .on("to", async |socket: Socket, Data((rooms, event, value)): Data<(Vec<String>, String, Any)>| {
            socket.to(rooms).emit(&event, (value,));
        })
        .on(
            "io-to",
            async |namespace: Namespace, Data((rooms, except, event, value)): Data<(Vec<String>, Vec<String>, String, Any)>| {
                namespace.to(rooms).except(except).emit(&event, (value,));
            },
        )
        .on("broadcast", async |socket: Socket, args: Args| {
            socket.broadcast().emit("broadcast", args);
        })
        .on("whoami", async |socket: Socket| {
            json!({"id": socket.id(), "transport": socket.transport(), "revision": socket.revision()})
        })
        .on("say", async |socket: Socket, args: Args| {
            socket.send(args);
        })
        .on("who-is-in", async |namespace: Namespace, Data(room): Data<String>| {
            let found = namespace.to(room).sockets().await.unwrap_or_default().sockets;
            found.iter().map(|socket| socket.id.clone()).collect::<Vec<_>>()
        })
        .on("move", async |namespace: Namespace, Data((from, to, event)): Data<(String, String, String)>| {
            for socket in namespace.to(from.as_str()).sockets().await.unwrap_or_default().sockets {
                socket.join(to.as_str());
                socket.leave(from.as_str());
                socket.emit(&event, to.as_str());
            }
        })
        .on("close-transport", async |socket: Socket| socket.close_transport())
        .on_upgrade(async |socket: Socket, transport: TransportKind| {
            socket.insert(Upgraded(transport));
        })
        .on("upgraded", async |upgraded: Option<Extension<Upgraded>>| {
            upgraded.map(|Extension(Upgraded(to))| to)
        })
        .on("ordered", async |socket: Socket, Data(number): Data<u64>| {
            if let Some(Order(order)) = socket.get::<Order>() {
                order.add(number);
            }
            tokio::time::sleep(Duration::from_millis(number % 3)).await;
        })
        .on("order", async |socket: Socket| {
            socket.get::<Order>().unwrap_or_default().0.take()
        })
        .on("flood", async |socket: Socket, Data(count): Data<u64>| {
            for number in 0..count {
                socket.emit("flood", number);
            }
        })
        .on("flood-binary", async |socket: Socket, Data(count): Data<u64>| {
            for number in 0..count {
                let byte = (number % 256) as u8;
                let attachments = (Bytes::from(vec![byte]), Bytes::from(vec![byte, 1]));
                socket.emit("flood", (number, attachments.0, attachments.1));
            }
        })
        .on("slow", async |socket: Socket, Data((ms, value)): Data<(u64, Value)>| {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            socket.emit("slow-done", (value,));
        })
        .on("volatile", async |socket: Socket, Data(count): Data<u64>| {
            for number in 0..count {
                socket.volatile().emit("volatile", number);
            }
            socket.emit("volatile-end", ());
        })
        .on("keep-sending", async |socket: Socket, Data((event, value, ms)): Data<(String, Any, u64)>| {
            let pause = Duration::from_millis(ms);
            socket.at_least_once().timeout(pause).emit(&event, (value,));
        })
        .on(
            "keep-sending-to",
            async |namespace: Namespace, Data((rooms, event, value, ms)): Data<(Vec<String>, String, Any, u64)>| {
                let pause = Duration::from_millis(ms);
                namespace.to(rooms).at_least_once().timeout(pause).emit(&event, (value,));
            },
        )
        .handle_once("buy")
        .on("buy", async |Data((ms, _id)): Data<(u64, String)>| {
            static BOUGHT: AtomicU64 = AtomicU64::new(0);
            tokio::time::sleep(Duration::from_millis(ms)).await;
            BOUGHT.fetch_add(1, Ordering::Relaxed)
        })
        .on_undelivered(|undelivered| {
            println!(
                "{}",
                json!({
                    "id": undelivered.socket,
                    "event": "undelivered",
                    "name": undelivered.event.name(),
                    "reason": format!("{:?}", undelivered.reason),
                })
            );
        })
        .on("tick", async |socket: Socket, args: Args| {
            socket.volatile().emit("tick", args);
        })
        .on("recovered", async |socket: Socket| {
            (socket.recovered(), socket.not_recovered().map(ToString::to_string))
        })
        .on("keep", async |socket: Socket, Data(text): Data<String>| {
            socket.insert(text);
        })
        .on("kept", async |socket: Socket| socket.get::<String>())
        .on("twice", async |socket: Socket| {
            socket.emit("twice-1", ());
        })
        .on("twice", async |socket: Socket| {
            socket.emit("twice-2", ());
        })
        .on("seen", async |socket: Socket| socket.get::<Seen>().unwrap_or_default().0.take())
        .on("sent", async |socket: Socket| socket.get::<Sent>().unwrap_or_default().0.take())
        .on("forbidden", async |socket: Socket| {
            socket.emit("forbidden-back", ());
        })
        .on("next-integer", async |Data(BigInt(n)): Data<BigInt<u64>>| BigInt(u128::from(n) + 1))
        .on("add", async |Data((a, b)): Data<(i64, i64)>| a + b)
        .on("panic", panics)
        .on("disconnect-me", async |socket: Socket| socket.disconnect())
        .on("close-me", async |socket: Socket| socket.close_connection())
        .on_disconnecting(async |socket: Socket, reason: DisconnectReason| {
            log("disconnecting", &socket, reason);
        })
        .on_disconnect(async |socket: Socket, reason: DisconnectReason| {
            log("disconnect", &socket, reason);
        });
}

async fn panics() {
    panic!("the test asked for a panic");
}

/// The log that the tests read.
fn log(event: &str, socket: &Socket, reason: DisconnectReason) {
    let rooms: Vec<_> = socket.rooms().iter().map(ToString::to_string).collect();
    let line = json!({
        "nsp": socket.namespace().name(),
        "id": socket.id(),
        "event": event,
        "reason": reason.as_str(),
        "rooms": rooms,
    });
    println!("{line}");
}
