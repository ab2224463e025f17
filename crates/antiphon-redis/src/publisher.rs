//! Sends what waits in a queue: one task, one connection, in order; in a Redis Cluster one to each
//! node that has slots, where frames of one slot keep their order.
//!
//! Frames are sent in batches, of which some may be unanswered at a time, so that nothing waits for
//! a round trip. The answers are counted: what hasn't got one when the connection breaks may be
//! lost, and is told as that. What a node answers by `MOVED` or the like it hasn't done: the rest is
//! waited for, it is asked who has the slot now, and the frames are sent there before others.

use std::{collections::VecDeque, convert::Infallible, mem, pin::Pin, sync::Arc, task::Poll};

use antiphon_cluster::{
    Topic,
    broker::{Backoff, Batch, SETTLE, Size, entry},
};
use bytes::Bytes;
use redis::{RedisResult, Value};
use tokio::time::Instant;

use crate::{
    append::{Queued, Sender, append_script},
    asks::AGAIN,
    connection::{Connection, DEADLINE},
    error::Error,
    nodes::{Node, Nodes},
    server::Way,
    shared::{Asks, Lane, Shared, Side},
};

/// So many batches may be unanswered. The library's own queue has room for them.
const UNANSWERED: usize = 16;

type Answers = RedisResult<Vec<RedisResult<Value>>>;

/// Which commands of a batch append to which log or stream, and who waits for that.
type Appends = Vec<(usize, Topic, Sender)>;

/// A batch that has been sent.
struct Sent {
    size: Size,
    parts: Vec<Part>,
}

/// What one node gets of a batch.
struct Part {
    node: usize,
    /// What each command has, and its topic: it may be refused, or another node may have to get it.
    messages: Vec<(Topic, Bytes)>,
    appends: Appends,
    answers: State,
}

/// What is to be sent again, in its order, since the node that got it didn't have its slot any more.
/// Nothing else is sent before that.
#[derive(Default)]
struct Again {
    frames: Vec<(Topic, Bytes)>,
    size: Size,
    /// Since when, and why.
    since: Option<(Instant, Error)>,
    /// The node that has said so last.
    by: Option<usize>,
    /// Whether it is to be asked who has what.
    looks: bool,
}

enum State {
    Waits(Pin<Box<dyn Future<Output = Answers> + Send>>),
    Came(Answers),
}

/// Publishes one way, and connects again when that fails, until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>, way: Way) {
    let lane = shared.lane(way);
    if lane.way != way {
        return;
    }
    lane.used().await;
    let mut backoff = Backoff::new();
    let mut was_silent = false;
    let mut connection = 0;
    loop {
        connection += 1;
        let error = match Nodes::connect(&shared.server, way).await {
            Ok(nodes) => {
                if was_silent {
                    tokio::time::sleep(SETTLE).await;
                }
                backoff.reset();
                let asks = lane.ask_by(nodes.reach());
                lane.queue.up();
                shared.up(Side::Publishing(way));
                let feed = Feed {
                    shared: &shared,
                    lane,
                    connection,
                    asks,
                    nodes,
                    sent: VecDeque::new(),
                    again: Again::default(),
                };
                let Err(error) = feed.run().await;
                was_silent = matches!(error, Error::Silent { .. });
                error
            }
            Err(error) => error,
        };
        let lost = lane.queue.down(error.to_string());
        shared.lost(lost);
        if lost > 0 {
            tracing::warn!(lost, "lost frames that were to be published: {error}");
        }
        shared.down(Side::Publishing(way), error);
        backoff.pause().await;
    }
}

/// Sends what waits, as long as all connections hold.
struct Feed<'s> {
    shared: &'s Shared,
    lane: &'s Lane,
    /// Which one this is, counted from the first.
    connection: u64,
    asks: Asks<'s>,
    nodes: Nodes,
    sent: VecDeque<Sent>,
    again: Again,
}

