//! What is played while a connection breaks, and what its client is owed for it.
//!
//! The script emits in bursts, and goes on when its client has had what it is owed, or when a fault
//! has struck: so the next burst is missed. It changes rooms only where the socket is connected, so
//! that what is owed follows from the script alone.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use antiphon::{Recovery, Server, Socket};
use bytes::Bytes;
use tokio::{sync::mpsc, task::yield_now, time::sleep};

use crate::{
    client::{Client, Mode, Seen},
    proxy::{Fault, Kind, Proxy, Way},
    support::{listener, serve_on},
};

/// A conversation, and what happens to it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// How the client connects: the first time, the second, and so on; the last again and again.
    pub(crate) modes: Vec<Mode>,
    pub(crate) faults: Vec<Fault>,
}

/// What a conversation came to.
#[derive(Debug, Default)]
pub(crate) struct Played {
    pub(crate) to_server: usize,
    pub(crate) to_client: usize,
    pub(crate) connections: usize,
    pub(crate) recoveries: usize,
}

/// What the server's handlers note.
#[derive(Default)]
struct Noted {
    /// The sockets that it has had, with why they were not recovered.
    sockets: Vec<(Socket, Option<String>)>,
    /// Numbers that the client has sent.
    said: Vec<u64>,
}

struct Play {
    io: Server,
    noted: Arc<Mutex<Noted>>,
    client: Client,
    proxy: Proxy,
    said: mpsc::Sender<String>,
    owed: Vec<(String, usize)>,
    bursts: u64,
}

/// Plays the script, and checks that the client has had each event once and in order.
pub(crate) async fn play(case: &Case) -> Played {
    let noted = Arc::<Mutex<Noted>>::default();
    let io = server(&noted);
    let (listener, address) = listener().await;
    let serving = serve_on(&io, listener);
    let direct = Client::new(address);
    let proxy = {
        let twin = direct.clone();
        let duplicate = move |kind| {
            let twin = twin.clone();
            if kind == Kind::Duplicate {
                tokio::spawn(async move { twin.duplicate().await });
            }
        };
        Proxy::new(address, &case.faults, duplicate).await
    };
    let client = direct.at(proxy.address);
    let (said, outgoing) = mpsc::channel(4);
    let connecting = tokio::spawn(reconnect(client.clone(), case.modes.clone(), outgoing));
    let mut play = Play {
        io,
        noted,
        client,
        proxy,
        said,
        owed: Vec::new(),
        bursts: 0,
    };
    let done = tokio::time::timeout(Duration::from_secs(20), play.run()).await;
    connecting.abort();
    assert!(done.is_ok(), "not in time: {case:?}\n{}", play.told());
    let played = play.check(case);
    play.io.close().await;
    serving.abort();
    played
}

fn server(noted: &Arc<Mutex<Noted>>) -> Server {
    let io = Server::builder()
        .recovery(Recovery::new())
        // Clients don't say goodbye.
        .close_timeout(Duration::from_millis(5))
        .build();
    let (coming, saying) = (Arc::clone(noted), Arc::clone(noted));
    io.of("/")
        .on_connect(move |socket: Socket| {
            if !socket.recovered() {
                socket.join("r");
            }
            let why = socket.not_recovered().map(ToString::to_string);
            coming.lock().unwrap().sockets.push((socket, why));
            async {}
        })
        .on(
            "said",
            move |antiphon::Data(number): antiphon::Data<u64>| {
                saying.lock().unwrap().said.push(number);
                async {}
            },
        );
    io
}

/// The client, as often as its connection ends.
async fn reconnect(client: Client, modes: Vec<Mode>, mut outgoing: mpsc::Receiver<String>) {
    let mut modes = modes.into_iter();
    let mut mode = modes.next().unwrap();
    loop {
        client.connect(mode, &mut outgoing).await;
        mode = modes.next().unwrap_or(mode);
        sleep(Duration::from_millis(1)).await;
    }
}

