//! The server of `bench_server.rs` as one of several that meet at a Redis, under plain
//! `axum::serve`.
//!
//! `bench-cluster PORT REDIS_URL ours|classic`: by our own wire, or by that of Node's
//! `@socket.io/redis-adapter`.
//!
//! By our own wire there is one event more: `enter` enters the room that it names, and acknowledges
//! with the name when this server has subscribed to it.

#[path = "../../../tests/server/src/bench_events.rs"]
mod bench_events;

use antiphon::{Data, Server, Socket, adapter::AdapterFactory};
use antiphon_redis::{NodeWire, Redis};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, url, wire] = &arguments[..] else {
        return Err("usage: bench-cluster PORT REDIS_URL ours|classic".into());
    };
    let port = port.parse()?;
    let redis = Redis::builder(url);
    if wire == "classic" {
        return serve(port, server(redis.connect_node(NodeWire::classic()).await?)).await;
    }
    let redis = redis.connect().await?;
    redis.started().await;
    let io = server(redis.clone());
    io.of("/")
        .on("enter", move |socket: Socket, Data(room): Data<String>| {
            let redis = redis.clone();
            async move {
                socket.join(room.as_str());
                redis.subscribed().await;
                room
            }
        });
    serve(port, io).await
}

fn server(adapter: impl AdapterFactory) -> Server {
    let io = Server::builder().adapter(adapter).build();
    bench_events::register(&io);
    io
}

async fn serve(port: u16, io: Server) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(axum::serve(listener, io.router()).await?)
}
