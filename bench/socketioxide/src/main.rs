//! The server of `bench_server.rs`, on socketioxide: stock settings, handlers as its README writes
//! them.
//!
//! `bench-socketioxide PORT [BUFFER]`, where the buffer is that of a socket, in packets: stock, what
//! is for a socket that 128 wait for is lost.

use axum::Router;
use bytes::Bytes;
use serde_json::Value;
use socketioxide::{
    SocketIo,
    extract::{AckSender, Data, SocketRef},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = match arguments.next() {
        Some(port) => port.parse()?,
        None => return Err("usage: bench-socketioxide PORT [BUFFER]".into()),
    };
    let mut builder = SocketIo::builder();
    if let Some(buffer) = arguments.next() {
        builder = builder.max_buffer_size(buffer.parse()?);
    }

    let (layer, io) = builder.build_layer();
    io.ns("/", async |socket: SocketRef| {
        socket.on(
            "echo",
            async |socket: SocketRef, Data(data): Data<Value>| {
                socket.emit("echo", &data).ok();
            },
        );
        socket.on(
            "binary",
            async |socket: SocketRef, Data(data): Data<Bytes>| {
                socket.emit("binary", &data).ok();
            },
        );
        socket.on("ack", async |Data(data): Data<Value>, ack: AckSender| {
            ack.send(&data).ok();
        });
        socket.on(
            "broadcast",
            async |io: SocketIo, Data(data): Data<Value>| {
                io.emit("broadcast", &data).await.ok();
            },
        );
        socket.on(
            "join",
            async |socket: SocketRef, Data(room): Data<String>, ack: AckSender| {
                socket.join(room.clone());
                ack.send(&room).ok();
            },
        );
        socket.on("room", async |io: SocketIo, Data(data): Data<Value>| {
            io.to("r").emit("room", &data).await.ok();
        });
    });

    let app = Router::new().layer(layer);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
