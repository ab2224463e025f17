//! The writing side of one connection: it subscribes to what is wanted, publishes what waits in the
//! queue, and asks what is to be asked.
//!
//! The session owns a [`Writer`]. Each write ends with a `PING`, for which a [`Fence`] is noted; at
//! most a few of them may be unanswered, so a server that is behind isn't sent more. It ends with the
//! first write that fails.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    io,
    sync::atomic::Ordering,
    time::Duration,
};

use antiphon_cluster::{
    Change, Topic, Wanted,
    broker::{Batch, Size},
};
use bytes::Bytes;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
    time::Instant,
};

use super::common::{Common, Fence, RESPONSES};
use crate::{entries::Queued, error::Error, replies::Request, shared::Shared, wire};

/// So often an idle connection is asked whether it is still there.
pub(super) const PROBE: Duration = Duration::from_secs(2);

/// So many topics are subscribed to by one write.
const TOPICS: usize = 512;

/// So many requests are sent by one write.
const REQUESTS: usize = 256;

/// So much memory is kept for the next write.
const KEPT: usize = 32 * 1_024;

/// The half of a connection that is written to, with TLS or without.
pub(super) type Writing = Box<dyn AsyncWrite + Send + Unpin>;

/// What writes, and knows what the connection has subscribed to.
pub(super) struct Writer<'c, 's> {
    common: &'c Common<'s>,
    half: Writing,
    out: Vec<u8>,
    held: HashMap<Topic, u64>,
    /// The number of the next subscription.
    next: u64,
    requests: mpsc::Receiver<Request>,
}

impl<'c, 's> Writer<'c, 's> {
    pub(super) fn new(
        common: &'c Common<'s>,
        half: Writing,
        requests: mpsc::Receiver<Request>,
    ) -> Self {
        Self {
            common,
            half,
            out: Vec::new(),
            held: HashMap::new(),
            next: RESPONSES + 1,
            requests,
        }
    }
}

impl Writer<'_, '_> {
    /// Subscribes to all that is wanted, and sends what is to be sent.
    pub(super) async fn run(&mut self, wanted: &Wanted) -> Result<Infallible, Error> {
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
        self.out.shrink_to(KEPT);
        written.map_err(|_| Error::Closed {
            address: self.common.address.to_owned(),
        })
    }
}

/// Publishes to nobody, which the user must be allowed to, and asks for an answer.
pub(super) fn write_probe(shared: &Shared, out: &mut Vec<u8>) {
    wire::publish(&shared.subjects.probe(), 0, out);
    wire::end(out);
    wire::ping(out);
}
