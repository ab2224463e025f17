//! The smallest chat: `cargo run --example chat`, then connect with any Socket.IO client.

use antiphon::{Data, Server, Socket};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let io = Server::new();

    io.of("/chat")
        .on_connect(async |socket: Socket| socket.join("lobby"))
        .on(
            "message",
            async |socket: Socket, Data(text): Data<String>| {
                socket.to("lobby").emit("message", &text);
            },
        )
        .on("add", async |Data((a, b)): Data<(i64, i64)>| a + b); // what a handler returns is its ack

    io.listen("127.0.0.1:3000").await
}
