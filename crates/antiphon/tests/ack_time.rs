//! The time of an emit that asks for answers: it begins with the emit and bounds all, also an
//! adapter that never says how many receivers there are.

#![allow(clippy::unwrap_used)]

mod support;

use std::{future::pending, sync::Arc, time::Duration};

use antiphon::{
    AckError, EmitError, RemoteSocket, Room, Server, Target,
    adapter::{
        Adapter, AdapterError, Answers, BoxFuture, Flags, Local, Outgoing, ServerAnswer,
        SocketAnswer,
    },
};
use support::{WEBSOCKET, WebSocket, serve, within};
use tokio::net::TcpStream;

/// Sends to the sockets of this server and waits for others, which never answer.
struct Deaf(Local);

/// Keeps the answers for as long as anybody waits.
fn keep<T: Send + 'static>(answers: Answers<T>) {
    let closed = answers.closed();
    tokio::spawn(async move {
        closed.await;
        drop(answers);
    });
}

impl Adapter for Deaf {
    fn broadcast(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
    ) -> Result<(), AdapterError> {
        self.0.broadcast(event, target, flags);
        Ok(())
    }

    fn broadcast_with_ack(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
        answers: Answers<SocketAnswer>,
    ) {
        let _ = self.0.broadcast_with_ack(event, target, flags, &answers);
        keep(answers);
    }

    fn join(&self, target: &Target, rooms: &[Room], _: Flags) -> Result<(), AdapterError> {
        self.0.join(target, rooms);
        Ok(())
    }

    fn leave(&self, target: &Target, rooms: &[Room], _: Flags) -> Result<(), AdapterError> {
        self.0.leave(target, rooms);
        Ok(())
    }

    fn disconnect(&self, target: &Target, close: bool, _: Flags) -> Result<(), AdapterError> {
        self.0.disconnect(target, close);
        Ok(())
    }

    fn fetch(&self, _: &Target, _: Flags, found: Answers<RemoteSocket>) {
        keep(found);
    }

    fn server_count(&self) -> BoxFuture<Result<usize, AdapterError>> {
        Box::pin(pending())
    }

    fn server_side_emit(&self, _: &Outgoing) -> Result<(), AdapterError> {
        Err(AdapterError::Full)
    }

    fn server_side_emit_with_ack(&self, _: &Outgoing, answers: Answers<ServerAnswer>) {
        keep(answers);
    }
}

fn deaf() -> Server {
    Server::builder()
        .adapter(|_: &str, local: Local| -> Arc<dyn Adapter> { Arc::new(Deaf(local)) })
        .ack_timeout(Duration::from_millis(300))
        .build()
}

/// Longer than answers take on a busy machine, and less than a test has.
const LONG: Duration = Duration::from_secs(15);

/// Answers the question that comes next: the server has it when this is over.
async fn answers(client: &mut WebSocket<TcpStream>) {
    let question = client.expect_prefix("42").await;
    let id = &question[2..question.find('[').unwrap()];
    client.send(&format!("43{id}[7]")).await;
    client.send("40/unknown,").await;
    client.expect_prefix("44/unknown,").await;
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
    let asked = namespace.broadcast().timeout(LONG);
    let asked = asked.emit_with_ack::<u8>("question", ());
    for client in &mut clients[..2] {
        answers(client).await;
    }
    // Its time is soon up.
    tokio::time::pause();
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
        let asked = namespace.broadcast().timeout(LONG);
        let asked = asked.emit_with_ack::<u8>("question", ());
        for client in &mut clients {
            answers(client).await;
        }
        // Its time is soon up.
        tokio::time::pause();
        tokio::time::sleep(LONG).await;
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
async fn an_adapter_that_never_counts_servers_is_an_error() {
    let io = deaf();
    let counted = within("the time", io.of("/").server_count()).await;
    assert_eq!(counted, Err(AdapterError::NoAnswer));
    let asked = io.of("/").server_side_emit_with_ack::<u8>("question", ());
    let error = within("the time", asked).await.unwrap_err();
    assert!(
        matches!(error, AckError::Adapter(AdapterError::NoAnswer)),
        "{error}"
    );
}

#[tokio::test]
async fn what_an_adapter_refuses_is_told() {
    let emitted = deaf().of("/").server_side_emit("news", ()).into_result();
    assert!(matches!(
        emitted,
        Err(EmitError::Adapter(AdapterError::Full))
    ));
}

#[tokio::test]
async fn a_server_alone_is_one_and_hears_nothing_of_itself() {
    let io = Server::new();
    let root = io.of("/");
    root.on_server_side("question", async |(): ()| 1);
    assert_eq!(root.server_count().await, Ok(1));
    assert!(root.server_side_emit("question", ()).is_queued());
    let asked = root.server_side_emit_with_ack::<u8>("question", ());
    let answered = asked.await.unwrap();
    assert!(answered.answers.is_empty() && answered.missing.is_empty());
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
    // Time goes on when nothing else does, and so isn't lost on a busy machine.
    tokio::time::pause();
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
