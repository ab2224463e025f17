//! The server of `bench_server.rs` as a binary of its own can be: a runtime for each core instead of
//! axum on one for all, and jemalloc, which gives memory back where the C library keeps it. One core
//! is left to the load.
//!
//! `bench-tuned PORT [compress | msgpack | tls CHAIN KEY]`

#[path = "../../../tests/server/src/bench_events.rs"]
mod bench_events;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

use antiphon::{Listener, Tls};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let port: u16 = match arguments.first() {
        Some(port) => port.parse()?,
        None => return Err("usage: bench-tuned PORT [compress | msgpack | tls CHAIN KEY]".into()),
    };
    let mut listener = Listener::tcp(("127.0.0.1", port))?;
    if let [_, word, chain, key] = &*arguments
        && word == "tls"
    {
        listener = listener.tls(&Tls::from_files(chain, key)?);
    }
    let io = bench_events::server();
    let cores = std::thread::available_parallelism()?.get();
    let cores = io.serving([listener]).per_core()?.threads(cores - 1);
    println!("listening on {}", cores.local_addrs()[0]);
    cores.run()?;
    Ok(())
}