impl Play {
    async fn run(&mut self) {
        // Before it has a session there is nothing to be resumed.
        while self.client.kept().pid.is_none() {
            sleep(Duration::from_micros(200)).await;
        }
        let first = self.live().await;
        let id = first.id().clone();
        let all = || self.io.of("/");
        let owe = |owed: &mut Vec<(String, usize)>, name: &str| owed.push((name.to_owned(), 0));
        let owed = &mut Vec::new();

        all().emit("e0", (1,));
        all().to("r").emit("e1", ());
        all().to("r").volatile().emit("volatile", ("text",));
        all().to(&id).emit("e2", ("text",));
        for name in ["e0", "e1", "e2"] {
            owe(owed, name);
        }
        self.end_burst(owed).await;

        // Nobody waits for its answer.
        drop(first.emit_with_ack::<()>("asks", ()));
        self.io
            .of("/")
            .to("r")
            .emit("e3", Bytes::from_static(b"12"));
        owed.push(("e3".to_owned(), 1));
        self.with_live(|socket| socket.join("c"), "c", true).await;
        self.io.of("/").to("c").emit("e4", ());
        owe(owed, "e4");
        self.end_burst(owed).await;

        let all = || self.io.of("/");
        all().to(["r", "c"]).emit("e5", ());
        all().except("c").emit("not this", ());
        all().broadcast().volatile().emit("volatile", ());
        // Its connection may have gone.
        first.emit("e6", (2,));
        for name in ["e5", "e6"] {
            owe(owed, name);
        }
        self.with_live(|socket| socket.leave("r"), "r", false).await;
        self.end_burst(owed).await;

        let all = || self.io.of("/");
        all().to("r").emit("not this", ());
        all().except("r").emit("e7", ());
        owe(owed, "e7");
        self.with_live(|socket| socket.leave("c"), "c", false).await;
        self.with_live(|socket| socket.join("r"), "r", true).await;
        let all = || self.io.of("/");
        all().to("r").emit("e8", ());
        all().to("c").emit("not this", ());
        owe(owed, "e8");
        self.end_burst(owed).await;
        self.settle(owed).await;

        self.io.of("/").emit("last", ());
        owe(owed, "last");
        self.settle(owed).await;
        self.owed = std::mem::take(owed);
    }

    /// Waits until the client has what it is owed, or until a fault strikes.
    async fn end_burst(&mut self, owed: &[(String, usize)]) {
        self.bursts += 1;
        let said = format!("42[\"said\",{}]", self.bursts);
        // It is lost with the connection.
        let _ = self.said.try_send(said);
        let mut struck = self.proxy.struck();
        struck.mark_unchanged();
        tokio::select! {
            _ = struck.changed() => {}
            () = self.settle(owed) => {}
        }
    }

    /// Waits until the client has what it is owed.
    async fn settle(&self, owed: &[(String, usize)]) {
        while self.logged().len() < owed.len() {
            sleep(Duration::from_micros(200)).await;
        }
    }

    /// The logged events that the client has had.
    fn logged(&self) -> Vec<(String, usize)> {
        let kept = self.client.kept();
        let events = kept.seen.iter().filter_map(|seen| match seen {
            Seen::Event(name, _, attachments) => Some((name.clone(), *attachments)),
            _ => None,
        });
        events
            .filter(|(name, _)| name != "volatile" && name != "asks")
            .collect()
    }

    /// The session's socket, as soon as it is connected.
    async fn live(&self) -> Socket {
        loop {
            let sid = self.client.kept().sid.clone().unwrap_or_default();
            if let Some(socket) = self.io.of("/").socket(&sid)
                && socket.is_connected()
            {
                return socket;
            }
            yield_now().await;
            sleep(Duration::from_micros(200)).await;
        }
    }

    /// Changes rooms of the session, so that it has them also if it is lost now.
    async fn with_live(&self, change: impl Fn(&Socket), room: &str, joined: bool) {
        loop {
            let socket = self.live().await;
            change(&socket);
            let is_in = socket.rooms().iter().any(|one| **one == *room);
            if is_in == joined && socket.is_connected() {
                return;
            }
        }
    }

    fn told(&self) -> String {
        let noted = self.noted.lock().unwrap();
        let sockets = noted.sockets.iter().map(|(socket, why)| {
            let state = (socket.is_connected(), socket.recovered());
            format!("{:?} {:?} {state:?} {why:?}", socket.id(), socket.rooms())
        });
        let sockets = sockets.collect::<Vec<_>>().join("\n");
        format!("{:?}\n{sockets}", *self.client.kept())
    }

    fn check(&self, case: &Case) -> Played {
        let told = || format!("{case:?}\n{}", self.told());
        assert_eq!(self.logged(), self.owed, "{}", told());
        let kept = self.client.kept();
        let mut connections = 0;
        let mut recoveries = 0;
        for seen in &kept.seen {
            if let Seen::Connected { recovered } = seen {
                connections += 1;
                recoveries += usize::from(*recovered);
            }
        }
        let times = |name: &str| {
            let is_it = |seen: &&Seen| matches!(seen, Seen::Event(one, ..) if one == name);
            kept.seen.iter().filter(is_it).count()
        };
        let (asked, volatile) = (times("asks"), times("volatile"));
        drop(kept);
        // Whoever knows a session resumes it.
        assert_eq!(connections, recoveries + 1, "{}", told());
        assert!(asked <= 1 && volatile <= 2, "{}", told());
        let noted = self.noted.lock().unwrap();
        let reasons: Vec<_> = noted
            .sockets
            .iter()
            .filter_map(|it| it.1.as_ref())
            .collect();
        assert!(reasons.is_empty(), "{reasons:?} {}", told());
        assert!(noted.said.is_sorted_by(|a, b| a < b), "{:?}", noted.said);
        Played {
            to_server: self.proxy.bytes(Way::ToServer),
            to_client: self.proxy.bytes(Way::ToClient),
            connections,
            recoveries,
        }
    }
}
