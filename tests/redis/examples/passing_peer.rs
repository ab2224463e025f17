//! A server of a cluster whose clients may come to any server with each request, for the tests.
//!
//! `passing_peer --redis URL --serve listener|axum|per-core --name NAME [--recovery SECONDS]`

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use antiphon::{Args, Data, Recovery, Server, Socket, TransportKind};
use antiphon_redis::Redis;
use antiphon_test_redis::free_port;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

fn main() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let flags: BTreeMap<_, _> = arguments
        .chunks(2)
        .map(|pair| (pair[0].clone(), pair[1].clone()))
        .collect();
    let runtime = Runtime::new().unwrap();
    // It is advertised before anything listens.
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let io = runtime.block_on(server(&flags, at));
    match &*flags["--serve"] {
        "per-core" => {
            let cores = io.per_core(at).unwrap().threads(2);
            println!("listening on {at}");
            cores.run_until(terminated()).unwrap();
        }
        "axum" => runtime.block_on(async {
            let listener = TcpListener::bind(at).await.unwrap();
            println!("listening on {at}");
            let router = io.router::<()>();
            tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
            terminated().await;
            io.close().await;
        }),
        _ => runtime.block_on(async {
            let listener = TcpListener::bind(at).await.unwrap();
            println!("listening on {at}");
            let closing = io.clone();
            tokio::spawn(async move {
                terminated().await;
                closing.close().await;
            });
            io.serve(listener).await;
        }),
    }
}

async fn terminated() {
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    terminated.recv().await;
}

async fn server(flags: &BTreeMap<String, String>, at: SocketAddr) -> Server {
    let redis = Redis::builder(&flags["--redis"]).advertise(&format!("http://{at}"));
    let redis = redis.connect().await.unwrap();
    redis.started().await;
    let transports = [
        TransportKind::Polling,
        TransportKind::WebSocket,
        TransportKind::Streaming,
    ];
    let mut builder = Server::builder();
    if let Some(seconds) = flags.get("--recovery") {
        let duration = Duration::from_secs(seconds.parse().unwrap());
        builder = builder.recovery(Recovery::new().duration(duration));
    }
    let io = builder
        .adapter(redis.clone())
        .transports(transports)
        .close_timeout(Duration::from_secs(2))
        .build();
    let main = io.of("/");
    main.on("echo", async |args: Args| args);
    let cluster = redis.clone();
    main.on("join", move |socket: Socket, Data(room): Data<String>| {
        socket.join(room);
        let cluster = cluster.clone();
        // What is emitted behind the acknowledgement comes.
        async move { cluster.subscribed().await }
    });
    let all = main.clone();
    main.on("all", move |Data((room, what)): Data<(String, Value)>| {
        let queued = all.to(room).emit("all", what).is_queued();
        async move { queued }
    });
    let name = flags["--name"].clone();
    main.on("where", move || {
        let stats = redis.stats();
        let there = json!({
            "name": name,
            "servers": redis.servers().len(),
            "passedOn": stats.passed_on,
            "notPassedOn": stats.not_passed_on,
        });
        async move { there }
    });
    io
}
