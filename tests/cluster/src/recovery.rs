//! A client that comes back, to whichever server: with a log that the servers share.

use std::{
    collections::HashMap,
    net::SocketAddr,
    ops::Deref,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use antiphon::{Data, Namespace, Recovery, Server, ServerBuilder, Socket};
use antiphon_cluster::{Cluster, ClusterStats, Emitter, Health, Trouble, node::NodeCluster};
use serde_json::Value;
use tokio::sync::watch;

use crate::{
    Client, NO_PING, Pair,
    support::{Received, WEBSOCKET, WebSocket, serve, sid, until, within},
};

/// What the servers of such a pair keep.
pub fn recovery() -> Recovery {
    Recovery::new().data::<crate::User>("user")
}

/// How the servers of such a pair are built.
pub fn builder() -> ServerBuilder {
    Server::builder()
        .recovery(recovery())
        .ping_interval(NO_PING)
}

/// What a client needs to come back.
#[derive(Clone)]
pub struct Session {
    pub sid: String,
    pid: String,
    /// That of the last event that has come.
    pub offset: Option<String>,
}

impl Session {
    /// The client on a connection to this server, and on another one as often as that is closed. The one
    /// before is open still, if it was.
    pub async fn back(&self, io: &Server) -> Returning {
        const PAUSE: Duration = Duration::from_millis(20);

        let address = serve(io).await;
        let back = async {
            loop {
                match self.comes(address).await {
                    Some(back) => return back,
                    None => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        within("a connection that isn't closed", back).await
    }

    /// The client on one connection. `None` if it is closed since another one has come for the session.
    pub async fn comes(&self, address: SocketAddr) -> Option<Returning> {
        let mut auth = serde_json::json!({ "pid": self.pid });
        if let Some(offset) = &self.offset {
            auth["offset"] = offset.clone().into();
        }
        let mut back = Returning::try_connect(address, &auth.to_string()).await?;
        back.session.offset.clone_from(&self.offset);
        Some(back)
    }

    /// As [`back`](Self::back), when its session has been saved.
    pub async fn back_at_last(&self, io: &Server) -> Returning {
        for _ in 0..400 {
            let back = self.back(io).await;
            if back.sid == self.sid {
                return back;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("its session isn't saved");
    }
}

/// A client that can come back.
pub struct Returning {
    raw: Client,
    pub session: Session,
}

impl Deref for Returning {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Returning {
    /// A new one, in a room.
    pub async fn joined(io: &Server, room: &str) -> Self {
        let mut client = Self::connect(serve(io).await, "").await;
        client.raw.send(&format!(r#"421["enter","{room}"]"#)).await;
        client.raw.expect_prefix("431[").await;
        client
    }

    async fn connect(address: SocketAddr, auth: &str) -> Self {
        let joined = Self::try_connect(address, auth).await;
        joined.expect("the connection was closed")
    }

    /// `None` if the connection is closed.
    async fn try_connect(address: SocketAddr, auth: &str) -> Option<Self> {
        let mut raw = WebSocket::connect(address, WEBSOCKET).await;
        raw.expect_prefix("0{").await;
        raw.send(&format!("40{auth}")).await;
        let connect = loop {
            match raw.next().await {
                Received::Text(text) if text.starts_with("40{") => break text,
                Received::Closed(_) => return None,
                // Behind an error of the namespace a stock client doesn't come again.
                Received::Text(text) => assert!(!text.starts_with("44"), "{text}"),
                Received::Binary(_) => {}
            }
        };
        let parsed: Value = serde_json::from_str(&connect[2..]).unwrap();
        Some(Self {
            raw,
            session: Session {
                sid: sid(&connect).to_owned(),
                pid: parsed["pid"].as_str().unwrap().to_owned(),
                offset: None,
            },
        })
    }

    /// The next event and its argument.
    pub async fn next(&mut self) -> (String, Value) {
        let text = self.raw.expect_prefix("42[").await;
        self.event(&text)
    }

    fn event(&mut self, text: &str) -> (String, Value) {
        let mut list: Vec<Value> = serde_json::from_str(&text[2..]).unwrap();
        self.session.offset = Some(list.pop().unwrap().as_str().unwrap().to_owned());
        let name = list[0].as_str().unwrap().to_owned();
        (name, list.pop().unwrap())
    }

    /// The arguments of the next events.
    pub async fn numbers(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            numbers.push(self.next().await.1.as_u64().unwrap());
        }
        numbers
    }

    /// The arguments of the events that have come, until nothing more does for a moment; and whether its
    /// connection is open yet.
    pub async fn what_is_there(&mut self) -> (Vec<u64>, bool) {
        const MOMENT: Duration = Duration::from_millis(20);

        let mut numbers = Vec::new();
        loop {
            match tokio::time::timeout(MOMENT, self.raw.next()).await {
                Err(_) => return (numbers, true),
                Ok(Received::Text(text)) => {
                    numbers.push(self.event(&text).1.as_u64().unwrap());
                }
                Ok(_) => return (numbers, false),
            }
        }
    }

    /// Its connection has been ended by the server.
    pub async fn ended(&mut self) {
        loop {
            if let Received::Closed(_) = within("the end", self.raw.next()).await {
                return;
            }
        }
    }
}

/// A client of each server, in one room.
pub async fn one_of_each(pair: &Pair) -> [Returning; 2] {
    let one = Returning::joined(&pair.servers[0], "a").await;
    let other = Returning::joined(&pair.servers[1], "a").await;
    pair.settle().await;
    [one, other]
}

/// What both servers emit to that room at once, an event each millisecond.
pub struct Load {
    each: u64,
    threads: Vec<thread::JoinHandle<()>>,
}

/// The numbers of the second server begin here.
const OTHER: u64 = 1_000_000;

impl Load {
    /// So many events of each server.
    pub fn begin(pair: &Pair, each: u64) -> Self {
        let emits = |(from, first): (Namespace, u64)| {
            thread::spawn(move || {
                for number in first..first + each {
                    from.to("a").emit("n", number);
                    thread::sleep(Duration::from_millis(1));
                }
            })
        };
        let threads = [(pair.one(), 0), (pair.two(), OTHER)];
        Self {
            each,
            threads: threads.into_iter().map(emits).collect(),
        }
    }

    /// All has come to both clients, once, in one order, and that of each server.
    pub async fn came(self, clients: &mut [Returning; 2]) {
        self.came_behind(clients, [Vec::new(), Vec::new()]).await;
    }

    /// The same, of which this has come before.
    async fn came_behind(self, clients: &mut [Returning; 2], mut got: [Vec<u64>; 2]) {
        let each = self.each;
        for (client, got) in clients.iter_mut().zip(&mut got) {
            let lacks = 2 * each as usize - got.len();
            got.extend(client.numbers(lacks).await);
        }
        assert_eq!(got[0], got[1]);
        for first in [0, OTHER] {
            let of_one = got[0].iter().filter(|it| **it / OTHER == first / OTHER);
            assert!(of_one.copied().eq(first..first + each), "{:?}", got[0]);
        }
        self.threads.into_iter().for_each(|it| it.join().unwrap());
    }
}

/// How a server sees its logs.
pub trait Watched {
    fn watch(&self) -> watch::Receiver<Health>;

    fn numbers(&self) -> ClusterStats;
}

impl Watched for Cluster {
    fn watch(&self) -> watch::Receiver<Health> {
        self.watch_health()
    }

    fn numbers(&self) -> ClusterStats {
        self.stats()
    }
}

impl Watched for NodeCluster {
    fn watch(&self) -> watch::Receiver<Health> {
        self.watch_health()
    }

    fn numbers(&self) -> ClusterStats {
        self.stats()
    }
}

/// A namespace's log that doesn't answer.
pub fn is_silent(health: &Health) -> bool {
    matches!(health, Health::Degraded(Trouble::LogSilent { namespace }) if **namespace == *"/")
}

/// While the broker of both servers keeps nothing and says nothing, each says so that has something
/// to keep, and how much that is; and that it is over.
pub async fn a_silent_log_is_seen<W: Watched, N: Deref<Target = W>>(
    pair: &Pair,
    nodes: &[N; 2],
    silence: impl AsyncFnOnce(),
    end: impl AsyncFnOnce(),
) {
    const EACH: u64 = 10;

    let mut clients = one_of_each(pair).await;
    silence().await;
    for number in 0..EACH {
        pair.one().to("a").emit("n", number);
        pair.two().to("a").emit("n", OTHER + number);
    }
    for node in nodes {
        let mut health = node.watch();
        let silent = health.wait_for(is_silent);
        within("its health", silent).await.unwrap();
        assert_eq!(node.numbers().waiting, EACH as usize);
    }
    end().await;
    for node in nodes {
        let mut health = node.watch();
        let ready = health.wait_for(|health| *health == Health::Ready);
        within("its health", ready).await.unwrap();
        until("nothing waits", || node.numbers().waiting == 0).await;
    }
    for client in &mut clients {
        let mut came = client.numbers(2 * EACH as usize).await;
        came.sort_unstable();
        assert!(came.into_iter().eq((0..EACH).chain(OTHER..OTHER + EACH)));
    }
}

/// Emits the numbers of a range to a room, by turns from both servers.
async fn emit(pair: &Pair, numbers: std::ops::Range<u64>) {
    let logged = async |of: antiphon::Namespace| {
        let history = of.history(Some("a"), None, 1_000).await;
        history.map_or(0, |history| history.len())
    };
    for number in numbers {
        let before = logged(pair.one()).await;
        let from = if number % 2 == 0 {
            pair.one()
        } else {
            pair.two()
        };
        from.to("a").emit("n", number);
        // Two servers emit at once, if one doesn't wait for the other.
        while logged(pair.one()).await == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub async fn a_client_comes_back_to_the_other_server(pair: Pair) {
    let mut client = Returning::joined(&pair.servers[0], "a").await;
    let mut other = Returning::joined(&pair.servers[1], "a").await;
    pair.settle().await;
    emit(&pair, 0..4).await;
    assert_eq!(client.numbers(4).await, [0, 1, 2, 3]);
    assert_eq!(other.numbers(4).await, [0, 1, 2, 3]);
    for round in 1..4 {
        let first = 4 * round;
        // Its connection is lost, and it misses some.
        let away = client.session.clone();
        drop(client);
        emit(&pair, first..first + 4).await;
        pair.one().to("elsewhere").emit("n", 1_000);
        let to = &pair.servers[(round % 2) as usize];
        let mut back = away.back(to).await;
        assert_eq!(back.sid, away.sid, "it is the same socket");
        let missed: Vec<_> = (first..first + 4).collect();
        assert_eq!(back.numbers(4).await, missed);
        assert_eq!(other.numbers(4).await, missed);
        client = back;
    }
    // It is in its room yet, and gets each event once.
    emit(&pair, 16..18).await;
    assert_eq!(client.numbers(2).await, [16, 17]);
    // What is emitted to it alone finds it on its server.
    pair.two().to(&client.sid).emit("n", 18);
    pair.one().to(&client.sid).emit("n", 19);
    let mut last = client.numbers(2).await;
    last.sort_unstable();
    assert_eq!(last, [18, 19]);
}

pub async fn a_client_whose_connection_is_open_yet_is_taken_over(pair: Pair) {
    let reasons = Arc::<Mutex<Vec<String>>>::default();
    let told = Arc::clone(&reasons);
    pair.one()
        .on_disconnect(move |_: Socket, reason: antiphon::DisconnectReason| {
            told.lock().unwrap().push(reason.to_string());
            async {}
        });
    let mut client = Returning::joined(&pair.servers[0], "a").await;
    pair.settle().await;
    emit(&pair, 0..2).await;
    assert_eq!(client.numbers(2).await, [0, 1]);
    let mut back = client.back(&pair.servers[1]).await;
    assert_eq!(back.sid, client.sid);
    client.ended().await;
    emit(&pair, 2..4).await;
    assert_eq!(back.numbers(2).await, [2, 3]);
    until("it is told", || reasons.lock().unwrap().len() == 1).await;
}

pub async fn what_is_emitted_while_clients_move_comes_once_and_in_order(pair: Pair) {
    const EACH: u64 = 300;

    let mut clients = one_of_each(&pair).await;
    let load = Load::begin(&pair, EACH);
    let mut got = [Vec::new(), Vec::new()];
    for round in 0..6 {
        for (index, client) in clients.iter_mut().enumerate() {
            got[index].extend(client.numbers(20).await);
            let back = client.back(&pair.servers[(round + index) % 2]).await;
            assert_eq!(back.sid, client.sid, "round {round}");
            *client = back;
        }
    }
    load.came_behind(&mut clients, got).await;
}

pub async fn a_server_that_closes_leaves_its_clients_to_the_other(pair: Pair) {
    let mut client = Returning::joined(&pair.servers[0], "a").await;
    pair.settle().await;
    emit(&pair, 0..2).await;
    assert_eq!(client.numbers(2).await, [0, 1]);
    pair.servers[0].close().await;
    client.ended().await;
    pair.two().to("a").emit("n", 2);
    let mut back = client.back(&pair.servers[1]).await;
    assert_eq!(back.sid, client.sid);
    assert_eq!(back.numbers(1).await, [2]);
}

pub async fn values_and_rooms_go_with_the_session(pair: Pair) {
    for io in &pair.servers {
        io.of("/")
            .on("name", async |socket: Socket, Data(name): Data<String>| {
                socket.insert(crate::User { name });
            });
        io.of("/").on("name?", async |socket: Socket| {
            (
                socket.recovered(),
                socket.get::<crate::User>().map(|user| user.name),
            )
        });
        io.of("/")
            .on("leave", async |socket: Socket, Data(room): Data<String>| {
                socket.leave(room);
            });
    }
    let mut client = Returning::joined(&pair.servers[0], "a").await;
    for text in [r#"["enter","b"]"#, r#"["leave","a"]"#, r#"["name","Ada"]"#] {
        client.raw.send(&format!("422{text}")).await;
        client.raw.expect_prefix("432[").await;
    }
    pair.settle().await;
    pair.two().to("b").emit("n", 1);
    assert_eq!(client.numbers(1).await, [1]);
    let mut back = client.back(&pair.servers[1]).await;
    back.raw.send(r#"423["name?"]"#).await;
    back.raw.expect(r#"433[true,"Ada"]"#).await;
    pair.one().to("a").emit("n", 2);
    pair.one().to("b").emit("n", 3);
    assert_eq!(back.numbers(1).await, [3]);
}

pub async fn an_emitter_is_logged_once(pair: Pair, emitter: Emitter) {
    emitter.connected().await;
    let mut clients = [
        Returning::joined(&pair.servers[0], "a").await,
        Returning::joined(&pair.servers[1], "a").await,
    ];
    pair.settle().await;
    for number in 0..10 {
        emitter.of("/").to("a").emit("n", &number).unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.numbers(10).await, (0..10).collect::<Vec<_>>());
    }
    emitter.of("/").to("a").emit("n", &10).unwrap();
    for (client, to) in clients.iter_mut().zip([1, 0]) {
        let mut back = client.back(&pair.servers[to]).await;
        assert_eq!(back.sid, client.sid);
        pair.one().to("a").emit("n", 11 + to as u64);
        let mut next = back.numbers(2).await;
        if next[0] == 10 {
            next.remove(0);
        }
        assert!(next[0] > 10, "{next:?}");
    }
}

pub async fn what_is_local_or_retained_or_volatile_is_that_yet(pair: Pair) {
    let mut one = Returning::joined(&pair.servers[0], "a").await;
    let mut two = Returning::joined(&pair.servers[1], "a").await;
    pair.settle().await;
    pair.one().to("a").local().emit("local", 1);
    pair.one().to("a").retain().emit("state", 2);
    assert_eq!(one.next().await, ("local".to_owned(), 1.into()));
    assert_eq!(one.next().await, ("state".to_owned(), 2.into()));
    assert_eq!(two.next().await, ("state".to_owned(), 2.into()));
    // Who joins later, on either server, gets what is retained.
    for io in &pair.servers {
        let mut client = Returning::connect(serve(io).await, "").await;
        client.raw.send(r#"421["enter","a"]"#).await;
        let mut came = HashMap::new();
        for _ in 0..2 {
            let text = client.raw.expect_prefix("4").await;
            came.insert(text[..3].to_owned(), text);
        }
        assert!(came["42["].starts_with(r#"42["state",2,"#), "{came:?}");
    }
    pair.two().to("a").volatile().emit("n", 3);
    assert_eq!(one.numbers(1).await, [3]);
    assert_eq!(two.numbers(1).await, [3]);
}

/// A test for each way to come back, of the pair that an async function gives.
#[macro_export]
macro_rules! test_recovery {
    ($pair:path) => {
        $crate::test_recovery! { $pair;
            a_client_comes_back_to_the_other_server
            a_client_whose_connection_is_open_yet_is_taken_over
            what_is_emitted_while_clients_move_comes_once_and_in_order
            a_server_that_closes_leaves_its_clients_to_the_other
            values_and_rooms_go_with_the_session
            what_is_local_or_retained_or_volatile_is_that_yet
        }
    };
    ($pair:path; $($scenario:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                $crate::recovery::$scenario($pair().await).await;
            }
        )*
    };
}
