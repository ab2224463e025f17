//! A server of ours in a cluster with servers of Node, for the tests: it does what its clients ask
//! for by the event `do`, as `tests/cluster/peer.mjs` does with Node's library.
//!
//! `cluster_peer --broker URL --wire classic|sharded|streams|postgres|native --name NAME
//! [--recovery SECONDS]`, where the URL is one of a Redis, or a Postgres for the wire of that name

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use antiphon::{Broadcast, Bytes, Data, Recovery, Server, ServerBuilder, Socket};
use antiphon_postgres::Postgres;
use antiphon_redis::{NodeWire, Redis};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// What a client asks its server to do.
#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Task {
    op: String,
    rooms: Vec<String>,
    except: Vec<String>,
    local: bool,
    volatile: bool,
    timeout: u64,
    event: String,
    arg: Value,
    /// The argument is these bytes instead.
    bytes: Option<Vec<u8>>,
    join: Vec<String>,
    close: bool,
}

impl Default for Task {
    fn default() -> Self {
        Self {
            op: String::new(),
            rooms: Vec::new(),
            except: Vec::new(),
            local: false,
            volatile: false,
            timeout: 3_000,
            event: String::new(),
            arg: Value::Null,
            bytes: None,
            join: Vec::new(),
            close: false,
        }
    }
}

type Heard = Arc<Mutex<Vec<Value>>>;

#[tokio::main]
async fn main() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let flags: BTreeMap<_, _> = arguments
        .chunks(2)
        .map(|pair| (pair[0].clone(), pair[1].clone()))
        .collect();
    let (url, name) = (&flags["--broker"], flags["--name"].clone());
    let redis = Redis::builder(url);
    let mut builder = Server::builder();
    if let Some(seconds) = flags.get("--recovery") {
        let duration = Duration::from_secs(seconds.parse().unwrap());
        let recovery = Recovery::new().duration(duration);
        builder = builder.recovery(recovery.data::<String>("at"));
    }
    let wire = match &*flags["--wire"] {
        "classic" => NodeWire::classic(),
        "sharded" => NodeWire::sharded(),
        "streams" => NodeWire::streams(),
        "postgres" => {
            let postgres = Postgres::builder(url).connect_node();
            return serve(name, builder.adapter(postgres.await.unwrap())).await;
        }
        _ => return serve(name, builder.adapter(redis.connect().await.unwrap())).await,
    };
    let redis = redis.connect_node(wire).await.unwrap();
    serve(name, builder.adapter(redis)).await;
}

async fn serve(name: String, builder: ServerBuilder) {
    let io = builder.share_data::<String>("at").build();
    for namespace in ["/", "/chat"] {
        let namespace = io.of(namespace);
        let at = name.clone();
        namespace.on_connect(move |socket: Socket| {
            // Who has come back is from elsewhere, perhaps.
            if socket.get::<String>().is_none() {
                socket.insert(at.clone());
            }
            async {}
        });
        namespace.on("me", async |socket: Socket| {
            json!({
                "recovered": socket.recovered(),
                "at": socket.get::<String>(),
                "rooms": socket.rooms(),
            })
        });
        let heard = Heard::default();
        let noted = Arc::clone(&heard);
        namespace.on_server_side("note", move |value: Value| {
            noted.lock().unwrap().push(value);
            async {}
        });
        let answer = name.clone();
        namespace.on_server_side("who", move |value: Value| {
            let answer = json!({"name": answer, "asked": value});
            async move { answer }
        });
        let of = namespace.clone();
        namespace.on("do", move |Data(task): Data<Task>| {
            let (of, heard) = (of.clone(), Arc::clone(&heard));
            async move { run(&of, task, &heard).await }
        });
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("listening on {}", listener.local_addr().unwrap());
    let mut term = signal(SignalKind::terminate()).unwrap();
    let serves = axum::serve(listener, io.router());
    tokio::select! {
        served = serves => served.unwrap(),
        _ = term.recv() => io.close().await,
    }
}

async fn run(namespace: &antiphon::Namespace, task: Task, heard: &Heard) -> Value {
    let to = || -> Broadcast {
        let mut to = namespace.broadcast();
        to = to.to(task.rooms.clone()).except(task.except.clone());
        to = to.timeout(Duration::from_millis(task.timeout));
        to = if task.local { to.local() } else { to };
        if task.volatile { to.volatile() } else { to }
    };
    let event = &*task.event;
    match &*task.op {
        "emit" => {
            let result = match task.bytes.clone() {
                Some(bytes) => to().emit(event, (Bytes::from(bytes), &task.arg)),
                None => to().emit(event, &task.arg),
            };
            result
                .into_result()
                .map_or_else(|error| error.to_string().into(), |()| "ok".into())
        }
        "ask" => {
            let answered = to().emit_with_ack::<Value>(event, &task.arg).await.unwrap();
            let is_complete = answered.is_complete();
            let answers = answered.answers.into_iter();
            let answers: Vec<_> = answers.filter_map(|(_, answer)| answer.ok()).collect();
            json!({"answers": answers, "isComplete": is_complete})
        }
        "fetch" => match to().sockets().await {
            Ok(fetched) => {
                let sockets = fetched.sockets.iter();
                let sockets: Vec<_> = sockets
                    .map(|socket| {
                        json!({
                            "id": socket.id.as_str(),
                            "rooms": socket.rooms,
                            "at": socket.data::<String>("at"),
                            "eio": socket.handshake["query"]["EIO"],
                        })
                    })
                    .collect();
                json!(sockets)
            }
            Err(error) => json!({"error": error.to_string()}),
        },
        "join" => done(to().join(task.join.clone()).is_queued()),
        "leave" => done(to().leave(task.join.clone()).is_queued()),
        "disconnect" if task.close => done(to().close_connections().is_queued()),
        "disconnect" => done(to().disconnect().is_queued()),
        "count" => json!(namespace.server_count().await.unwrap()),
        "note" => done(namespace.server_side_emit("note", &task.arg).is_queued()),
        "who" => {
            let asked = namespace.server_side_emit_with_ack::<Value>("who", &task.arg);
            match asked.await {
                Ok(answered) => {
                    let answers = answered.answers.into_iter();
                    let answers: Vec<_> = answers.filter_map(|(_, answer)| answer.ok()).collect();
                    json!(answers)
                }
                Err(error) => json!({"error": error.to_string()}),
            }
        }
        "heard" => json!(*heard.lock().unwrap()),
        other => json!({"error": format!("no task {other}")}),
    }
}

fn done(is_queued: bool) -> Value {
    if is_queued {
        "ok".into()
    } else {
        "refused".into()
    }
}
