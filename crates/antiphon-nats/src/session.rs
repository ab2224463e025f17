//! One connection to a NATS server, from the login to its end.
//!
//! Nothing is remembered beyond it: on a new one all that is wanted is subscribed to, and from there
//! on the changes, so that no list but [`Wanted`] could be wrong.
//!
//! A server takes what it reads in order, and answers a `PING` when it has taken all before it. So
//! each write ends with one, and its `PONG` says that the frames have been published and the
//! subscriptions hold: a [`Fence`]. What hasn't got one when the connection breaks may be lost.
//!
//! ```text
//! queue, wanted -> write ---- .. PING ----> server
//!                    \ fence                  |
//! inbox <----------- read <--- MSG, PONG -----
//! ```

use std::{
    collections::{HashMap, HashSet, VecDeque},
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use antiphon_cluster::{
    Change, Topic, Wanted,
    broker::{Batch, Inbox, Size},
};
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Notify, mpsc},
    time::Instant,
};

use crate::{
    broker::Shared,
    error::{Complaint, Error},
    journal::{self, Queued},
    replies::{DEADLINE, Replies, Request},
    server::Server,
    subject::{Subject, token},
    wire::{self, Message, Op},
};

/// So often an idle connection is asked whether it is still there.
const PROBE: Duration = Duration::from_secs(2);

/// So many writes may be unanswered.
const UNANSWERED: usize = 16;

/// So many topics are subscribed to by one write.
const TOPICS: usize = 512;

/// So many requests are sent by one write.
const REQUESTS: usize = 256;

/// The subscription to responses. Those of topics begin with 1.
const RESPONSES: u64 = 0;

/// So much is read at a time.
const READ: usize = 32 * 1_024;

/// The two halves of a connection, with TLS or without.
type Reading = Box<dyn AsyncRead + Send + Unpin>;
type Writing = Box<dyn AsyncWrite + Send + Unpin>;

/// A connection that has been logged in.
pub(crate) struct Session<'s> {
    shared: &'s Shared,
    address: String,
    read: Reading,
    buffer: BytesMut,
    write: Writing,
    replies: Replies,
}

/// What reading and writing have in common.
struct Common<'s> {
    shared: &'s Shared,
    inbox: &'s Inbox,
    address: &'s str,
    subscriptions: Mutex<HashMap<u64, (Subject, Arc<str>)>>,
    fences: Mutex<Fences>,
    /// There is room for another fence.
    answered: Notify,
    /// The server wants to know whether we are there.
    asks: AtomicBool,
    asked: Notify,
    /// Frames that the user may not publish.
    refused: Mutex<u64>,
    replies: Replies,
}

struct Fences {
    waiting: VecDeque<Fence>,
    /// When the server answered last.
    heard: Instant,
}

/// What holds when the server answers.
#[derive(Debug, Clone, Copy)]
struct Fence {
    since: Instant,
    /// So much has been published.
    sent: Size,
    /// What is wanted as of this version is subscribed to.
    version: Option<u64>,
}

impl<'s> Session<'s> {
    /// Connects and logs in.
    pub(crate) async fn connect(shared: &'s Shared, server: &Server) -> Result<Self, Error> {
        let address = server.address();
        let connects = tokio::time::timeout(DEADLINE, Self::open(shared, server));
        connects.await.unwrap_or(Err(Error::Silent {
            address,
            seconds: DEADLINE.as_secs(),
        }))
    }

    async fn open(shared: &'s Shared, server: &Server) -> Result<Self, Error> {
        let address = server.address();
        let unreachable = |error: io::Error| Error::Unreachable {
            address: address.clone(),
            problem: error.to_string(),
        };
        let mut stream = server.connect().await.map_err(unreachable)?;
        let mut buffer = BytesMut::new();
        // What the server says of itself first.
        let info = match read(&mut stream, &mut buffer, &address).await? {
            Op::Info(info) => info,
            op => return Err(complaint(shared, &address, &op)),
        };
        let (read, write) = match server.wants_tls() || info.tls_required {
            true => secure(server, stream).await?,
            false => {
                let (read, write) = stream.into_split();
                let halves: (Reading, Writing) = (Box::new(read), Box::new(write));
                halves
            }
        };
        let mut session = Self {
            shared,
            address,
            read,
            buffer,
            write,
            replies: Replies::new(String::new()),
        };
        shared
            .max_payload
            .store(info.max_payload, Ordering::Relaxed);
        shared.has_jetstream.get_or_init(|| info.jetstream);
        // No other connection has this name.
        let name = format!("{}-{}", token(&info.server_id).0, info.client_id);
        session.replies = Replies::new(shared.subjects.replies(&name));
        let mut hello = Vec::new();
        wire::connect(&server.login(&info.nonce), &mut hello);
        write_probe(shared, &mut hello);
        // A server that refuses the login closes at once: what it has said is read all the same.
        let _ = session.write.write_all(&hello).await;
        session.welcome().await?;
        Ok(session)
    }

