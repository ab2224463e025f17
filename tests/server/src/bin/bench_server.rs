//! The server that load is put on: stock settings, and a few events on the main namespace.
//!
//! `cargo run --release -p antiphon-test-server --no-default-features --bin bench_server PORT [compress | msgpack]`
//!
//! Its events are in `bench_events.rs`; `bench/` has the same on the peers, and the load.

use antiphon_test_server::bench_events;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = match std::env::args().nth(1) {
        Some(port) => port.parse()?,
        None => return Err("usage: bench_server PORT".into()),
    };

    let io = bench_events::server();
    let app = axum::Router::new().merge(io.router());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
