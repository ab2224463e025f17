//! A client that keeps of its session what a stock client of 4.8 keeps: the private id, the last
//! offset that its handlers have had, and what came before the CONNECT.
//!
//! A test drives it: [`Client::connect`] opens one connection and takes packets until that ends,
//! for whatever reason. What its handlers would get is put into [`Kept`], which the test shares.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use antiphon::recovery::Offset;
use antiphon_protocol::websocket::Opcode;
use serde_json::{Map, Value};
use tokio::{net::TcpStream, sync::mpsc, time::sleep};

use crate::support::{Received, WebSocket, try_http_over};

/// How a connection is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    WebSocket,
    Polling,
    /// Polling, and a WebSocket as soon as that has been probed.
    Upgrade,
}

pub(crate) const MODES: [Mode; 3] = [Mode::WebSocket, Mode::Polling, Mode::Upgrade];

/// What its handlers get.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    /// It is connected; whether its session was recovered.
    Connected {
        recovered: bool,
    },
    /// An event: its name, its first argument, and how many attachments came with it.
    Event(String, Value, usize),
    Disconnected,
    Refused(Value),
}

/// What stays with a client from one connection to the next.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// What its user gives for `auth`.
    pub(crate) auth: Map<String, Value>,
    pub(crate) pid: Option<String>,
    pub(crate) sid: Option<String>,
    pub(crate) offset: Option<String>,
    pub(crate) is_connected: bool,
    /// Events that came before the CONNECT. A stock client keeps them when the connection ends.
    early: Vec<Event>,
    /// An event whose attachments are to come.
    partial: Option<(String, usize, usize)>,
    pub(crate) seen: Vec<Seen>,
}

impl Kept {
    /// The CONNECT, with what goes with it.
    fn connect(&self) -> String {
        let mut auth = self.auth.clone();
        if let Some(pid) = &self.pid {
            auth.insert("pid".to_owned(), pid.as_str().into());
            if let Some(offset) = &self.offset {
                auth.insert("offset".to_owned(), offset.as_str().into());
            }
        }
        match auth.is_empty() {
            true => "40".to_owned(),
            false => format!("40{}", Value::Object(auth)),
        }
    }

    /// It has had an event of this offset, which is behind none that it has had before.
    fn has_had(&mut self, offset: &str) {
        if let Some(before) = &self.offset {
            let [before, now] = [before, offset].map(|it| it.parse::<Offset>().unwrap());
            let is_ordered = before.epoch != now.epoch || before.sequence <= now.sequence;
            assert!(is_ordered, "an event of {now} came behind one of {before}");
        }
        self.offset = Some(offset.to_owned());
    }

    fn connected(&mut self, answer: &Value) {
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        let pid = text("pid");
        let recovered = pid.is_some() && self.pid == pid;
        self.pid = pid;
        self.sid = text("sid");
        self.is_connected = true;
        self.seen.push(Seen::Connected { recovered });
        for event in std::mem::take(&mut self.early) {
            self.handle(&event);
        }
    }

    fn event(&mut self, event: Event) {
        match self.is_connected {
            true => self.handle(&event),
            false => self.early.push(event),
        }
    }

    fn handle(&mut self, event: &Event) {
        let args = &event.args;
        let name = args[0].as_str().unwrap_or_default().to_owned();
        let first = args.get(1).cloned().unwrap_or_default();
        self.seen.push(Seen::Event(name, first, event.attachments));
        // Behind the arguments of one that asks is the function that answers.
        if self.pid.is_some()
            && !event.asks
            && let Some(Value::String(last)) = args.last()
        {
            self.has_had(last);
        }
    }
}

/// An event as it came.
#[derive(Debug)]
struct Event {
    args: Vec<Value>,
    asks: bool,
    attachments: usize,
}

/// What a packet asks of the connection.
enum Next {
    Nothing,
    Send(String),
    End,
}

