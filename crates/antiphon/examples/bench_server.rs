//! The server that load is put on: stock settings, and a few events on the main namespace.
//!
//! `cargo run --release --example bench_server -- PORT`
//!
//! * `echo` and `binary` emit themselves back with the same arguments;
//! * `ack` acknowledges with the same arguments;
//! * `broadcast` emits `broadcast` with them to all;
//! * `join` enters the room that it names, and acknowledges with the name;
//! * `room` emits `room` with its arguments to the room `r`.
//!
//! `bench/` has the same on the peers, and the load.

use antiphon::{Ack, Args, Data, Server, Socket};

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
        .on("binary", async |socket: Socket, args: Args| {
            socket.emit("binary", args);
        })
        .on("ack", async |args: Args, ack: Ack| ack.send_args(&args))
        .on("broadcast", async |io: Server, args: Args| {
            io.emit("broadcast", args);
        })
        .on("join", async |socket: Socket, Data(room): Data<String>| {
            socket.join(room.as_str());
            room
        })
        .on("room", async |io: Server, args: Args| {
            io.to("r").emit("room", args);
        });

    let app = axum::Router::new().merge(io.router());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
