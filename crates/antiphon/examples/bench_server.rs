//! The server that load is put on: stock settings, and three events on the main namespace.
//!
//! `cargo run --release --example bench_server -- PORT`
//!
//! * `echo` emits `echo` back with the same arguments, text or binary;
//! * `ack` acknowledges with the same arguments;
//! * `broadcast` emits `broadcast` with them to all.

use antiphon::{Ack, Args, Server, Socket};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = match std::env::args().nth(1) {
        Some(port) => port.parse()?,
        None => return Err("usage: bench_server PORT".into()),
    };

    let io = Server::new();
    io.of("/")
        .on("echo", async |socket: Socket, args: Args| {
            socket.emit("echo", args);
        })
        .on("ack", async |args: Args, ack: Ack| ack.send_args(&args))
        .on("broadcast", async |io: Server, args: Args| {
            io.emit("broadcast", args);
        });

    let app = axum::Router::new().merge(io.router());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
