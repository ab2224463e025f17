//! The server of `bench_server.rs` as a binary of its own can be: its own listener instead of axum,
//! and jemalloc, which gives memory back where the C library keeps it.
//!
//! `bench-tuned PORT`

use antiphon::Server;

#[path = "../../../crates/antiphon/examples/shared/bench_events.rs"]
mod bench_events;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = match std::env::args().nth(1) {
        Some(port) => port.parse()?,
        None => return Err("usage: bench-tuned PORT".into()),
    };
    let io = Server::new();
    bench_events::register(&io);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    io.serve(listener).await;
    Ok(())
}
