//! The server that the public protocol suites of Engine.IO and Socket.IO are run against.
//!
//! `cargo run --bin conformance [PORT]`, port 3000 where none is given:
//!
//! * `/engine.io/` echoes every message;
//! * `/socket.io/` has the namespaces `/` and `/custom`, which emit `auth` on connection, answer
//!   `message` with `message-back`, `message-with-ack` with its arguments, and `emit-with-ack` with
//!   an emit that asks for an acknowledgement and emits what that brought.
//!
//! The heartbeat is 300 / 200 ms, as the suites ask.

use std::{sync::Arc, time::Duration};

use antiphon::{
    Args, Auth, Cors, Server, Socket,
    engine::{Engine, EngineConfig},
};
use antiphon_test_server::engine_echo;
use serde_json::{Value, json};

const PING_INTERVAL: Duration = Duration::from_millis(300);
const PING_TIMEOUT: Duration = Duration::from_millis(200);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt::init();
    let port: u16 = match std::env::args().nth(1) {
        Some(port) => port.parse()?,
        None => 3000,
    };

    let io = Server::builder()
        .ping_interval(PING_INTERVAL)
        .ping_timeout(PING_TIMEOUT)
        .connect_timeout(Duration::from_secs(1))
        .cors(Cors::any())
        // The suites leave out what says the revision, and want to be refused.
        .require_eio(true)
        .build();
    for name in ["/", "/custom"] {
        io.of(name)
            .on_connect(async |socket: Socket, Auth(auth): Auth<Option<Value>>| {
                socket.emit("auth", (auth.unwrap_or_else(|| json!({})),));
            })
            .on("message", async |socket: Socket, args: Args| {
                socket.emit("message-back", args);
            })
            .on(
                "message-with-ack",
                async |args: Args, ack: antiphon::Ack| {
                    ack.send(args);
                },
            )
            .on(
                "emit-with-ack",
                async |socket: Socket, args: Args| match socket
                    .emit_with_ack::<Args>("emit-with-ack", args)
                    .await
                {
                    Ok(answer) => {
                        socket.emit("emit-with-ack", answer);
                    }
                    Err(error) => tracing::info!(%error, "no acknowledgement"),
                },
            );
    }

    let mut config = EngineConfig::default();
    config.ping_interval = PING_INTERVAL;
    config.ping_timeout = PING_TIMEOUT;
    config.cors = Cors::any();
    config.require_eio = true;
    let echo = Engine::new(config, Arc::new(engine_echo::Echo));

    let app = axum::Router::new()
        .merge(io.router())
        .route_service("/engine.io/", echo.service());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
