//! Uses of the API that look right and aren't: each ends in an error of the compiler, in an error, or
//! in a line of the log that says what to write instead. What the guide says of those that can't be
//! told is true. (`tests/docs/parity.test.js` checks that the tests are there.)
//!
//! | wrong use | its tests |
//! |---|---|
//! | a wrong signature of a handler, a value that serde doesn't know, a forgotten `await` | `tests/messages` of the repository |
//! | arguments that don't fit | `silence.rs`: `arguments_that_do_not_fit_are_said_with_their_path` |
//! | a handler that blocks | `sync_handlers.rs`: `a_handler_that_blocks_is_named` |
//! | a value that JSON can't have | `silence.rs`: `what_json_cannot_have_is_said_with_its_event`, `a_reply_that_json_cannot_have_is_said_and_answered` |
//! | a state or an extension that nobody has given | `silence.rs`: `a_state_that_was_not_given_is_said_with_its_type`, `a_value_that_nobody_has_inserted_is_said_with_its_type`, `a_value_that_a_middleware_misses_is_said_with_its_type` |
//! | an event that no handler takes | `silence.rs`: `an_unknown_event_is_said_once_a_minute_with_what_to_do` |
//! | a port or a Unix socket in use | `listeners.rs`: `a_port_that_is_taken_is_an_error_in_words`, `a_socket_that_is_in_use_and_a_file_are_left_alone` |
//! | a wrong or missing origin of CORS | `hints.rs`: `a_refused_origin_may_connect_with_the_option_that_the_hint_names`, `an_origin_that_cannot_be_listed_is_allowed_as_the_panic_says`; `silence.rs`: `a_refused_origin_names_the_option`; here |
//! | nested routers, layers around, two servers | here |
//! | hyper without `with_upgrades` | `serving.rs`: `http_without_upgrades_says_what_is_missing` |
//! | a runtime for each core within a runtime | `listeners.rs`: `a_runtime_for_each_core_says_that_it_must_not_run_in_another` |
//! | axum ends before the server is closed | `listeners.rs`: `a_signal_ends_axum_and_its_clients_in_order` is the right order; here |
//! | a closed server is to listen again | `requests.rs`: `a_server_that_was_closed_says_that_another_one_is_to_be_built` |
//! | a handler waits for the server's close | `silence.rs`: `a_handler_that_waits_for_the_servers_close_is_told_so` |

#![allow(clippy::unwrap_used)]

mod support;

use std::{net::SocketAddr, time::Duration};

use antiphon::{Data, Server, Socket};
use axum::{
    Router,
    body::Body,
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode, header::ACCESS_CONTROL_ALLOW_ORIGIN};
use support::{WEBSOCKET, WebSocket, http, listener, sid};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

async fn serve(app: Router) -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(axum::serve(listener, app).into_future());
    address
}

/// The status of a handshake over polling below this prefix.
async fn opens(address: SocketAddr, prefix: &str) -> u16 {
    http(address, &format!("GET {prefix}{POLLING}"), "").await.0
}

fn page() -> Router {
    Router::new().route("/", get(async || "page"))
}

#[tokio::test]
async fn a_router_that_is_nested_has_its_path_behind_the_prefix() {
    let io = Server::new();
    let api = Router::new().nest("/v1", io.router());
    let address = serve(Router::new().nest("/api", api)).await;
    assert_eq!(opens(address, "/api/v1").await, 200);
    // Below its own path it is at `/socket.io/socket.io`; its service is at the prefix.
    let address = serve(Router::new().nest("/socket.io", io.router())).await;
    assert_eq!(opens(address, "").await, 404);
    assert_eq!(opens(address, "/socket.io").await, 200);
    let address = serve(Router::new().nest_service("/socket.io", io.service())).await;
    assert_eq!(opens(address, "").await, 200);
}

#[tokio::test]
async fn the_layer_belongs_around_the_whole_app() {
    let io = Server::new();
    let address = serve(page().layer(io.layer())).await;
    assert_eq!(opens(address, "").await, 200);
    assert_eq!(http(address, "GET /", "").await.1, "page");
    // Routers that it was put on sooner: what is merged or nested later goes past it.
    let merged = Router::new().layer(io.layer()).merge(page());
    assert_eq!(opens(serve(merged).await, "").await, 404);
    let nested = Router::new().nest("/api", page().layer(io.layer()));
    assert_eq!(opens(serve(nested).await, "/api").await, 404);
}

