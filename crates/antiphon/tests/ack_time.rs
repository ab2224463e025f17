//! The time of an emit that asks for answers: it begins with the emit and bounds all, also an adapter
//! that never says how many receivers there are.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use antiphon::{
    AckError, RemoteSocket, Room, Server, Target,
    adapter::{Adapter, AdapterError, Answers, Flags, Local, Outgoing},
};
use support::{WEBSOCKET, WebSocket, serve, within};

type Resolves<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Sends to the sockets of this server and waits for others, which never answer.
struct Deaf(Local);

impl Adapter for Deaf {
    fn broadcast(&self, event: &Outgoing, target: &Target, flags: Flags) {
        self.0.broadcast(event, target, flags);
    }

    fn broadcast_with_ack(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
        answers: Answers,
    ) -> Resolves<usize> {
        let _ = self.0.broadcast_with_ack(event, target, flags, &answers);
        Box::pin(async move {
            let _answers = answers;
            pending().await
        })
    }

    fn join(&self, target: &Target, rooms: &[Room], _: Flags) {
        self.0.join(target, rooms);
    }

    fn leave(&self, target: &Target, rooms: &[Room], _: Flags) {
        self.0.leave(target, rooms);
    }

    fn disconnect(&self, target: &Target, close: bool, _: Flags) {
        self.0.disconnect(target, close);
    }

    fn fetch(&self, _: &Target, _: Flags) -> Resolves<Result<Vec<RemoteSocket>, AdapterError>> {
        Box::pin(pending())
    }
}

fn deaf() -> Server {
    Server::builder()
        .adapter(|_, local| Arc::new(Deaf(local)))
        .ack_timeout(Duration::from_millis(300))
        .build()
}

#[tokio::test]
async fn what_has_come_counts_also_if_the_adapter_never_does() {
    let io = deaf();
    let namespace = io.of("/");
    let address = serve(&io).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = WebSocket::connect(address, WEBSOCKET).await;
        client.join().await;
        clients.push(client);
    }
    let asked = namespace.emit_with_ack::<u8>("question", ());
    for client in &mut clients[..2] {
        let question = client.expect_prefix("42").await;
        let id = &question[2..question.find('[').unwrap()];
        client.send(&format!("43{id}[7]")).await;
    }
    let collected = within("the time", asked).await.unwrap();
    let answers = collected
        .answers
        .iter()
        .map(|(_, it)| *it.as_ref().unwrap());
    assert_eq!(answers.collect::<Vec<_>>(), [7, 7]);
    assert_eq!(collected.expected, None);
    assert!(!collected.is_complete());
}

#[tokio::test]
async fn many_answers_that_nobody_has_looked_at_yet_count() {
    let io = deaf();
    let namespace = io.of("/");
    let address = serve(&io).await;
    let asked = {
        let mut clients = Vec::new();
        for _ in 0..200 {
            let mut client = WebSocket::connect(address, WEBSOCKET).await;
            client.join().await;
            clients.push(client);
        }
        let asked = namespace.broadcast().timeout(Duration::from_secs(2));
        let asked = asked.emit_with_ack::<u8>("question", ());
        for client in &mut clients {
            let question = client.expect_prefix("42").await;
            let id = &question[2..question.find('[').unwrap()];
            client.send(&format!("43{id}[7]")).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        asked
    };
    let collected = within("what has come", asked).await.unwrap();
    assert_eq!(collected.answers.len(), 200);
}

#[tokio::test]
async fn an_adapter_that_never_fetches_is_an_error() {
    let fetched = deaf().of("/").broadcast().sockets();
    let error = within("the time", fetched).await.unwrap_err();
    assert!(matches!(error, AdapterError::NoAnswer), "{error}");
}

#[tokio::test]
async fn a_count_of_receivers_is_told_if_the_adapter_has_one() {
    let io = Server::new();
    let collected = io
        .of("/")
        .emit_with_ack::<u8>("question", ())
        .await
        .unwrap();
    assert_eq!(collected.expected, Some(0));
    assert!(collected.is_complete());
}

#[tokio::test]
async fn the_time_begins_with_the_emit() {
    let io = Server::new();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let sender = std::sync::Mutex::new(Some(sender));
    io.of("/").on_connect(move |socket: antiphon::Socket| {
        sender.lock().unwrap().take().unwrap().send(socket).ok();
        async {}
    });
    let mut client = WebSocket::connect(serve(&io).await, WEBSOCKET).await;
    client.join().await;
    let socket = within("a socket", receiver).await.unwrap();
    let time = Duration::from_millis(400);
    let one = socket.timeout(time).emit_with_ack::<u8>("e", ());
    let all = io.of("/").broadcast().timeout(time);
    let all = all.emit_with_ack::<u8>("e", ());
    tokio::time::sleep(time * 2).await;
    // It is up already: nothing more is waited for.
    let begun = tokio::time::Instant::now();
    let error = within("one", one).await.unwrap_err();
    assert!(matches!(error, AckError::Timeout), "{error}");
    let collected = within("all", all).await.unwrap();
    assert_eq!((collected.answers.len(), collected.expected), (0, Some(1)));
    assert!(begun.elapsed() < time, "{:?}", begun.elapsed());
}
