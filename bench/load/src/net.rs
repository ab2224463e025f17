//! All connections of a scenario on one thread: bytes in and out, frames and responses found in
//! them. What they mean is the business of the [`Load`] that is running.
//!
//! It is kept light, because it shares the machine with the server: one read buffer for all, one
//! write for all that a read led to.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    sync::Arc,
    time::{Duration, Instant},
};

use flate2::Decompress;
use mio::{Events, Interest, Poll, Token, net::TcpStream, unix::SourceFd};
use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Socket, Type};

use crate::{
    Result, frame, http,
    inflate::{Inflater, decompress},
    message::{random, shown},
    tls,
};

/// How long a server may say nothing while an answer is due. Then the answer counts as lost.
const PATIENCE: Duration = Duration::from_secs(15);

/// Connections from one source address: there are some 28,000 ports for each.
const PER_ADDRESS: usize = 20_000;

/// What came from the server.
pub enum Message<'a> {
    Text(&'a [u8]),
    Binary(&'a [u8]),
    Response(http::Response<'a>),
}

impl Message<'_> {
    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) => shown(text),
            Self::Binary(bytes) => format!("binary {}", shown(bytes)),
            Self::Response(it) => format!("HTTP {} {}", it.status, shown(it.body)),
        }
    }
}

/// What is done with a net of connections.
pub trait Load {
    /// A message came on a connection; an error where it is not the one that is due.
    fn message(
        &mut self,
        net: &mut Net,
        id: usize,
        message: Message<'_>,
        now: Instant,
    ) -> Result<()>;

    /// Whether all that was sent has been answered and no more will be sent.
    fn is_done(&self) -> bool;

    /// What is still due, for the error when it doesn't come.
    fn waits_for(&self) -> String;

    /// When it is to be called although nothing came.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// That time has come.
    fn act(&mut self, _: &mut Net, _: Instant) -> Result<()> {
        Ok(())
    }
}

struct Connection {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    is_websocket: bool,
    /// Whether its server keeps the window of what it compresses, if it compresses.
    keeps_window: Option<bool>,
    /// What inflates its messages, if their window is kept.
    inflate: Option<Box<Decompress>>,
    /// The start of a message whose rest hasn't come.
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    written: usize,
    is_dirty: bool,
}

impl Connection {
    /// Whether something waits to be written.
    fn has_more(&self) -> bool {
        let in_tls = self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        in_tls || self.written < self.outbox.len()
    }

    fn write_some(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            self.written += self.stream.write(&self.outbox[self.written..])?;
            return Ok(());
        };
        self.written += tls.writer().write(&self.outbox[self.written..])?;
        tls.write_tls(&mut self.stream).map(drop)
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.stream.read(buffer);
        };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            if tls.read_tls(&mut self.stream)? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(io::Error::other)?;
            // The handshake goes on.
            while tls.wants_write() {
                tls.write_tls(&mut self.stream)?;
            }
        }
    }
}

pub struct Net {
    server: SocketAddr,
    /// Whether its WebSockets offer to compress. They don't do it.
    offers: bool,
    /// What is connected speaks TLS.
    tls: Option<Arc<ClientConfig>>,
    /// Packets are in MessagePack.
    packs: bool,
    inflater: Inflater,
    /// Events that came as they are where compression was agreed on.
    uncompressed: u64,
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    dirty: Vec<usize>,
    buffer: Vec<u8>,
    random: u64,
    heard: Instant,
    patience: Duration,
    timer: TimerFd,
    /// For when the timer is set.
    alarm: Option<Instant>,
}

/// The timer's: epoll's own timeout is in milliseconds.
const TIMER: Token = Token(usize::MAX);