    /// Waits for the answer to the login.
    async fn welcome(&mut self) -> Result<(), Error> {
        loop {
            match read(&mut self.read, &mut self.buffer, &self.address).await? {
                Op::Pong => return Ok(()),
                Op::Ok | Op::Info(_) => {}
                Op::Ping => {
                    let mut out = Vec::new();
                    wire::pong(&mut out);
                    let _ = self.write.write_all(&out).await;
                }
                op => return Err(complaint(self.shared, &self.address, &op)),
            }
        }
    }

    /// Publishes, subscribes and listens until the connection fails.
    pub(crate) async fn run(self, wanted: &Wanted, inbox: &Inbox) -> Error {
        let common = Common {
            shared: self.shared,
            inbox,
            address: &self.address,
            subscriptions: Mutex::default(),
            fences: Mutex::new(Fences {
                waiting: VecDeque::new(),
                heard: Instant::now(),
            }),
            answered: Notify::new(),
            asks: AtomicBool::new(false),
            asked: Notify::new(),
            refused: Mutex::new(0),
            replies: self.replies,
        };
        let requests = self.shared.asks.open(&self.address);
        let mut writer = Writer {
            common: &common,
            half: self.write,
            out: Vec::new(),
            held: HashMap::new(),
            next: RESPONSES + 1,
            requests,
        };
        let ended = tokio::select! {
            biased;
            // It first: the server says why, and then a write fails.
            ended = listen(&common, self.read, self.buffer) => ended,
            ended = writer.run(wanted) => ended,
            error = silence(&common) => Err(error),
        };
        let Err(error) = ended;
        error
    }
}

/// Begins TLS, which the server or the URL wants.
#[cfg(feature = "tls")]
async fn secure(server: &Server, stream: TcpStream) -> Result<(Reading, Writing), Error> {
    let begins = antiphon_cluster::broker::tls::begin(server.host(), stream);
    let stream = begins.await.map_err(|error| Error::Unreachable {
        address: server.address(),
        problem: format!("no TLS, {error}"),
    })?;
    let (read, write) = tokio::io::split(stream);
    Ok((Box::new(read), Box::new(write)))
}

#[cfg(not(feature = "tls"))]
async fn secure(server: &Server, _: TcpStream) -> Result<(Reading, Writing), Error> {
    let address = server.address();
    Err(Error::NoTls { address })
}

/// What is read next.
async fn read(
    half: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    address: &str,
) -> Result<Op, Error> {
    loop {
        let next = wire::next(buffer).map_err(|malformed| Error::NotNats {
            address: address.to_owned(),
            answer: malformed.0,
        })?;
        if let Some(op) = next {
            return Ok(op);
        }
        buffer.reserve(READ);
        match half.read_buf(buffer).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => {
                let address = address.to_owned();
                return Err(Error::Closed { address });
            }
        }
    }
}

/// What an operation means that ends the connection.
fn complaint(shared: &Shared, address: &str, op: &Op) -> Error {
    let address = address.to_owned();
    let Op::Error(answer) = op else {
        let answer = "something out of turn".to_owned();
        return Error::NotNats { address, answer };
    };
    let answer = answer.clone();
    match Complaint::of(&answer) {
        Complaint::Login => Error::Login { address, answer },
        Complaint::Publish(subject) if subject.starts_with("$JS.") => Error::ForbiddenJetStream {
            address,
            answer: answer.clone(),
            subjects: shared.subjects.all(),
        },
        Complaint::Publish(_) | Complaint::Subscription => Error::Forbidden {
            address,
            answer,
            subjects: shared.subjects.all(),
        },
        Complaint::Other => Error::Other { address, answer },
    }
}

/// Publishes to nobody, which the user must be allowed to, and asks for an answer.
fn write_probe(shared: &Shared, out: &mut Vec<u8>) {
    wire::publish(&shared.subjects.probe(), 0, out);
    wire::end(out);
    wire::ping(out);
}

/// Resolves when the server owes an answer for too long. One that answers late but answers is
/// waited for.
async fn silence(common: &Common<'_>) -> Error {
    loop {
        let owes = {
            let fences = common.fences();
            let oldest = fences.waiting.front();
            oldest.map(|fence| fence.since.max(fences.heard))
        };
        let left = match owes {
            Some(since) => DEADLINE.saturating_sub(since.elapsed()),
            None => PROBE / 2,
        };
        if common.replies.is_late() {
            return Error::NotStored {
                address: common.address.to_owned(),
                answer: "it hasn't acknowledged an entry for long".to_owned(),
            };
        }
        if left.is_zero() {
            return Error::Silent {
                address: common.address.to_owned(),
                seconds: DEADLINE.as_secs(),
            };
        }
        tokio::time::sleep(left).await;
    }
}

