//! The server of `bench_server.rs` as a binary of its own can be: a runtime for each core instead of
//! axum on one for all, and jemalloc, which gives memory back where the C library keeps it. One core
//! is left to the load.
//!
//! `bench-tuned PORT [compress]`

#[path = "../../../crates/antiphon/examples/shared/bench_events.rs"]
mod bench_events;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = match std::env::args().nth(1) {
        Some(port) => port.parse()?,
        None => return Err("usage: bench-tuned PORT".into()),
    };
    let io = bench_events::server();
    let cores = std::thread::available_parallelism()?.get();
    let cores = io.per_core(("127.0.0.1", port))?.threads(cores - 1);
    println!("listening on {}", cores.local_addrs()[0]);
    cores.run()?;
    Ok(())
}