impl Feed<'_> {
    async fn run(mut self) -> Result<Infallible, Error> {
        loop {
            if self.again.looks && self.sent.is_empty() {
                self.send_again().await?;
            }
            let takes = self.sent.len() < UNANSWERED && !self.again.looks;
            tokio::select! {
                biased;
                (sent, answers) = answered(&mut self.sent) => self.done(sent, answers)?,
                error = self.nodes.failed() => return Err(error),
                () = self.lane.moved.notified() => self.again.looks = true,
                batch = self.lane.queue.take(), if takes => {
                    let batch = self.shared.bundled(batch, self.lane.way, self.connection);
                    self.send(batch.frames, batch.size).await?;
                }
            }
        }
    }

    /// Asks who has what now, and sends what another node has to get.
    async fn send_again(&mut self) -> Result<(), Error> {
        let again = &mut self.again;
        if let Some((since, error)) = &again.since
            && since.elapsed() > DEADLINE
        {
            return Err(error.clone());
        }
        tokio::time::sleep(AGAIN).await;
        let by = again.by.take();
        self.nodes.look(&self.shared.server, by).await?;
        self.asks.renew(self.nodes.reach());
        again.looks = false;
        let (frames, size) = (mem::take(&mut again.frames), mem::take(&mut again.size));
        match frames.is_empty() {
            true => self.lane.queue.done(size),
            false => self.send(frames, size).await?,
        }
        Ok(())
    }

    /// Sends a batch, each frame to the node that has its slot.
    ///
    /// # Errors
    /// If a connection is lost meanwhile.
    async fn send(&mut self, frames: Vec<(Topic, Bytes)>, size: Size) -> Result<(), Error> {
        let channels = &self.shared.server.channels;
        let mut sent = Sent {
            size,
            parts: Vec::new(),
        };
        let mut parts: Vec<_> = (0..self.nodes.len()).map(|_| Vec::new()).collect();
        for (topic, frame) in frames {
            if let Some(part) = parts.get_mut(self.nodes.that_has(topic.name())) {
                part.push((topic, frame));
            }
        }
        for (number, frames) in parts.into_iter().enumerate() {
            let Some(node) = self.nodes.node(number).filter(|_| !frames.is_empty()) else {
                continue;
            };
            let appends = channels.streams.is_none() && frames.iter().any(|it| it.0.is_stream());
            if appends && !matches!(node.script, Some(Ok(_))) {
                node.script = Some(load(&node.connection).await?);
            }
            let mut part = pack(self.shared, node, frames);
            part.node = number;
            sent.parts.push(part);
        }
        self.sent.push_back(sent);
        Ok(())
    }

    /// A batch has been answered by all that got some of it.
    fn done(&mut self, sent: Sent, answers: Vec<Answers>) -> Result<(), Error> {
        let (mut left, mut why) = (Vec::new(), None);
        for (part, answers) in sent.parts.into_iter().zip(answers) {
            let Some(node) = self.nodes.node(part.node) else {
                continue;
            };
            let connection = node.connection.clone();
            let mut answers = answers.map_err(|error| connection.error(&error))?;
            let is_refusing = self.shared.is_refusing();
            for (answer, message) in answers.iter_mut().zip(&part.messages) {
                match answer {
                    Ok(_) if is_refusing => self.shared.took(message.0.name()),
                    Err(error) if error.is_cluster_error() && self.lane.way == Way::Keyed => {
                        why = Some((part.node, connection.error(error)));
                        *answer = Ok(Value::Nil);
                        left.push(message.clone());
                    }
                    _ => {}
                }
            }
            not_appended(self.shared, &connection, &part.appends, &mut answers)?;
            note_refusals(self.shared, &connection, answers, &part.messages)?;
        }
        let again = &mut self.again;
        let Some((by, why)) = why else {
            self.lane.queue.done(sent.size);
            // What was sent again has come.
            if again.frames.is_empty() {
                again.since = None;
            }
            return Ok(());
        };
        again.looks = true;
        again.by = Some(by);
        again.since.get_or_insert((Instant::now(), why));
        again.frames.append(&mut left);
        // It isn't done with until all of it is.
        again.size.frames += sent.size.frames;
        again.size.bytes += sent.size.bytes;
        Ok(())
    }
}

/// Makes the script known by which entries are appended to logs, and returns its digest, or why the
/// Redis doesn't take it.
///
/// # Errors
/// If the connection is lost: what was to be appended hasn't been refused.
async fn load(connection: &Connection) -> Result<Result<String, Error>, Error> {
    let mut command = redis::cmd("SCRIPT");
    command.arg("LOAD").arg(append_script());
    let loaded = command.query_async(&mut connection.requests.clone()).await;
    match loaded {
        Ok(digest) => Ok(Ok(digest)),
        Err(error) if error.code().is_some() => Ok(Err(connection.error(&error))),
        Err(error) => Err(connection.error(&error)),
    }
}