#[tokio::test]
async fn two_servers_have_paths_of_their_own() {
    let [first, second] = ["/first", "/second"].map(|path| {
        let io = Server::builder().path(path).build();
        io.on("path", move || path);
        io
    });
    let address = serve(first.router().merge(second.router())).await;
    for path in ["/first", "/second"] {
        let handshake = format!("{path}/?EIO=4&transport=websocket");
        let mut client = WebSocket::connect(address, &handshake).await;
        client.join().await;
        client.send(r#"420["path"]"#).await;
        client.expect(&format!(r#"430["{path}"]"#)).await;
    }
}

#[test]
#[should_panic(expected = "conflict with previously registered route: /socket.io")]
fn two_servers_at_one_path_are_refused() {
    let _app: Router = Server::new().router().merge(Server::new().router());
}

/// A layer that puts other bodies around those of requests and responses, and a header on.
async fn wraps(request: Request, next: Next) -> Response {
    let mut response = next.run(request.map(Body::new)).await.map(Body::new);
    let anyone = HeaderValue::from_static("*");
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, anyone);
    response
}

fn echo() -> Server {
    let io = Server::new();
    io.on("echo", |socket: Socket, Data(text): Data<String>| {
        socket.emit("echo", text)
    });
    io
}

async fn echoes(client: &mut WebSocket<tokio::net::TcpStream>) {
    client.send(r#"42["echo","x"]"#).await;
    client.expect(r#"42["echo","x"]"#).await;
}

#[tokio::test]
async fn layers_around_it_may_change_requests_and_responses() {
    let address = serve(echo().router().layer(middleware::from_fn(wraps))).await;
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    echoes(&mut client).await;
    let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
    let session = format!("{POLLING}&sid={}", sid(&open));
    assert_eq!(http(address, &format!("POST {session}"), "40").await.0, 200);
    let (status, joined) = http(address, &format!("GET {session}"), "").await;
    assert!(status == 200 && joined.starts_with("40"), "{joined}");
    let large = format!(r#"42["echo","{}"]"#, "x".repeat(100_000));
    assert_eq!(
        http(address, &format!("POST {session}"), &large).await.0,
        200
    );
    assert_eq!(
        http(address, &format!("GET {session}"), "").await,
        (200, large)
    );
}

#[tokio::test]
async fn headers_of_cors_by_a_layer_let_no_page_in() {
    let address = serve(echo().router().layer(middleware::from_fn(wraps))).await;
    // The rest of the request's line becomes the value of `x`.
    let handshake = format!("GET {POLLING} HTTP/1.1\r\nOrigin: https://app.example\r\nx:");
    let (status, body) = http(address, &handshake, "").await;
    assert_eq!(status, 403);
    assert!(body.contains("Cors::origins"), "{body}");
}

/// A layer that waits for no response longer than this.
const IMPATIENCE: Duration = Duration::from_millis(200);

async fn gives_up(request: Request, next: Next) -> Response {
    let response = tokio::time::timeout(IMPATIENCE, next.run(request)).await;
    response.unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response())
}

#[tokio::test]
async fn a_layer_that_gives_up_a_poll_ends_its_session_and_no_websocket() {
    let io = echo();
    let address = serve(io.router().layer(middleware::from_fn(gives_up))).await;
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
    let poll = format!("GET {POLLING}&sid={}", sid(&open));
    assert_eq!(http(address, &poll, "").await.0, 408);
    let (status, body) = http(address, &poll, "").await;
    assert!(
        status == 400 && body.contains("Session ID unknown"),
        "{body}"
    );
    echoes(&mut client).await;
    assert_eq!(io.stats().sessions, 1);
}

#[tokio::test]
async fn axum_without_the_servers_close_waits_for_its_clients() {
    let io = echo();
    let (listener, address) = listener().await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = axum::serve(listener, io.router()).with_graceful_shutdown(async {
        let _ = stopped.await;
    });
    let serving = tokio::spawn(serving.into_future());
    let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
    let poll = format!("GET {POLLING}&sid={}", sid(&open));
    let poll = tokio::spawn(async move { http(address, &poll, "").await });
    // It has come when something that was asked for later has been answered.
    http(address, "GET /other", "").await;
    stop.send(()).unwrap();
    tokio::time::sleep(IMPATIENCE).await;
    assert!(!serving.is_finished() && !poll.is_finished());
    // `closed_by` is what axum's shutdown is to wait for.
    support::within("close", io.close()).await;
    assert_eq!(poll.await.unwrap(), (200, "1".to_owned()));
    support::within("the end", serving).await.unwrap().unwrap();
}
