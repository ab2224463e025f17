//! Sends what waits in the queue: one task, one connection, in order.
//!
//! Frames are sent in batches, of which some may be unanswered at a time, so that nothing waits for
//! a round trip. The answers are counted: what hasn't got one when the connection breaks may be
//! lost, and is told as that.

use std::{collections::VecDeque, pin::Pin, sync::Arc, task::Poll};

use antiphon_cluster::{
    Topic,
    broker::{Backoff, Batch, SETTLE, Size, entry},
};
use redis::{RedisError, RedisResult, Value, aio::MultiplexedConnection};

use crate::{
    broker::{Shared, Side},
    connection::{Connection, PROBE},
    error::Error,
    journal::{Queued, append_script},
};

/// So many batches may be unanswered. The library's own queue has room for them.
const UNANSWERED: usize = 16;

type Answers = RedisResult<Vec<RedisResult<Value>>>;

/// Which commands of a batch append to which log or stream, and who waits for that.
type Appends = Vec<(usize, Topic, Sender)>;

/// Who has sent an entry, and its number.
pub(crate) struct Sender {
    pub(crate) from: Arc<str>,
    pub(crate) number: u64,
}

/// A batch that has been sent.
struct Sent {
    size: Size,
    appends: Appends,
    answers: State,
}

/// A batch that has been answered.
struct Done {
    size: Size,
    appends: Appends,
}

enum State {
    Waits(Pin<Box<dyn Future<Output = Answers> + Send>>),
    Came(Answers),
}

/// Publishes, and connects again when that fails, until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::new();
    let mut was_silent = false;
    loop {
        let error = match connect(&shared).await {
            Ok(connection) => {
                if was_silent {
                    tokio::time::sleep(SETTLE).await;
                }
                backoff.reset();
                let _asks = shared.ask_by(connection.requests.clone());
                shared.queue.up();
                shared.up(Side::Publishing);
                let error = feed(&shared, &connection).await;
                was_silent = matches!(error, Error::Silent { .. });
                error
            }
            Err(error) => error,
        };
        let lost = shared.queue.down(error.to_string());
        shared.lost(lost);
        if lost > 0 {
            tracing::warn!(lost, "lost frames that were to be published: {error}");
        }
        shared.down(Side::Publishing, error);
        backoff.pause().await;
    }
}

async fn connect(shared: &Shared) -> Result<Connection, Error> {
    let connection = shared.server.connect(|_| {}).await?;
    connection.probe(&shared.server.channels).await?;
    Ok(connection)
}

/// Sends what waits until the connection fails.
async fn feed(shared: &Shared, connection: &Connection) -> Error {
    let (mut sent, mut refused) = (VecDeque::new(), 0);
    let mut script = None;
    let mut probes = std::pin::pin!(probe(shared, connection));
    let mut ended = std::pin::pin!(connection.ended());
    loop {
        tokio::select! {
            biased;
            (batch, answers) = answered(&mut sent) => match answers {
                Ok(mut answers) => {
                    shared.queue.done(batch.size);
                    if let Some(error) = not_appended(shared, connection, &batch.appends, &mut answers) {
                        return error;
                    }
                    let refusals = answers.into_iter().filter_map(Result::err).collect();
                    note_refusals(shared, connection, refusals, &mut refused);
                }
                Err(error) => return connection.error(&error),
            },
            error = &mut ended => return error,
            error = &mut probes => return error,
            batch = shared.queue.take(), if sent.len() < UNANSWERED => {
                let is_known = matches!(script, Some(Ok(_)));
                if !is_known && appends_to_logs(shared, &batch) {
                    script = Some(load(connection).await);
                }
                sent.push_back(send(shared, connection.requests.clone(), batch, script.as_ref()));
            }
        }
    }
}

/// Asks again and again whether the connection is there. Resolves when it isn't.
async fn probe(shared: &Shared, connection: &Connection) -> Error {
    loop {
        tokio::time::sleep(PROBE).await;
        if let Err(error) = connection.probe(&shared.server.channels).await {
            return error;
        }
    }
}