/// Hears what the server says. It never waits for anyone: the inbox drops what is too much, so that
/// the server has no reason to close the connection of a slow consumer.
async fn listen(
    common: &Common<'_>,
    mut half: Reading,
    mut buffer: BytesMut,
) -> Result<Infallible, Error> {
    loop {
        match read(&mut half, &mut buffer, common.address).await? {
            Op::Message(message) => common.message(message)?,
            Op::Pong => common.pong(),
            Op::Ping => {
                common.asks.store(true, Ordering::Release);
                common.asked.notify_one();
            }
            Op::Info(info) => {
                let limit = &common.shared.max_payload;
                limit.store(info.max_payload, Ordering::Relaxed);
            }
            Op::Ok => {}
            op @ Op::Error(_) => common.complains(&op)?,
        }
    }
}

impl Common<'_> {
    fn fences(&self) -> MutexGuard<'_, Fences> {
        self.fences.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subscriptions(&self) -> MutexGuard<'_, HashMap<u64, (Subject, Arc<str>)>> {
        let subscriptions = self.subscriptions.lock();
        subscriptions.unwrap_or_else(PoisonError::into_inner)
    }

    fn message(&self, message: Message) -> Result<(), Error> {
        if message.sid == RESPONSES {
            self.replies.came(message, self.inbox, self.address)?;
            self.answered.notify_one();
            return Ok(());
        }
        // One that has just been given up is known to the server yet.
        let Some((subject, topic)) = self.subscriptions().get(&message.sid).cloned() else {
            return Ok(());
        };
        let place = match message.headers.is_empty() {
            true => None,
            false => journal::heard(&topic, &message),
        };
        let mut frame = subject.frame(&topic, message.payload);
        if let Some(place) = place {
            frame = Some(journal::placed(place, frame).encode());
        }
        if let Some(frame) = frame {
            self.inbox.frame(topic, frame);
        }
        Ok(())
    }

    /// The oldest write has been answered.
    fn pong(&self) {
        let fence = {
            let mut fences = self.fences();
            fences.heard = Instant::now();
            fences.waiting.pop_front()
        };
        self.answered.notify_one();
        let Some(fence) = fence else { return };
        self.shared.line.queue().done(fence.sent);
        if let Some(version) = fence.version {
            self.inbox.subscribed(version);
            self.shared.line.up(self.inbox);
        }
    }

    /// The server says what is wrong. Most of it ends the connection.
    fn complains(&self, op: &Op) -> Result<(), Error> {
        let error = complaint(self.shared, self.address, op);
        let Op::Error(text) = op else {
            return Err(error);
        };
        match Complaint::of(text) {
            Complaint::Publish(subject)
                if self
                    .replies
                    .forbidden(subject, &error.to_string(), self.inbox) =>
            {
                Ok(())
            }
            Complaint::Publish(subject) if subject != self.shared.subjects.probe() => {
                self.inbox.lost(1);
                let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                *refused += 1;
                // The first of many says what is to be said, and then each time that they have
                // doubled.
                if refused.is_power_of_two() {
                    tracing::warn!(refused = *refused, "NATS refused frames: {error}");
                }
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Resolves when another write may be made.
    async fn room(&self) {
        while self.fences().waiting.len() >= UNANSWERED || !self.replies.has_room() {
            self.answered.notified().await;
        }
    }
}

/// What writes, and knows what the connection has subscribed to.
struct Writer<'c, 's> {
    common: &'c Common<'s>,
    half: Writing,
    out: Vec<u8>,
    held: HashMap<Topic, u64>,
    /// The number of the next subscription.
    next: u64,
    requests: mpsc::Receiver<Request>,
}

impl Writer<'_, '_> {
    /// Subscribes to all that is wanted, and sends what is to be sent.
    async fn run(&mut self, wanted: &Wanted) -> Result<Infallible, Error> {
        let common = self.common;
        wire::subscribe(&common.replies.all(), RESPONSES, &mut self.out);
        let mut version = self.catch_up(wanted).await?;
        loop {
            common.room().await;
            tokio::select! {
                () = common.asked.notified() => {}
                () = tokio::time::sleep(PROBE) => {
                    write_probe(common.shared, &mut self.out);
                    self.send(Size::default(), None).await?;
                }
                () = wanted.changed(version) => {
                    version = match wanted.since(version) {
                        Some((now, changes)) => {
                            self.apply(changes, now).await?;
                            now
                        }
                        None => self.catch_up(wanted).await?,
                    };
                }
                batch = common.shared.line.queue().take() => self.publish(batch).await?,
                Some(request) = self.requests.recv() => self.ask(request).await?,
            }
            if common.asks.swap(false, Ordering::AcqRel) {
                wire::pong(&mut self.out);
                self.flush().await?;
            }
        }
    }

    async fn publish(&mut self, batch: Batch) -> Result<(), Error> {
        for (topic, frame) in batch.frames {
            if topic.is_stream() {
                self.append(&topic, &frame);
                continue;
            }
            let subject = self.common.shared.subjects.of(&topic);
            let length = subject.overhead(&topic) + frame.len();
            wire::publish(&subject.name, length, &mut self.out);
            subject.write_head(&topic, &mut self.out);
            self.out.extend_from_slice(&frame);
            wire::end(&mut self.out);
        }
        wire::ping(&mut self.out);
        self.send(batch.size, None).await
    }

    /// Appends an entry to the log of this name.
    fn append(&mut self, topic: &Topic, frame: &Bytes) {
        let Some(queued) = Queued::unpack(frame) else {
            return;
        };
        let (subjects, replies) = (&self.common.shared.subjects, &self.common.replies);
        let (to, heard) = (subjects.entries(topic), subjects.of(topic));
        let headers = queued.headers();
        let log = Topic::new(topic.name());
        let reply = replies.appended(to.clone(), log, queued.from, queued.number);
        let length = heard.overhead(topic) + queued.entry.len();
        wire::request(&to, &reply, &headers, length, &mut self.out);
        heard.write_head(topic, &mut self.out);
        self.out.extend_from_slice(&queued.entry);
        wire::end(&mut self.out);
    }

    /// Asks this, and what else is to be asked now.
    async fn ask(&mut self, first: Request) -> Result<(), Error> {
        let mut next = Some(first);
        for _ in 0..REQUESTS {
            let more = next.take().or_else(|| self.requests.try_recv().ok());
            let Some(Request { question, reply }) = more else {
                break;
            };
            let (subject, payload) = (question.subject, question.payload);
            let to = self.common.replies.asked(subject.clone(), reply);
            let headers = &question.headers;
            wire::request(&subject, &to, headers, payload.len(), &mut self.out);
            self.out.extend_from_slice(&payload);
            wire::end(&mut self.out);
        }
        wire::ping(&mut self.out);
        self.send(Size::default(), None).await
    }

    /// Makes all that is wanted true, whatever was before. Returns its version.
    async fn catch_up(&mut self, wanted: &Wanted) -> Result<u64, Error> {
        let (version, topics) = wanted.all();
        let topics: HashSet<_> = topics.into_iter().collect();
        let gone = self.held.keys().filter(|topic| !topics.contains(*topic));
        let gone = gone.map(|topic| (topic.clone(), false));
        let new = topics.iter().map(|topic| (topic.clone(), true));
        let changes = gone
            .chain(new)
            .map(|(topic, is_wanted)| Change { topic, is_wanted });
        self.apply(changes.collect(), version).await?;
        Ok(version)
    }

    /// Makes changes true, of which the last of each topic counts.
    async fn apply(&mut self, changes: Vec<Change>, version: u64) -> Result<(), Error> {
        let last: HashMap<_, _> = changes
            .into_iter()
            .map(|change| (change.topic, change.is_wanted))
            .collect();
        for (count, (topic, is_wanted)) in last.into_iter().enumerate() {
            if count % TOPICS == TOPICS - 1 {
                wire::ping(&mut self.out);
                self.send(Size::default(), None).await?;
                self.common.room().await;
            }
            match (is_wanted, self.held.get(&topic).copied()) {
                (true, None) => self.subscribe(topic),
                (false, Some(sid)) => {
                    wire::unsubscribe(sid, &mut self.out);
                    self.common.subscriptions().remove(&sid);
                    self.held.remove(&topic);
                }
                _ => {}
            }
        }
        wire::ping(&mut self.out);
        self.send(Size::default(), Some(version)).await
    }

    fn subscribe(&mut self, topic: Topic) {
        let sid = self.next;
        self.next += 1;
        let subject = self.common.shared.subjects.of(&topic);
        wire::subscribe(&subject.name, sid, &mut self.out);
        let entry = (subject, topic.name().into());
        self.common.subscriptions().insert(sid, entry);
        self.held.insert(topic, sid);
    }

    /// Writes what ends with a `PING`.
    async fn send(&mut self, sent: Size, version: Option<u64>) -> Result<(), Error> {
        let since = Instant::now();
        // Before it is written: the answer may be there before the write returns.
        self.common.fences().waiting.push_back(Fence {
            since,
            sent,
            version,
        });
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let written: io::Result<()> = self.half.write_all(&self.out).await;
        self.out.clear();
        // What was large once need not be kept.
        self.out.shrink_to(READ);
        written.map_err(|_| Error::Closed {
            address: self.common.address.to_owned(),
        })
    }
}
