//! Recovery where several things happen at once: takeovers under load, claims that meet, a replay that is
//! cut, the room of the own id.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

#[path = "stored/late.rs"]
mod late;
mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use antiphon::{ConnectError, Recovery, Server, Socket, recovery::LogError};
use late::Store;
use serde_json::Value;
use socket2::SockRef;
use support::{Received, WEBSOCKET, WebSocket, serve, until, within};
use tokio::net::TcpSocket;

type Raw = WebSocket<tokio::net::TcpStream>;

/// A client that has joined, and what is needed to come back.
struct Client {
    raw: Raw,
    sid: String,
    pid: String,
    offset: Option<String>,
}

impl Client {
    /// A connection that says this when it joins.
    async fn open(address: SocketAddr, auth: &str) -> Raw {
        // The kernel takes little that isn't read.
        let socket = TcpSocket::new_v4().unwrap();
        SockRef::from(&socket)
            .set_recv_buffer_size(4 << 10)
            .unwrap();
        let stream = socket.connect(address).await.unwrap();
        let mut raw = WebSocket::over(stream, WEBSOCKET).await;
        raw.expect_prefix("0{").await;
        raw.send(&format!("40{auth}")).await;
        raw
    }

    /// What this connection has said is known when the next thing that it says is answered.
    async fn has_claimed(raw: &mut Raw) {
        raw.send("40/unknown,").await;
        raw.expect_prefix("44/unknown,").await;
    }

    async fn joined(mut raw: Raw, offset: Option<String>) -> Self {
        let connect = raw.expect_prefix("40{").await;
        let connect: Value = serde_json::from_str(&connect[2..]).unwrap();
        let text = |name: &str| connect[name].as_str().unwrap().to_owned();
        Self {
            raw,
            sid: text("sid"),
            pid: text("pid"),
            offset,
        }
    }

    async fn new(address: SocketAddr) -> Self {
        Self::joined(Self::open(address, "").await, None).await
    }