/// Whether a batch has entries of logs.
fn appends_to_logs(shared: &Shared, batch: &Batch) -> bool {
    let has_logs = shared.server.channels.streams.is_none();
    has_logs && batch.frames.iter().any(|(topic, _)| topic.is_stream())
}

/// Makes the script known by which entries are appended to logs, and returns its digest.
async fn load(connection: &Connection) -> Result<String, Error> {
    let mut command = redis::cmd("SCRIPT");
    command.arg("LOAD").arg(append_script());
    let loaded = command.query_async(&mut connection.requests.clone()).await;
    loaded.map_err(|error| connection.error(&error))
}

fn send(
    shared: &Shared,
    mut requests: MultiplexedConnection,
    batch: Batch,
    script: Option<&Result<String, Error>>,
) -> Sent {
    let publish = shared.server.channels.publish();
    let size = batch.size;
    let mut pipeline = redis::Pipeline::with_capacity(size.frames);
    pipeline.ignore_errors();
    let mut appends = Vec::new();
    for (topic, frame) in batch.frames {
        match (&shared.server.channels.streams, script) {
            (Some(streams), _) if topic.is_stream() => {
                let sender = append(&mut pipeline, topic.name(), streams.max_len, &frame);
                appends.extend(sender.map(|sender| (pipeline.len() - 1, topic, sender)));
            }
            (None, Some(script)) if topic.is_stream() => {
                let Some(queued) = Queued::unpack(&frame) else {
                    continue;
                };
                match script {
                    Ok(script) => {
                        queued.command(&mut pipeline, script, topic.name());
                        appends.push((pipeline.len() - 1, topic, queued.sender()));
                    }
                    Err(error) => shared.not_appended(&topic, &queued.sender(), error),
                }
            }
            _ => {
                pipeline.cmd(publish).arg(topic.name()).arg(&frame[..]);
            }
        }
    }
    let answers = async move { pipeline.query_async(&mut requests).await };
    Sent {
        size,
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

/// The answers to the oldest batch, and how much that is. It never resolves without one.
///
/// A batch is written when it is looked at for the first time. All are looked at in their order, so
/// they are written in it.
async fn answered(sent: &mut VecDeque<Sent>) -> (Done, Answers) {
    std::future::poll_fn(|cx| {
        for batch in sent.iter_mut() {
            if let State::Waits(answers) = &mut batch.answers
                && let Poll::Ready(answers) = answers.as_mut().poll(cx)
            {
                batch.answers = State::Came(answers);
            }
        }
        match sent.pop_front() {
            Some(Sent {
                size,
                appends,
                answers: State::Came(answers),
            }) => Poll::Ready((Done { size, appends }, answers)),
            Some(waits) => {
                sent.push_front(waits);
                Poll::Pending
            }
            None => Poll::Pending,
        }
    })
    .await
}

/// Tells of entries that Redis has refused, each by itself. Returns an error if it has forgotten the
/// script: then all is sent again by another connection.
fn not_appended(
    shared: &Shared,
    connection: &Connection,
    appends: &Appends,
    answers: &mut [RedisResult<Value>],
) -> Option<Error> {
    for (index, log, sender) in appends {
        let answer = std::mem::replace(answers.get_mut(*index)?, Ok(Value::Nil));
        if let Err(error) = answer {
            let reason = connection.error(&error);
            if error.code() == Some("NOSCRIPT") {
                return Some(reason);
            }
            shared.not_appended(log, sender, &reason);
        }
    }
    None
}

/// Frames that Redis has refused one by one: the user may not publish under their topics.
fn note_refusals(
    shared: &Shared,
    connection: &Connection,
    refusals: Vec<RedisError>,
    refused: &mut usize,
) {
    shared.lost(refusals.len());
    let before = *refused;
    *refused += refusals.len();
    // The first of many says what is to be said, and then each time that they have doubled.
    if let Some(first) = refusals.first()
        && (before == 0 || before.ilog2() < refused.ilog2())
    {
        let error = connection.error(first);
        tracing::warn!(
            refused,
            "Redis refused frames that were to be published: {error}"
        );
    }
}
