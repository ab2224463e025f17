//! What requests leave behind that were given up, or whose answers nobody reads.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
};

use antiphon::{Server, engine::EngineService};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use support::{sid, until};
use tower_service::Service;

/// Engine.IO 4 by polling, where packets are kept until they are confirmed.
const TRACKED: &str = "/socket.io/?EIO=4&transport=polling&offset=0";

/// A task that is never woken. It lives as long as somebody knows it.
struct Task;

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

/// A request that goes to the server without a connection.
fn request(
    service: &mut EngineService,
    method: &str,
    path: &str,
    body: &str,
) -> <EngineService as Service<Request<Full<Bytes>>>>::Future {
    let request = Request::builder().method(method).uri(path);
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    service.call(request.body(body).unwrap())
}

async fn text(service: &mut EngineService, method: &str, path: &str, body: &str) -> String {
    let answer = request(service, method, path, body).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn requests_that_have_gone_leave_no_wakers_in_a_session_that_is_not_read() {
    let io = Server::builder().max_running_handlers(1).build();
    let started = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&started);
    io.of("/").on("hang", move || {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<()>()
    });
    let mut service = io.service();
    let open = text(&mut service, "GET", TRACKED, "").await;
    let path = format!("{TRACKED}&sid={}", sid(&open));
    assert_eq!(text(&mut service, "POST", &path, "40").await, "ok");
    assert_eq!(
        text(&mut service, "POST", &path, "42[\"hang\"]").await,
        "ok"
    );
    until("the handler", || started.load(Ordering::Relaxed) > 0).await;
    let socket = io.of("/").sockets().remove(0);
    socket.emit("unread", "x");
    let mut tasks = Vec::new();
    for round in 0..100 {
        let task = Arc::new(Task);
        tasks.push(Arc::downgrade(&task));
        let waker = Waker::from(task);
        let mut context = Context::from_waker(&waker);
        let mut post = request(&mut service, "POST", &path, "3");
        assert!(post.as_mut().poll(&mut context).is_pending(), "{round}");
        // As a handler that gives up waiting for its client.
        let mut flushed = Box::pin(socket.flushed());
        assert!(flushed.as_mut().poll(&mut context).is_pending(), "{round}");
    }
    let known = tasks.iter().filter(|task| task.strong_count() > 0).count();
    assert!(known < 4, "{known} tasks are still known");
}
