//! A proxy that counts the bytes of a conversation and breaks it at one of them.
//!
//! A test owns it. Its faults are a queue: the first is armed, and counts the bytes of its direction
//! on all connections together; when it has struck the next one is armed, from zero. Bytes before a
//! fault are handed on, so that the receiver has seen exactly these.

// The soak doesn't use all of it, and neither do the faults.
#![allow(dead_code)]

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::sleep,
};

use crate::support::listener;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToClient,
}

/// What happens at a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This connection ends on both sides.
    CutOne,
    /// All connections end on both sides.
    CutAll,
    /// The client loses all connections, and the server doesn't hear of it.
    Desert,
    /// Nothing more comes on this way of this connection, and its receiver learns that; the other
    /// way goes on.
    HalfClose,
    /// Nothing more comes on this way of this connection, for so long; then all end.
    Stall(Duration),
    /// This way of this connection pauses for so long.
    Delay(Duration),
    /// Nothing happens to the connection: its client comes a second time, on another one. That is
    /// the test's to do.
    Duplicate,
}

/// A fault to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) way: Way,
    /// Behind so many bytes.
    pub(crate) at: usize,
    pub(crate) kind: Kind,
}

/// What connections of the proxy share.
struct Shared {
    faults: Mutex<Faults>,
    /// All bytes, by their way.
    bytes: [AtomicUsize; 2],
    /// Counts what ends connections.
    ended: watch::Sender<Ended>,
    struck: watch::Sender<usize>,
    to: SocketAddr,
    on_strike: Box<dyn Fn(Kind) + Send + Sync>,
}

#[derive(Default)]
struct Faults {
    waiting: VecDeque<Fault>,
    /// Bytes on the way of the first.
    passed: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Ended {
    times: usize,
    deserted: bool,
}

/// A proxy in front of a server. Ends when it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    /// In front of `to`. `on_strike` is told of each fault when it strikes.
    pub(crate) async fn new(
        to: SocketAddr,
        faults: &[Fault],
        on_strike: impl Fn(Kind) + Send + Sync + 'static,
    ) -> Self {
        let (listener, address) = listener().await;
        let shared = Arc::new(Shared {
            faults: Mutex::new(Faults {
                waiting: faults.iter().copied().collect(),
                passed: 0,
            }),
            bytes: Default::default(),
            ended: watch::Sender::default(),
            struck: watch::Sender::default(),
            to,
            on_strike: Box::new(on_strike),
        });
        let accepting = {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                let mut links = JoinSet::new();
                while let Ok((client, _)) = listener.accept().await {
                    links.spawn(link(Arc::clone(&shared), client));
                    while links.try_join_next().is_some() {}
                }
            })
        };
        Self {
            address,
            shared,
            accepting: accepting.abort_handle(),
        }
    }

    /// Adds a fault behind those that are still to come.
    pub(crate) fn add(&self, fault: Fault) {
        self.shared.faults.lock().unwrap().waiting.push_back(fault);
    }

    /// How many faults are still to come.
    pub(crate) fn to_come(&self) -> usize {
        self.shared.faults.lock().unwrap().waiting.len()
    }

    /// No more faults come.
    pub(crate) fn calm(&self) {
        *self.shared.faults.lock().unwrap() = Faults::default();
    }

    /// Ends all connections now; if they are deserted the server doesn't hear of it.
    pub(crate) fn end_all(&self, deserted: bool) {
        self.shared.end_all(deserted);
    }

    /// How many faults have struck.
    pub(crate) fn struck(&self) -> watch::Receiver<usize> {
        self.shared.struck.subscribe()
    }

    /// How many bytes went this way.
    pub(crate) fn bytes(&self, way: Way) -> usize {
        self.shared.bytes[way as usize].load(Ordering::Relaxed)
    }
}

/// One connection.
async fn link(shared: Arc<Shared>, client: TcpStream) {
    let mut ended = shared.ended.subscribe();
    let Ok(server) = TcpStream::connect(shared.to).await else {
        return;
    };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let both = async {
        let up = carry(&shared, Way::ToServer, &mut from_client, &mut to_server);
        let down = carry(&shared, Way::ToClient, &mut from_server, &mut to_client);
        // A failure of one way ends both.
        tokio::try_join!(up, down)
    };
    let deserted = tokio::select! {
        biased;
        change = ended.changed() => change.is_ok() && ended.borrow().deserted,
        _ = both => false,
    };
    if deserted {
        drop((from_client, to_client));
        // Its own end stays open until the server closes it.
        discard(&mut from_server).await;
    }
}

/// Reads what nobody gets, until it ends.
async fn discard(from: &mut OwnedReadHalf) {
    let mut buffer = vec![0; 4 << 10];
    while from.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

/// Carries bytes one way, until they end.
async fn carry(
    shared: &Shared,
    way: Way,
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let (before, kind) = shared.next(way, rest.len());
            let (now, behind) = rest.split_at(before);
            rest = behind;
            shared.bytes[way as usize].fetch_add(before, Ordering::Relaxed);
            to.write_all(now).await?;
            match kind {
                Some(Kind::HalfClose) => {
                    to.shutdown().await?;
                    shared.note(Kind::HalfClose);
                    discard(from).await;
                    return Ok(());
                }
                Some(kind) => shared.strike(kind).await?,
                None => {}
            }
        }
    }
}

impl Shared {
    /// How many bytes may pass, and what happens behind them.
    fn next(&self, way: Way, bytes: usize) -> (usize, Option<Kind>) {
        let mut faults = self.faults.lock().unwrap();
        let Some(fault) = faults.waiting.front().copied() else {
            return (bytes, None);
        };
        if fault.way != way {
            return (bytes, None);
        }
        let left = fault.at - faults.passed;
        if bytes <= left {
            faults.passed += bytes;
            return (bytes, None);
        }
        faults.waiting.pop_front();
        faults.passed = 0;
        (left, Some(fault.kind))
    }

    async fn strike(&self, kind: Kind) -> io::Result<()> {
        if let Kind::Stall(pause) | Kind::Delay(pause) = kind {
            sleep(pause).await;
        }
        let ends_all = matches!(kind, Kind::CutAll | Kind::Desert | Kind::Stall(_));
        if ends_all {
            self.end_all(kind == Kind::Desert);
        }
        self.note(kind);
        match kind {
            // This one too: it is dropped here.
            _ if ends_all => std::future::pending().await,
            Kind::CutOne => Err(io::ErrorKind::ConnectionAborted.into()),
            _ => Ok(()),
        }
    }

    fn note(&self, kind: Kind) {
        (self.on_strike)(kind);
        self.struck.send_modify(|times| *times += 1);
    }

    fn end_all(&self, deserted: bool) {
        self.ended.send_modify(|ended| {
            ended.times += 1;
            ended.deserted = deserted;
        });
    }
}