impl Net {
    pub fn new(server: SocketAddr) -> Result<Self> {
        let poll = Poll::new()?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        let fd = timer.as_fd().as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&fd), TIMER, Interest::READABLE)?;
        Ok(Self {
            server,
            offers: false,
            tls: None,
            packs: false,
            inflater: Inflater::default(),
            uncompressed: 0,
            poll,
            events: Events::with_capacity(1024),
            connections: Vec::new(),
            dirty: Vec::new(),
            buffer: vec![0; 256 * 1024],
            random: 0x9e37_79b9_7f4a_7c15,
            heard: Instant::now(),
            patience: PATIENCE,
            timer,
            alarm: None,
        })
    }

    /// Its WebSockets offer to compress, or not.
    pub fn offering(self, offers: bool) -> Self {
        Self { offers, ..self }
    }

    /// Its connections speak TLS, or not.
    pub fn securing(self, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { tls, ..self }
    }

    /// Its packets are in MessagePack, or not.
    pub fn packing(self, packs: bool) -> Self {
        Self { packs, ..self }
    }

    pub const fn packs(&self) -> bool {
        self.packs
    }

    /// How many events came as they are, where compression was agreed on.
    pub const fn uncompressed(&self) -> u64 {
        self.uncompressed
    }

    #[cfg(test)]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// What is connected from now on goes to another server.
    pub const fn goes_to(&mut self, server: SocketAddr) {
        self.server = server;
    }

    /// The server's address, for the `Host` header.
    pub fn host(&self) -> String {
        self.server.to_string()
    }

    /// What the opening handshake of a WebSocket says beside what all say.
    pub fn headers(&self) -> &'static str {
        if self.offers { http::OFFER } else { "" }
    }

    /// Starts a connection. It can be written to at once.
    pub fn connect(&mut self) -> Result<usize> {
        let id = self.connections.len();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let source @ 1.. = id / PER_ADDRESS {
            let source = Ipv4Addr::new(127, 0, 0, 1 + source as u8);
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        match socket.connect(&self.server.into()) {
            Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => {
                return Err(format!("connection {id}: {error}").into());
            }
            _ => {}
        }
        let mut stream = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut stream, Token(id), interest)?;
        let tls = self.tls.as_ref().map(tls::connection).transpose()?;
        self.connections.push(Connection {
            stream,
            tls,
            is_websocket: false,
            keeps_window: None,
            inflate: None,
            inbox: Vec::new(),
            outbox: Vec::new(),
            written: 0,
            is_dirty: false,
        });
        Ok(id)
    }

    /// From here on there are frames on the connection.
    pub fn is_websocket_now(&mut self, id: usize) {
        self.connections[id].is_websocket = true;
    }

    /// Whether the server keeps the window of what it compresses on this connection, if it compresses.
    pub fn compresses(&mut self, id: usize, keeps_window: Option<bool>) {
        self.connections[id].keeps_window = keeps_window;
    }

    pub fn send_http(&mut self, id: usize, request: &str) {
        self.outbox(id).extend_from_slice(request.as_bytes());
    }

    pub fn send_text(&mut self, id: usize, text: &[u8]) {
        self.send_frame(id, frame::TEXT, text);
    }

    pub fn send_binary(&mut self, id: usize, bytes: &[u8]) {
        self.send_frame(id, frame::BINARY, bytes);
    }

    fn send_frame(&mut self, id: usize, opcode: u8, payload: &[u8]) {
        let mask = (random(&mut self.random) as u32).to_ne_bytes();
        frame::push(self.outbox(id), opcode, payload, mask);
    }

    fn outbox(&mut self, id: usize) -> &mut Vec<u8> {
        let connection = &mut self.connections[id];
        if !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(id);
        }
        &mut connection.outbox
    }

    /// Ends all connections as a client does that leaves.
    pub fn close_all(&mut self) -> Result<()> {
        for id in 0..self.len() {
            if self.connections[id].is_websocket {
                self.send_frame(id, frame::CLOSE, &1001u16.to_be_bytes());
            }
        }
        // Here a full socket or one that is gone already is no failure.
        for id in std::mem::take(&mut self.dirty) {
            let _ = self.write(id);
        }
        self.connections.clear();
        Ok(())
    }

    /// Works until the load is done.
    pub fn run(&mut self, load: &mut impl Load) -> Result<()> {
        self.heard = Instant::now();
        while !(load.is_done() && self.dirty.is_empty()) {
            self.turn(load, self.patience / 10)?;
            if self.heard.elapsed() > self.patience {
                let (waits_for, patience) = (load.waits_for(), self.patience);
                return Err(
                    format!("lost: expected {waits_for}, got nothing for {patience:?}").into(),
                );
            }
        }
        Ok(())
    }

    /// Answers heartbeats for a while, in which nothing else may come.
    pub fn quiet(&mut self, time: Duration) -> Result<()> {
        self.idle(&mut Quiet, time)
    }

    /// Works for a while with a load that may have nothing to do.
    pub fn idle(&mut self, load: &mut impl Load, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            self.turn(load, left)?;
            if left.is_zero() {
                return Ok(());
            }
        }
    }

    /// One wait for events and the work on them.
    fn turn(&mut self, load: &mut impl Load, wait: Duration) -> Result<()> {
        // What was queued before the wait.
        self.act(load)?;
        self.flush()?;
        self.set_alarm(load.due())?;
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let result = self.poll.poll(&mut events, Some(wait));
        let result = match result {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error.into()),
            Ok(()) => events.iter().try_for_each(|event| {
                if event.token() == TIMER {
                    self.alarm = None;
                    return self.act(load);
                }
                let Token(id) = event.token();
                if event.is_writable() && self.connections[id].has_more() {
                    self.write(id)?;
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.heard = Instant::now();
                    self.read(load, id)
                        .map_err(|error| format!("connection {id}: {error}"))?;
                }
                self.act(load)?;
                self.flush()
            }),
        };
        self.events = events;
        result
    }

    /// Calls the load if its time has come, and writes what it then has to say.
    fn act(&mut self, load: &mut impl Load) -> Result<()> {
        let Some(due) = load.due() else {
            return Ok(());
        };
        let now = Instant::now();
        if due <= now {
            load.act(self, now)?;
            self.flush()?;
        }
        Ok(())
    }

    fn set_alarm(&mut self, due: Option<Instant>) -> Result<()> {
        if let Some(due) = due
            && self.alarm != Some(due)
        {
            // A timer of zero would be none.
            let left = due.saturating_duration_since(Instant::now());
            let left = left.max(Duration::from_nanos(1));
            self.timer.set(
                Expiration::OneShot(TimeSpec::from_duration(left)),
                TimerSetTimeFlags::empty(),
            )?;
            self.alarm = Some(due);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        while let Some(id) = self.dirty.pop() {
            self.connections[id].is_dirty = false;
            self.write(id)?;
        }
        Ok(())
    }

    fn write(&mut self, id: usize) -> Result<()> {
        let it = &mut self.connections[id];
        while it.has_more() {
            match it.write_some() {
                Ok(()) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::NotConnected
                    ) =>
                {
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("connection {id}: can't write: {error}").into()),
            }
        }
        it.outbox.clear();
        it.written = 0;
        Ok(())
    }

    fn read(&mut self, load: &mut impl Load, id: usize) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.read_into(&mut buffer, load, id);
        self.buffer = buffer;
        result
    }

    fn read_into(&mut self, buffer: &mut [u8], load: &mut impl Load, id: usize) -> Result<()> {
        loop {
            let length = match self.connections[id].read_some(buffer) {
                Ok(0) => return Err("expected it to stay open, the server closed it".into()),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("can't read: {error}").into()),
            };
            let now = Instant::now();
            let mut inbox = std::mem::take(&mut self.connections[id].inbox);
            if inbox.is_empty() {
                let used = self.messages(load, id, &buffer[..length], now)?;
                inbox.extend_from_slice(&buffer[used..length]);
            } else {
                inbox.extend_from_slice(&buffer[..length]);
                let used = self.messages(load, id, &inbox, now)?;
                inbox.drain(..used);
            }
            if inbox.is_empty() {
                inbox = Vec::new(); // thousands of idle connections share the machine
            }
            self.connections[id].inbox = inbox;
            if length < buffer.len() && self.tls.is_none() {
                return Ok(()); // a short read has emptied the socket
            }
        }
    }

    /// Hands on the whole messages in `bytes`, and says how many bytes these were.
    fn messages(
        &mut self,
        load: &mut impl Load,
        id: usize,
        bytes: &[u8],
        now: Instant,
    ) -> Result<usize> {
        let mut used = 0;
        while used < bytes.len() {
            if !self.connections[id].is_websocket {
                let Some(response) = http::parse(&bytes[used..])? else {
                    break;
                };
                used += response.size;
                load.message(self, id, Message::Response(response), now)?;
                continue;
            }
            let Some(frame) = frame::parse(&bytes[used..])? else {
                break;
            };
            used += frame.size;
            if frame.is_compressed {
                let mut inflater = std::mem::take(&mut self.inflater);
                let inflated = self.inflate(id, &mut inflater, frame.payload)?;
                let message = match frame.opcode {
                    frame::BINARY => Message::Binary(inflated),
                    _ => Message::Text(inflated),
                };
                load.message(self, id, message, now)?;
                self.inflater = inflater;
                continue;
            }
            let is_event = frame.payload.starts_with(b"42");
            if is_event && self.connections[id].keeps_window.is_some() {
                self.uncompressed += 1;
            }
            match frame.opcode {
                frame::TEXT if frame.payload == b"2" => self.send_text(id, b"3"), // the heartbeat
                frame::TEXT => load.message(self, id, Message::Text(frame.payload), now)?,
                frame::BINARY => load.message(self, id, Message::Binary(frame.payload), now)?,
                frame::PING => self.send_frame(id, frame::PONG, frame.payload),
                frame::PONG => {}
                opcode => {
                    let payload = shown(frame.payload);
                    return Err(format!("got a frame of type {opcode}: {payload}").into());
                }
            }
        }
        Ok(used)
    }
}

impl Net {
    /// The message that came compressed on a connection.
    fn inflate<'i>(
        &mut self,
        id: usize,
        inflater: &'i mut Inflater,
        payload: &[u8],
    ) -> Result<&'i [u8]> {
        let connection = &mut self.connections[id];
        match connection.keeps_window {
            None => Err("got a compressed message, which wasn't agreed on".into()),
            Some(false) => inflater.alone(payload),
            Some(true) => {
                let own = connection.inflate.get_or_insert_with(decompress);
                inflater.with(own, payload)
            }
        }
    }
}

/// When nothing is due.
struct Quiet;

impl Load for Quiet {
    fn message(&mut self, _: &mut Net, _: usize, message: Message<'_>, _: Instant) -> Result<()> {
        Err(format!("expected nothing more, got {}", message.shown()).into())
    }

    fn is_done(&self) -> bool {
        true
    }

    fn waits_for(&self) -> String {
        "nothing".to_owned()
    }
}
