//! Values that come by HTTP go to the pages that watch them.
//!
//! ```sh
//! cargo run --bin dashboard
//! curl -X POST localhost:3000/metrics/cpu -H 'content-type: application/json' -d 0.7
//! ```
//!
//! ```js
//! const dashboard = io("http://localhost:3000");
//! dashboard.on("metric", (name, value, at) => show(name, value));
//! await dashboard.emitWithAck("watch", ["cpu", "memory"]);
//! ```
//!
//! Each metric has a room. An event to it is `retain`ed: a page that begins to watch has the last
//! value at once. It is also `conflate`d: of a metric that changes faster than a page reads only
//! the newest value waits. `GET /` tells how many watch what.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use antiphon::{Data, Listener, Rejection, Server, Socket};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};

/// What a page can watch at a time.
const MOST_METRICS: usize = 100;

/// The room of those who watch a metric.
const WATCHES: &str = "watches ";

fn watchers(metric: &str) -> String {
    format!("{WATCHES}{metric}")
}

// ---- HTTP ----

async fn report(
    State(io): State<Server>,
    Path(metric): Path<String>,
    Json(value): Json<f64>,
) -> Result<StatusCode, (StatusCode, String)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = now
        .map_or(0.0, |since| since.as_secs_f64() * 1_000.0)
        .round();
    io.to(watchers(&metric))
        .retain()
        .conflate(&metric)
        .emit("metric", (metric, value, millis))
        .into_result()
        .map(|()| StatusCode::ACCEPTED)
        .map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))
}

/// How many pages watch which metric, by all servers if there are several.
async fn audience(
    State(io): State<Server>,
) -> Result<Json<BTreeMap<String, usize>>, (StatusCode, String)> {
    let fetched = io.of("/").broadcast().sockets().await;
    let fetched = fetched.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    let mut audience = BTreeMap::new();
    for socket in &fetched.sockets {
        for metric in socket
            .rooms
            .iter()
            .filter_map(|it| it.strip_prefix(WATCHES))
        {
            *audience.entry(metric.to_owned()).or_default() += 1;
        }
    }
    Ok(Json(audience))
}

// ---- pages ----

async fn watch(socket: Socket, Data(metrics): Data<Vec<String>>) -> Result<usize, Rejection> {
    let rooms: Vec<_> = metrics.iter().map(|metric| watchers(metric)).collect();
    if socket.rooms().len() + rooms.len() > MOST_METRICS {
        let message = format!("a page can watch {MOST_METRICS} metrics");
        return Err(Rejection::new("too_many", message));
    }
    let count = rooms.len();
    socket.join(rooms); // the last values come behind this
    Ok(count)
}

async fn unwatch(socket: Socket, Data(metrics): Data<Vec<String>>) {
    let rooms: Vec<_> = metrics.iter().map(|metric| watchers(metric)).collect();
    socket.leave(rooms);
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt::init();
    let port = std::env::args().nth(1).unwrap_or_else(|| "3000".to_owned());

    let io = Server::new();
    io.of("/").on("watch", watch).on("unwatch", unwatch);

    let app = Router::new()
        .route("/", get(audience))
        .route("/metrics/{metric}", post(report))
        .with_state(io.clone());
    let listener = Listener::tcp(format!("127.0.0.1:{port}"))?;
    let serving = io.serving([listener]).app(app);
    println!("listening on {}", serving.local_addrs()[0]);
    serving.run_until(tokio::signal::ctrl_c()).await
}
