//! Makes true what is wanted, and gives what comes to the inbox: one connection.
//!
//! Nothing is remembered beyond a connection. On a new one all that is wanted is subscribed to, and
//! from there on the changes. Redis confirms each name, and only then a version is reported.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use antiphon_cluster::{
    Change, Topic, Wanted,
    broker::{Backoff, Inbox},
};
use bytes::Bytes;
use redis::{PushInfo, PushKind, Value};

use crate::{
    broker::{Shared, Side},
    connection::{Connection, PROBE},
    error::Error,
};

/// So many names are subscribed to by one command.
const NAMES: usize = 512;

/// Listens, and connects again when that fails, until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>, wanted: Arc<Wanted>, inbox: Arc<Inbox>) {
    let mut backoff = Backoff::new();
    loop {
        let into = Arc::clone(&inbox);
        let connects = shared.server.connect(move |info| hear(&into, info)).await;
        let error = match connects {
            Ok(connection) => {
                let mut subscriptions = Subscriptions {
                    shared: &shared,
                    connection,
                    held: HashSet::new(),
                };
                let Err(error) = subscriptions.follow(&wanted, &inbox, &mut backoff).await;
                error
            }
            Err(error) => error,
        };
        shared.down(Side::Subscribing, error);
        backoff.pause().await;
    }
}

/// Something has come that wasn't asked for. It never waits: the inbox drops what is too much.
fn hear(inbox: &Inbox, info: PushInfo) {
    // message: channel, payload; pmessage: pattern, channel, payload.
    let skip = match info.kind {
        PushKind::Message | PushKind::SMessage => 0,
        PushKind::PMessage => 1,
        _ => return,
    };
    let mut data = info.data.into_iter().skip(skip);
    if let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) =
        (data.next(), data.next())
    {
        // Others may publish under what is no text, and it concerns nobody here.
        if let Ok(channel) = std::str::from_utf8(&channel) {
            inbox.frame(channel.into(), Bytes::from(payload));
        }
    }
}

/// What one connection has subscribed to.
struct Subscriptions<'s> {
    shared: &'s Shared,
    connection: Connection,
    held: HashSet<Topic>,
}

impl Subscriptions<'_> {
    /// Subscribes to all that is wanted, and follows the changes until the connection fails.
    async fn follow(
        &mut self,
        wanted: &Wanted,
        inbox: &Inbox,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, Error> {
        let mut version = self.catch_up(wanted).await?;
        inbox.subscribed(version);
        backoff.reset();
        self.shared.up(Side::Subscribing);
        loop {
            tokio::select! {
                error = self.connection.ended() => return Err(error),
                () = tokio::time::sleep(PROBE) => self.connection.ping().await?,
                () = wanted.changed(version) => {
                    version = match wanted.since(version) {
                        Some((now, changes)) => {
                            self.apply(changes).await?;
                            now
                        }
                        None => self.catch_up(wanted).await?,
                    };
                    inbox.subscribed(version);
                }
            }
        }
    }

    /// Makes all that is wanted true, whatever was before. Returns its version.
    async fn catch_up(&mut self, wanted: &Wanted) -> Result<u64, Error> {
        let (version, topics) = wanted.all();
        let topics: HashSet<_> = topics.into_iter().filter(is_channel).collect();
        let gone = self.held.difference(&topics).map(|topic| (topic, false));
        let new = topics.difference(&self.held).map(|topic| (topic, true));
        let changes = gone.chain(new).map(|(topic, is_wanted)| Change {
            topic: topic.clone(),
            is_wanted,
        });
        self.apply(changes.collect()).await?;
        Ok(version)
    }

    /// Makes changes true, of which the last of each topic counts.
    async fn apply(&mut self, changes: Vec<Change>) -> Result<(), Error> {
        let last: HashMap<_, _> = changes
            .into_iter()
            .filter(|change| is_channel(&change.topic))
            .map(|change| (change.topic, change.is_wanted))
            .collect();
        for (is_wanted, is_pattern) in [(true, false), (true, true), (false, false), (false, true)]
        {
            let topics = last.iter().filter(|(topic, wanted)| {
                **wanted == is_wanted
                    && topic.is_pattern() == is_pattern
                    && self.held.contains(topic) != is_wanted
            });
            let topics: Vec<_> = topics.map(|(topic, _)| topic.clone()).collect();
            for part in topics.chunks(NAMES) {
                self.say(part, is_wanted, is_pattern).await?;
            }
        }
        Ok(())
    }

    /// Subscribes to topics of one kind, or ends that. It resolves when all are confirmed.
    async fn say(
        &mut self,
        topics: &[Topic],
        is_wanted: bool,
        is_pattern: bool,
    ) -> Result<(), Error> {
        let names: Vec<_> = topics.iter().map(channel).collect();
        let requests = &mut self.connection.requests;
        let said = match (is_wanted, is_pattern) {
            (_, false) if self.shared.server.channels.are_sharded => {
                // One name each: names of one command must have one slot.
                let command = if is_wanted {
                    "SSUBSCRIBE"
                } else {
                    "SUNSUBSCRIBE"
                };
                let mut pipeline = redis::Pipeline::with_capacity(names.len());
                for name in names {
                    pipeline.cmd(command).arg(name);
                }
                pipeline.exec_async(requests).await
            }
            (true, false) => requests.subscribe(names).await,
            (true, true) => requests.psubscribe(names).await,
            (false, false) => requests.unsubscribe(names).await,
            (false, true) => requests.punsubscribe(names).await,
        };
        said.map_err(|error| self.connection.error(&error))?;
        match is_wanted {
            true => self.held.extend(topics.iter().cloned()),
            false => topics.iter().for_each(|topic| {
                self.held.remove(topic);
            }),
        }
        Ok(())
    }
}

/// Whether it is subscribed to. Streams are read, whether they are wanted or not.
const fn is_channel(topic: &Topic) -> bool {
    !topic.is_stream()
}

/// The channel of a topic, or its pattern. What Redis takes for a wildcard in it is escaped.
fn channel(topic: &Topic) -> String {
    if !topic.is_pattern() {
        return topic.name().to_owned();
    }
    let mut pattern = String::with_capacity(topic.name().len() + 1);
    for character in topic.name().chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('*');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_its_channel_and_a_pattern_escapes_wildcards() {
        assert_eq!(channel(&Topic::new("a*[b]?\\")), "a*[b]?\\");
        assert_eq!(
            channel(&Topic::beginning_with("a*[b]?\\^-")),
            "a\\*\\[b\\]\\?\\\\^-*"
        );
    }
}
