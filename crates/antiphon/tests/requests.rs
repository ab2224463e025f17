//! What an application's own code sees of requests, and says to them.

mod support;

use antiphon::{Denial, Server, Socket};
use http::StatusCode;
use support::{WEBSOCKET, WebSocket, http, listener, serve, sid};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

#[derive(Debug, Clone, PartialEq, Eq)]
struct User(&'static str);

#[tokio::test]
async fn what_a_layer_puts_into_the_request_reaches_handlers() {
    let io = Server::builder().handshake_extension::<User>().build();
    io.of("/").on("who", async |socket: Socket| {
        let extensions = socket.handshake().extensions();
        let user = extensions.get::<User>().map(|user| user.0);
        (user, extensions.get::<u8>().is_some())
    });
    let (listener, address) = listener().await;
    let app = io
        .router()
        .layer((axum::Extension(User("Ada")), axum::Extension(1_u8)));
    tokio::spawn(axum::serve(listener, app).into_future());

    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    client.send(r#"421["who"]"#).await;
    client.expect(r#"431["Ada",false]"#).await;

    let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
    let url = format!("{POLLING}&sid={}", sid(&open));
    http(address, &format!("POST {url}"), "40\u{1e}421[\"who\"]").await;
    let (_, got) = http(address, &format!("GET {url}"), "").await;
    assert!(got.ends_with(r#"431["Ada",false]"#), "{got}");
}

#[tokio::test]
async fn an_application_refuses_with_a_status_a_code_and_a_text_of_its_own() {
    let io = Server::builder()
        .allow_request(async |request| match request.uri.query() {
            Some(query) if query.contains("deny=text") => Err("not today".into()),
            Some(query) if query.contains("deny=code") => Err(Denial::new("who are you?")
                .code(1_001)
                .status(StatusCode::UNAUTHORIZED)),
            Some(query) if query.contains("deny=secret") => Err(Denial::hide("db is down")),
            _ => Ok(()),
        })
        .build();
    let address = serve(&io).await;
    for (deny, status, says) in [
        ("text", 403, r#"{"code":4,"message":"not today","hint":"#),
        (
            "code",
            401,
            r#"{"code":1001,"message":"who are you?","hint":"#,
        ),
        ("secret", 403, r#"{"code":4,"message":"Forbidden","hint":"#),
    ] {
        for url in [POLLING, WEBSOCKET] {
            let upgrade = "HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\
                           \r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX:";
            let request = format!("GET {url}&deny={deny} {upgrade}");
            let (got, body) = http(address, &request, "").await;
            assert_eq!(got, status, "{url} {body}");
            assert!(body.starts_with(says), "{url} {body}");
            assert!(!body.contains("db is down"), "{body}");
        }
    }
    assert_eq!(http(address, &format!("GET {POLLING}"), "").await.0, 200);
}
