//! Several listeners of a server's own: addresses, Unix sockets, an app, an end.

// Helpers beside the tests fail them.
#![allow(clippy::unwrap_used)]

mod support;

use std::{io, net::SocketAddr, time::Duration};

use antiphon::{Args, DisconnectReason, Listener, Server, Serving, Socket};
use axum::{Router, routing::get};
use support::{Log, Received, WEBSOCKET, WebSocket, http, http_over, listener, within};
use tokio::{net::TcpStream, sync::oneshot, task::JoinHandle};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

fn echo() -> Server {
    let io = Server::new();
    io.of("/").on("echo", async |socket: Socket, args: Args| {
        socket.emit("echo", args);
    });
    io
}

fn tcp() -> Listener {
    Listener::tcp("127.0.0.1:0").unwrap()
}

fn run(serving: Serving) -> JoinHandle<io::Result<()>> {
    tokio::spawn(serving.run())
}

async fn ends(io: &Server, running: JoinHandle<io::Result<()>>) {
    within("close", io.close()).await;
    within("the end", running).await.unwrap().unwrap();
}

#[tokio::test]
async fn several_addresses_have_the_same_server_and_app() {
    let io = echo();
    let app = Router::new().route("/", get(async || "page"));
    let serving = io.serving([tcp(), tcp()]).app(app);
    let addresses = serving.local_addrs();
    assert_eq!(addresses.len(), 2);
    let running = run(serving);
    let mut clients = Vec::new();
    for &address in &addresses {
        assert_eq!(http(address, "GET /", "").await, (200, "page".to_owned()));
        let mut client = WebSocket::connect(address, WEBSOCKET).await;
        client.join().await;
        clients.push(client);
    }
    io.emit("all", ());
    for client in &mut clients {
        client.expect(r#"42["all"]"#).await;
    }
    ends(&io, running).await;
}

#[tokio::test]
async fn nothing_to_listen_on_is_an_error() {
    let error = Server::new().serving([]).run().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_in_words() {
    let (_listener, address) = listener().await;
    let errors = [
        Server::new().listen(address).await.unwrap_err(),
        Listener::tcp(address).unwrap_err(),
        Server::new().per_core(address).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let text = error.to_string();
        assert!(text.contains(&address.to_string()), "{text}");
        assert!(text.contains("another listener has the port"), "{text}");
    }
    let nowhere = Listener::tcp("203.0.113.1:3000").unwrap_err().to_string();
    assert!(
        nowhere.contains("no interface of this machine"),
        "{nowhere}"
    );
}

#[tokio::test]
async fn a_listener_that_was_bound_by_the_program_is_served() {
    let bound = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = bound.local_addr().unwrap();
    let io = echo();
    let running = run(io.serving([bound.into()]));
    assert_eq!(http(address, "GET /", "").await.0, 404);
    ends(&io, running).await;
}

#[tokio::test]
async fn a_runtime_for_each_core_has_several_listeners_and_an_app() {
    let io = echo();
    let app = Router::new().route("/", get(async || "page"));
    let cores = io.serving([tcp(), tcp()]).app(app).per_core().unwrap();
    let cores = cores.threads(2);
    let addresses = cores.local_addrs();
    let thread = std::thread::spawn(move || cores.run());
    for &address in &addresses {
        for _ in 0..5 {
            assert_eq!(http(address, "GET /", "").await.1, "page");
            let mut client = WebSocket::connect(address, WEBSOCKET).await;
            client.join().await;
        }
    }
    within("close", io.close()).await;
    let ended = tokio::task::spawn_blocking(|| thread.join().unwrap());
    within("the end of run", ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_runtime_for_each_core_says_that_it_must_not_run_in_another() {
    let cores = echo().per_core("127.0.0.1:0").unwrap();
    let error = cores.run().unwrap_err().to_string();
    for way in [
        "#[tokio::main]",
        "std::thread::spawn",
        "Server::serving(..)",
    ] {
        assert!(error.contains(way), "{error}");
    }
}

/// A server that notes who leaves.
fn with_goodbyes() -> (Server, Log) {
    let log = Log::default();
    let io = Server::builder().state(log.clone()).build();
    io.of("/").on_disconnect(
        async |antiphon::State(log): antiphon::State<Log>, reason: DisconnectReason| {
            log.note(reason);
        },
    );
    (io, log)
}

/// A client by WebSocket and one whose poll waits, at an address.
async fn guests(address: SocketAddr) -> (WebSocket<TcpStream>, JoinHandle<(u16, String)>) {
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
    let poll = format!("GET {POLLING}&sid={}", support::sid(&open));
    let waiting = tokio::spawn(async move { http(address, &poll, "").await });
    // It has come when something that was asked for later has been answered.
    http(address, "GET /", "").await;
    (client, waiting)
}

async fn are_seen_off(
    mut client: WebSocket<TcpStream>,
    poll: JoinHandle<(u16, String)>,
    log: &Log,
) {
    assert!(matches!(client.next().await, Received::Closed(Some(1000))));
    let answer = within("the poll", poll).await.unwrap();
    assert_eq!(answer, (200, "1".to_owned()));
    assert_eq!(log.seen(), ["server shutting down"]);
}

#[tokio::test]
async fn a_signal_ends_the_own_listener_and_its_clients_in_order() {
    let (io, log) = with_goodbyes();
    let (signal, signalled) = oneshot::channel::<()>();
    let serving = io.serving([tcp()]).app(Router::new());
    let address = serving.local_addrs()[0];
    let running = tokio::spawn(serving.run_until(signalled));
    let (client, poll) = guests(address).await;
    signal.send(()).unwrap();
    within("the end", running).await.unwrap().unwrap();
    are_seen_off(client, poll, &log).await;
}

#[tokio::test]
async fn a_signal_ends_axum_and_its_clients_in_order() {
    let (io, log) = with_goodbyes();
    let (signal, signalled) = oneshot::channel::<()>();
    let (listener, address) = listener().await;
    let app = Router::new().merge(io.router());
    let serving = axum::serve(listener, app).with_graceful_shutdown(io.closed_by(signalled));
    let running = tokio::spawn(serving.into_future());
    let (client, poll) = guests(address).await;
    signal.send(()).unwrap();
    // Without the server's close it would be the time of a poll.
    let ended = tokio::time::timeout(Duration::from_secs(10), running).await;
    ended.unwrap().unwrap().unwrap();
    are_seen_off(client, poll, &log).await;
}

#[tokio::test]
async fn axum_ends_too_if_the_server_is_closed_by_other_code() {
    let (io, log) = with_goodbyes();
    let (listener, address) = listener().await;
    let app = Router::new().merge(io.router());
    let never = std::future::pending::<()>();
    let serving = axum::serve(listener, app).with_graceful_shutdown(io.closed_by(never));
    let running = tokio::spawn(serving.into_future());
    let (client, poll) = guests(address).await;
    within("close", io.close()).await;
    within("the end", running).await.unwrap().unwrap();
    are_seen_off(client, poll, &log).await;
}

#[cfg(unix)]
mod unix {
    use std::{
        fs,
        os::unix::{fs::PermissionsExt as _, net::UnixListener},
        path::PathBuf,
    };

    use tokio::net::UnixStream;

    use super::*;

    /// A folder that is removed with this.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("antiphon-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn socket(&self) -> PathBuf {
            self.0.join("io.sock")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn a_unix_socket_carries_polling_websocket_and_the_app() {
        let folder = Folder::new("carries");
        let path = folder.socket();
        let io = echo();
        io.of("/").on("where", async |socket: Socket| {
            assert_eq!(socket.handshake().address(), None);
        });
        let app = Router::new().route("/", get(async || "page"));
        let listeners = [tcp(), Listener::unix(&path, 0o600).unwrap()];
        let running = run(io.serving(listeners).app(app));
        let connect = || async { UnixStream::connect(&path).await.unwrap() };
        let page = http_over(connect().await, "GET /", "").await;
        assert_eq!(page, (200, "page".to_owned()));
        let (status, open) = http_over(connect().await, &format!("GET {POLLING}"), "").await;
        assert_eq!(status, 200, "{open}");
        let goodbye = format!("POST {POLLING}&sid={}", support::sid(&open));
        assert_eq!(http_over(connect().await, &goodbye, "1").await.0, 200);
        let mut client = WebSocket::over(connect().await, WEBSOCKET).await;
        client.join().await;
        client.send(r#"420["where"]"#).await;
        client.expect("430[]").await;
        // Larger than what the socket takes at once: the rest is written when there is room again.
        let large = format!(r#"42["echo","{}"]"#, "x".repeat(900_000));
        for _ in 0..3 {
            client.send(&large).await;
            client.expect(&large).await;
        }
        ends(&io, running).await;
        assert!(matches!(client.next().await, Received::Closed(Some(1000))));
        assert!(!path.exists(), "the file is left");
    }

    #[tokio::test]
    async fn the_file_has_its_permissions() {
        let folder = Folder::new("permissions");
        let _listener = Listener::unix(folder.socket(), 0o620).unwrap();
        let mode = fs::metadata(folder.socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o620);
    }

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_replaced() {
        let folder = Folder::new("left");
        // The file stays when a listener of the standard library is dropped.
        drop(UnixListener::bind(folder.socket()).unwrap());
        let listener = Listener::unix(folder.socket(), 0o600).unwrap();
        let io = echo();
        let running = run(io.serving([listener]));
        let stream = UnixStream::connect(folder.socket()).await.unwrap();
        assert_eq!(http_over(stream, "GET /", "").await.0, 404);
        ends(&io, running).await;
    }

    #[tokio::test]
    async fn a_socket_that_is_in_use_and_a_file_are_left_alone() {
        let folder = Folder::new("use");
        let first = Listener::unix(folder.socket(), 0o600).unwrap();
        let error = Listener::unix(folder.socket(), 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        assert!(
            error.to_string().contains("another process listens there"),
            "{error}"
        );
        assert!(folder.socket().exists());
        drop(first);
        assert!(!folder.socket().exists());
        fs::write(folder.socket(), "letters").unwrap();
        let error = Listener::unix(folder.socket(), 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
        assert_eq!(fs::read(folder.socket()).unwrap(), b"letters");
        let error = Listener::unix(folder.0.join("none/io.sock"), 0o600).unwrap_err();
        assert!(error.to_string().contains("folder must be made"), "{error}");
    }

    #[tokio::test]
    async fn the_file_of_a_successor_is_left_alone() {
        let folder = Folder::new("successor");
        let first = Listener::unix(folder.socket(), 0o600).unwrap();
        fs::remove_file(folder.socket()).unwrap();
        let _second = Listener::unix(folder.socket(), 0o600).unwrap();
        drop(first);
        assert!(folder.socket().exists());
    }

    #[tokio::test]
    async fn the_threads_of_each_core_share_a_unix_socket() {
        let folder = Folder::new("cores");
        let path = folder.socket();
        let io = echo();
        let serving = io.serving([Listener::unix(&path, 0o600).unwrap()]);
        let cores = serving.per_core().unwrap().threads(3);
        assert_eq!(cores.local_addrs(), []);
        let thread = std::thread::spawn(move || cores.run());
        for _ in 0..10 {
            let stream = UnixStream::connect(&path).await.unwrap();
            WebSocket::over(stream, WEBSOCKET).await.join().await;
        }
        within("close", io.close()).await;
        let ended = tokio::task::spawn_blocking(|| thread.join().unwrap());
        within("the end of run", ended).await.unwrap().unwrap();
        assert!(!path.exists(), "the file is left");
    }
}