    /// What it says when it comes back.
    fn auth(&self) -> String {
        match &self.offset {
            Some(offset) => format!(r#"{{"pid":"{}","offset":"{offset}"}}"#, self.pid),
            None => format!(r#"{{"pid":"{}"}}"#, self.pid),
        }
    }

    /// The same client on another connection. The one before is open still.
    async fn back(&self, address: SocketAddr) -> Self {
        let raw = Self::open(address, &self.auth()).await;
        Self::joined(raw, self.offset.clone()).await
    }

    /// The first argument of the next event.
    async fn number(&mut self) -> u64 {
        let text = self.raw.expect_prefix("42[").await;
        let list: Vec<Value> = serde_json::from_str(&text[2..]).unwrap();
        self.offset = Some(list.last().unwrap().as_str().unwrap().to_owned());
        list[1].as_u64().unwrap()
    }

    /// Reads until its connection ends. Returns the numbers that came.
    async fn rest(&mut self) -> usize {
        let mut count = 0;
        loop {
            match within("the end", self.raw.next()).await {
                Received::Closed(_) => return count,
                _ => count += 1,
            }
        }
    }
}

fn recovering() -> Server {
    Server::builder().recovery(Recovery::new()).build()
}

/// The sockets, in the order in which they joined.
fn sockets_of(io: &Server) -> Arc<Mutex<Vec<Socket>>> {
    let sockets = Arc::<Mutex<Vec<Socket>>>::default();
    let joined = Arc::clone(&sockets);
    io.of("/").on_connect(move |socket: Socket| {
        joined.lock().unwrap().push(socket);
        async {}
    });
    sockets
}

async fn nth(sockets: &Mutex<Vec<Socket>>, index: usize) -> Socket {
    until("a socket", || sockets.lock().unwrap().len() > index).await;
    sockets.lock().unwrap()[index].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_emitted_during_takeovers_comes_once_and_in_order() {
    let io = recovering();
    let address = serve(&io).await;
    let sockets = sockets_of(&io);
    let mut client = Client::new(address).await;
    let first = nth(&sockets, 0).await;
    let ends = Arc::new(AtomicBool::new(false));
    let emitting = thread::spawn({
        let (io, ends, id) = (io.clone(), Arc::clone(&ends), client.sid.clone());
        move || {
            let mut number = 0;
            while !ends.load(Ordering::Relaxed) {
                match number % 2 {
                    0 => drop(io.to(&id).emit("n", number)),
                    // By a handle of the socket that was taken over long ago.
                    _ => drop(first.emit("n", number)),
                }
                number += 1;
                thread::sleep(Duration::from_micros(100));
            }
            number
        }
    });
    let mut next = 0;
    let mut read = async |client: &mut Client, upto: u64| {
        while next < upto {
            assert_eq!(client.number().await, next);
            next += 1;
        }
    };
    for takeover in 1..=20 {
        read(&mut client, 50 * takeover).await;
        let again = client.back(address).await;
        assert_eq!((&again.sid, &again.pid), (&client.sid, &client.pid));
        // The old connection may have had more, of which its client said nothing.
        tokio::spawn(async move { client.rest().await });
        client = again;
    }
    ends.store(true, Ordering::Relaxed);
    let count = emitting.join().unwrap();
    read(&mut client, count).await;
    assert_eq!(io.of("/").sockets().len(), 1);
}

#[tokio::test]
async fn of_two_connections_that_claim_a_session_at_once_one_gets_it() {
    let io = recovering();
    let address = serve(&io).await;
    let (log, gate) = (support::Log::default(), support::Gate::new());
    let asked = (log.clone(), gate.clone());
    io.of("/").on_connect(async |_: Socket| {});
    let client = Client::new(address).await;
    io.of("/").middleware(move |_: Socket| {
        let (log, gate) = asked.clone();
        async move {
            log.note("asked");
            gate.pass().await;
            Ok::<_, ConnectError>(())
        }
    });
    let mut one = Client::open(address, &client.auth()).await;
    let mut other = Client::open(address, &client.auth()).await;
    until("both claims", || log.seen().len() == 2).await;
    gate.open(2);
    let (Received::Text(one), Received::Text(other)) = tokio::join!(one.next(), other.next())
    else {
        panic!("both are told");
    };
    let (in_, out) = match one.starts_with("40") {
        true => (one, other),
        false => (other, one),
    };
    assert!(in_.contains(&client.sid), "{in_}");
    assert_eq!(out, r#"44{"message":"resumed on another connection"}"#);
    let sockets = io.of("/").sockets();
    assert_eq!(sockets.len(), 1);
    assert_eq!(sockets[0].id().as_str(), client.sid);
}

/// On several threads the one that has come an instant earlier may claim an instant later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_connections_that_come_for_a_session_at_once_none_begins_anew() {
    let io = recovering();
    io.of("/").on_connect(async |_: Socket| {});
    let address = serve(&io).await;
    let client = Client::new(address).await;
    for _ in 0..1_000 {
        let all = [(); 4].map(|()| {
            let auth = client.auth();
            tokio::spawn(async move { Client::open(address, &auth).await.next().await })
        });
        for one in all {
            // The others are told that they are over, by one packet or another.
            if let Received::Text(told) = one.await.unwrap() {
                assert!(
                    !told.starts_with("40") || told.contains(&client.sid),
                    "{told}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_claims_its_session_while_it_is_resumed_gets_it() {
    let store = Store::new(true);
    let io = Server::builder().recovery(store.recovery()).build();
    let address = serve(&io).await;
    let client = Client::new(address).await;
    let (auth, sid) = (client.auth(), client.sid.clone());
    drop(client);
    until("its end", || io.of("/").sockets().is_empty()).await;
    // The first has taken the session, and waits until this is stored.
    io.emit("n", 1);
    let mut one = Client::open(address, &auth).await;
    Client::has_claimed(&mut one).await;
    let mut other = Client::open(address, &auth).await;
    Client::has_claimed(&mut other).await;
    assert_eq!(store.store(1), 1);
    one.expect(r#"44{"message":"resumed on another connection"}"#)
        .await;
    let mut other = Client::joined(other, None).await;
    assert_eq!(other.sid, sid);
    assert_eq!(other.number().await, 1);
}

#[tokio::test]
async fn what_is_no_offset_is_a_gap_and_what_is_no_private_id_asks_for_nothing() {
    let io = recovering();
    let address = serve(&io).await;
    let sockets = sockets_of(&io);
    let mut expected = Vec::new();
    for (auth, outcome) in [
        // Nothing received yet.
        (r#"{"pid":"PID","offset":null}"#, None),
        (r#"{"pid":"PID","offset":7}"#, Some(LogError::Gap)),
        (r#"{"pid":"PID","offset":""}"#, Some(LogError::Gap)),
        (r#"{"pid":"PID","offset":["1z:1"]}"#, Some(LogError::Gap)),
    ] {
        let client = Client::new(address).await;
        let auth = auth.replace("PID", &client.pid);
        let again = Client::joined(Client::open(address, &auth).await, None).await;
        assert_eq!(again.sid == client.sid, outcome.is_none(), "{auth}");
        expected.extend([None, outcome]);
    }
    for auth in [r#"{"pid":7,"offset":"1z:1"}"#, r#"{"pid":null}"#] {
        Client::joined(Client::open(address, auth).await, None).await;
        expected.push(None);
    }
    until("all", || sockets.lock().unwrap().len() == expected.len()).await;
    let sockets = sockets.lock().unwrap();
    let outcomes = sockets.iter().map(|socket| socket.not_recovered().cloned());
    assert_eq!(outcomes.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_socket_that_has_left_the_room_of_its_id_recovers_what_is_emitted_to_it_alone() {
    let io = recovering();
    let address = serve(&io).await;
    let sockets = sockets_of(&io);
    let mut client = Client::new(address).await;
    let socket = nth(&sockets, 0).await;
    socket.leave(socket.id());
    io.to(socket.id()).emit("n", 0);
    socket.emit("n", 1);
    assert_eq!(client.number().await, 1);
    let auth = client.auth();
    drop(client);
    until("the end", || !socket.is_connected()).await;
    io.to(socket.id()).emit("n", 2);
    socket.emit("n", 3);
    let again = Client::open(address, &auth).await;
    let mut client = Client::joined(again, None).await;
    assert_eq!(client.number().await, 3);
    let socket = nth(&sockets, 1).await;
    assert!(socket.recovered() && socket.rooms().is_empty());
    io.to(socket.id()).emit("n", 4);
    socket.emit("n", 5);
    assert_eq!(client.number().await, 5);
}

/// An event of 16 KiB.
fn emit_large(io: &Server, number: u64) {
    io.emit("n", (number, "x".repeat(16 << 10)));
}

#[tokio::test]
async fn a_replay_that_is_cut_goes_on_where_its_client_was() {
    let io = recovering();
    let address = serve(&io).await;
    let sockets = sockets_of(&io);
    let mut client = Client::new(address).await;
    emit_large(&io, 0);
    assert_eq!(client.number().await, 0);
    let mut next = 1;
    for cut in 0..4 {
        let (auth, offset) = (client.auth(), client.offset.clone());
        drop(client);
        // Many portions, of which it reads a part before it is cut again.
        for _ in 0..64 {
            emit_large(&io, next);
            next += 1;
        }
        client = Client::joined(Client::open(address, &auth).await, offset).await;
        for number in 0..10 {
            assert_eq!(client.number().await, cut * 10 + number + 1);
        }
    }
    for number in 41..next {
        assert_eq!(client.number().await, number);
    }
    // Its connect handler is called when it has had everything: of the others it was when they were cut.
    until("its handlers", || sockets.lock().unwrap().len() == 5).await;
    assert!(sockets.lock().unwrap()[1..].iter().all(Socket::recovered));
}

#[tokio::test]
async fn what_is_evicted_during_a_replay_ends_it_and_is_told() {
    let options = Recovery::new().max_bytes(2 << 20);
    let io = Server::builder().recovery(options).build();
    let address = serve(&io).await;
    let sockets = sockets_of(&io);
    let mut client = Client::new(address).await;
    emit_large(&io, 0);
    assert_eq!(client.number().await, 0);
    let socket = nth(&sockets, 0).await;
    let (auth, offset) = (client.auth(), client.offset.clone());
    drop(client);
    until("the end", || !socket.is_connected()).await;
    for number in 1..=100 {
        emit_large(&io, number);
    }
    // It comes back and reads nothing, while the log goes on.
    let mut client = Client::joined(Client::open(address, &auth).await, offset).await;
    for number in 101..=300 {
        emit_large(&io, number);
    }
    // What it has been sent comes, in order and without a hole.
    let mut last = 0;
    loop {
        match within("a packet", client.raw.next()).await {
            Received::Text(text) if text.starts_with("42[") => {
                let list: Vec<Value> = serde_json::from_str(&text[2..]).unwrap();
                assert_eq!(list[1].as_u64().unwrap(), last + 1);
                last += 1;
                client.offset = Some(list[3].as_str().unwrap().to_owned());
            }
            Received::Text(_) => {}
            _ => break,
        }
    }
    assert!((1..300).contains(&last), "{last}");
    let again = Client::joined(Client::open(address, &client.auth()).await, None).await;
    assert_ne!(again.sid, client.sid);
    let socket = nth(&sockets, 2).await;
    assert_eq!(socket.not_recovered(), Some(&LogError::Evicted));
}