/// Makes commands of frames. They are written when their answers are looked at.
fn pack(shared: &Shared, node: &Node, frames: Vec<(Topic, Bytes)>) -> Part {
    let channels = &shared.server.channels;
    let publish = channels.publish();
    let mut pipeline = redis::Pipeline::with_capacity(frames.len());
    pipeline.ignore_errors();
    let mut appends = Vec::new();
    let mut messages = Vec::with_capacity(frames.len());
    for (topic, frame) in frames {
        match (&channels.streams, &node.script) {
            (Some(streams), _) if topic.is_stream() => {
                let sender = append(&mut pipeline, topic.name(), streams.max_len, &frame);
                let number = pipeline.len() - 1;
                appends.extend(sender.map(|sender| (number, topic.clone(), sender)));
            }
            (None, Some(script)) if topic.is_stream() => {
                let Some(queued) = Queued::unpack(&frame) else {
                    continue;
                };
                match script {
                    Ok(script) => {
                        queued.command(&mut pipeline, script, topic.name());
                        appends.push((pipeline.len() - 1, topic.clone(), queued.sender()));
                    }
                    Err(error) => {
                        shared.not_appended(&topic, &queued.sender(), error);
                        continue;
                    }
                }
            }
            _ => {
                pipeline.cmd(publish).arg(topic.name()).arg(&frame[..]);
            }
        }
        messages.push((topic, frame));
    }
    let mut requests = node.connection.requests.clone();
    let answers = async move {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        pipeline.query_async(&mut requests).await
    };
    Part {
        node: 0,
        messages,
        appends,
        answers: State::Waits(Box::pin(answers)),
    }
}

/// Appends an entry to a stream, of which about so many are kept. Returns who waits for it.
fn append(
    pipeline: &mut redis::Pipeline,
    stream: &str,
    max_len: u64,
    frame: &[u8],
) -> Option<Sender> {
    let command = pipeline.cmd("XADD").arg(stream);
    command.arg("MAXLEN").arg("~").arg(max_len).arg("*");
    // It was packed by the one who publishes.
    let (_, fields) = entry::unpack(frame).unwrap_or_default();
    for (field, value) in &fields {
        command.arg(*field).arg(*value);
    }
    let (from, number) = entry::sender(&fields)?;
    let from = from.into();
    Some(Sender { from, number })
}

/// The oldest batch and its answers, a list for each part. It never resolves without one.
///
/// A batch is written when it is looked at for the first time. All are looked at in their order, so
/// they are written in it.
async fn answered(sent: &mut VecDeque<Sent>) -> (Sent, Vec<Answers>) {
    std::future::poll_fn(|cx| {
        for part in sent.iter_mut().flat_map(|batch| &mut batch.parts) {
            if let State::Waits(answers) = &mut part.answers
                && let Poll::Ready(answers) = answers.as_mut().poll(cx)
            {
                part.answers = State::Came(answers);
            }
        }
        let has_come = |part: &Part| matches!(part.answers, State::Came(_));
        let oldest = sent
            .front()
            .filter(|batch| batch.parts.iter().all(has_come));
        if oldest.is_none() {
            return Poll::Pending;
        }
        let Some(mut batch) = sent.pop_front() else {
            return Poll::Pending;
        };
        let answers = batch.parts.iter_mut().map(|part| {
            let came = mem::replace(&mut part.answers, State::Came(Ok(Vec::new())));
            match came {
                State::Came(answers) => answers,
                State::Waits(_) => Ok(Vec::new()),
            }
        });
        let answers = answers.collect();
        Poll::Ready((batch, answers))
    })
    .await
}

/// Tells of entries that Redis has refused, each by itself.
///
/// # Errors
/// If it has forgotten the script, or is a replica now: then all is sent again by another connection.
fn not_appended(
    shared: &Shared,
    connection: &Connection,
    appends: &Appends,
    answers: &mut [RedisResult<Value>],
) -> Result<(), Error> {
    for (index, log, sender) in appends {
        let Some(answer) = answers.get_mut(*index) else {
            continue;
        };
        if let Err(error) = mem::replace(answer, Ok(Value::Nil)) {
            let reason = connection.error(&error);
            if error.code() == Some("NOSCRIPT") || matches!(reason, Error::Replica { .. }) {
                return Err(reason);
            }
            shared.not_appended(log, sender, &reason);
        }
    }
    Ok(())
}

/// Counts what Redis has refused by itself, and tells of it: it has no memory left, or the user may not
/// publish under these topics.
///
/// # Errors
/// If it is a replica now: the primary is another one.
fn note_refusals(
    shared: &Shared,
    connection: &Connection,
    answers: Vec<RedisResult<Value>>,
    messages: &[(Topic, Bytes)],
) -> Result<(), Error> {
    let mut lost = 0;
    for (answer, (topic, message)) in answers.into_iter().zip(messages) {
        let Err(error) = answer else {
            continue;
        };
        let reason = connection.error(&error);
        if matches!(reason, Error::Replica { .. }) {
            shared.lost(lost);
            return Err(reason);
        }
        lost += Batch::frames_in(message);
        shared.not_taken(topic.name(), &reason);
    }
    shared.lost(lost);
    Ok(())
}