/// One client.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            kept: Arc::default(),
        }
    }

    /// The same session, over another address.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        Self {
            address,
            kept: Arc::clone(&self.kept),
        }
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    /// Opens a connection, and takes what comes until that ends. Packets of `outgoing` are sent
    /// meanwhile.
    pub(crate) async fn connect(&self, mode: Mode, outgoing: &mut mpsc::Receiver<String>) {
        {
            let mut kept = self.kept();
            kept.partial = None;
            kept.is_connected = false;
        }
        // An error is the end of a connection.
        let _ = match mode {
            Mode::WebSocket => self.web_socket(outgoing).await,
            Mode::Polling | Mode::Upgrade => self.poll(mode, outgoing).await,
        };
        self.kept().is_connected = false;
    }

    /// Another connection says that it is the same session, and is dropped.
    pub(crate) async fn duplicate(&self) {
        let twin = Self::new(self.address);
        {
            let (kept, mut new) = (self.kept(), twin.kept());
            new.pid.clone_from(&kept.pid);
            new.offset.clone_from(&kept.offset);
        }
        let (_said, mut outgoing) = mpsc::channel(1);
        tokio::select! {
            () = twin.connect(Mode::WebSocket, &mut outgoing) => {}
            () = sleep(Duration::from_millis(10)) => {}
        }
    }

    async fn web_socket(&self, outgoing: &mut mpsc::Receiver<String>) -> io::Result<()> {
        let mut websocket = self.open("").await?;
        // Its first packet is that of the engine.
        match websocket.next().await {
            Received::Text(open) if open.starts_with('0') => {}
            _ => return Ok(()),
        }
        let connect = self.kept().connect();
        websocket
            .try_send_frame(Opcode::Text, connect.as_bytes())
            .await?;
        self.drive(websocket, outgoing).await
    }

    async fn open(&self, sid: &str) -> io::Result<WebSocket<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let path = format!("/socket.io/?EIO=4&transport=websocket{sid}");
        Ok(WebSocket::try_offering(stream, &path, "").await?.0)
    }

    async fn drive(
        &self,
        mut websocket: WebSocket<TcpStream>,
        outgoing: &mut mpsc::Receiver<String>,
    ) -> io::Result<()> {
        loop {
            let received = tokio::select! {
                received = websocket.next() => received,
                Some(packet) = outgoing.recv() => {
                    websocket.try_send_frame(Opcode::Text, packet.as_bytes()).await?;
                    continue;
                }
            };
            let next = match received {
                Received::Text(packet) => self.take(&packet),
                Received::Binary(_) => {
                    self.attachment();
                    Next::Nothing
                }
                Received::Closed(_) => return Ok(()),
            };
            match next {
                Next::Nothing => {}
                Next::End => return Ok(()),
                Next::Send(packet) => {
                    websocket
                        .try_send_frame(Opcode::Text, packet.as_bytes())
                        .await?;
                }
            }
        }
    }

    async fn request(&self, request: &str, body: &str) -> io::Result<String> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        match try_http_over(stream, request, body).await? {
            (200, body) => Ok(body),
            (status, body) => Err(io::Error::other(format!("{status}: {body}"))),
        }
    }

    async fn poll(&self, mode: Mode, outgoing: &mut mpsc::Receiver<String>) -> io::Result<()> {
        let path = "/socket.io/?EIO=4&transport=polling";
        let open = self.request(&format!("GET {path}"), "").await?;
        let open: Value = serde_json::from_str(open.get(1..).unwrap_or_default())?;
        let sid = open["sid"].as_str().unwrap_or_default();
        let (get, post) = (
            format!("GET {path}&sid={sid}"),
            format!("POST {path}&sid={sid}"),
        );
        let probing = async {
            if mode == Mode::Polling {
                std::future::pending::<()>().await;
            }
            match self.probe(sid).await {
                Some(websocket) => websocket,
                // It stays with polling.
                None => std::future::pending().await,
            }
        };
        tokio::pin!(probing);
        let mut upgraded = None;
        let mut posts = vec![self.kept().connect()];
        loop {
            let polling = self.request(&get, "");
            tokio::pin!(polling);
            let payload = loop {
                if let Some(packet) = posts.pop() {
                    self.request(&post, &packet).await?;
                    continue;
                }
                tokio::select! {
                    payload = &mut polling => break payload?,
                    Some(packet) = outgoing.recv() => posts.push(packet),
                    websocket = &mut probing, if upgraded.is_none() => upgraded = Some(websocket),
                }
            };
            for packet in payload.split('\x1e') {
                match self.take(packet) {
                    Next::Nothing => {}
                    Next::Send(packet) => posts.insert(0, packet),
                    Next::End => return Ok(()),
                }
            }
            if posts.is_empty()
                && let Some(mut websocket) = upgraded.take()
            {
                websocket.try_send_frame(Opcode::Text, b"5").await?;
                return self.drive(websocket, outgoing).await;
            }
        }
    }

    async fn probe(&self, sid: &str) -> Option<WebSocket<TcpStream>> {
        let mut websocket = self.open(&format!("&sid={sid}")).await.ok()?;
        let probe = websocket.try_send_frame(Opcode::Text, b"2probe");
        probe.await.ok()?;
        let answer = websocket.next().await;
        (answer == Received::Text("3probe".to_owned())).then_some(websocket)
    }

    /// Takes a packet of Engine.IO.
    fn take(&self, packet: &str) -> Next {
        match packet.split_at_checked(1) {
            Some(("2", _)) => Next::Send("3".to_owned()),
            Some(("1", _)) => Next::End,
            Some(("4", packet)) => self.message(packet),
            Some(("b", _)) => {
                self.attachment();
                Next::Nothing
            }
            _ => Next::Nothing,
        }
    }

    fn message(&self, packet: &str) -> Next {
        let mut kept = self.kept();
        let Some((kind, rest)) = packet.split_at_checked(1) else {
            return Next::End;
        };
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        match kind {
            "0" => kept.connected(&json(rest)),
            "1" => {
                kept.is_connected = false;
                kept.seen.push(Seen::Disconnected);
                return Next::End;
            }
            "2" => {
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                let (id, args) = rest.split_at(digits);
                kept.event(Event {
                    args: serde_json::from_str(args).unwrap(),
                    asks: !id.is_empty(),
                    attachments: 0,
                });
                if !id.is_empty() {
                    return Next::Send(format!("43{id}[]"));
                }
            }
            "5" => {
                let (count, args) = rest.split_once('-').unwrap();
                kept.partial = Some((args.to_owned(), count.parse().unwrap(), 0));
            }
            "4" => {
                kept.seen.push(Seen::Refused(json(rest)));
                return Next::End;
            }
            other => panic!("a packet of kind {other}"),
        }
        Next::Nothing
    }

    fn attachment(&self) {
        let mut kept = self.kept();
        let (args, count, came) = kept.partial.take().expect("an attachment of nothing");
        if came + 1 < count {
            kept.partial = Some((args, count, came + 1));
        } else {
            kept.event(Event {
                args: serde_json::from_str(&args).unwrap(),
                asks: false,
                attachments: count,
            });
        }
    }
}
