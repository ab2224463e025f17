//! Makes true what is wanted, and gives what comes to the inbox: one connection; in a Redis Cluster
//! one to each node that has something of it.
//!
//! Nothing is remembered beyond a connection. On a new one all that is wanted is subscribed to, and
//! from there on the changes. Redis confirms each name, and only then a version is reported.
//!
//! A node whose slots move ends the subscriptions to their sharded channels. Its connection is given
//! up then, and what it had is subscribed to where it is now: that is told as a loss of the
//! connection, since what was published in between is missed.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
};

use antiphon_cluster::{
    Change, Topic, Wanted,
    broker::{Backoff, Inbox},
};
use bytes::Bytes;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::watch;

use crate::{
    cluster::Cluster,
    connection::{Connection, Ending},
    error::Error,
    server::{Push, Way},
    shared::{Shared, Side},
    topology::{Address, Topology},
};

/// So many names are subscribed to by one command.
const NAMES: usize = 512;

/// Listens one way, and connects again when that fails, until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>, way: Way, wanted: Arc<Wanted>, inbox: Arc<Inbox>) {
    let mut backoff = Backoff::new();
    loop {
        let mut subscriptions = Subscriptions {
            shared: &shared,
            way,
            inbox: &inbox,
            cluster: shared.server.cluster().filter(|_| way == Way::Keyed),
            topology: None,
            nodes: HashMap::new(),
            held: HashMap::new(),
        };
        let Err(error) = subscriptions.follow(&wanted, &mut backoff).await;
        shared.down(Side::Subscribing(way), error);
        backoff.pause().await;
    }
}

/// Where something is subscribed to: a node of a Redis Cluster. `None` where there is one connection.
type At = Option<Address>;

/// What is subscribed to.
struct Subscriptions<'s> {
    shared: &'s Shared,
    way: Way,
    inbox: &'s Arc<Inbox>,
    /// The Redis Cluster, if each topic has its node.
    cluster: Option<&'s Cluster>,
    topology: Option<Arc<Topology>>,
    nodes: HashMap<At, Node>,
    held: HashMap<Topic, At>,
}

/// A connection that listens.
struct Node {
    connection: Connection,
    ears: Arc<Ears>,
    ending: Ending,
}

/// What hears what comes by one connection.
struct Ears {
    inbox: Arc<Inbox>,
    /// The sharded channels that are being given up.
    leaving: Mutex<HashSet<Vec<u8>>>,
    /// Whether the node has ended subscriptions by itself.
    has_moved: watch::Sender<bool>,
}

impl Ears {
    /// Something has come that wasn't asked for. It never waits: the inbox drops what is too much.
    fn hear(&self, info: PushInfo) {
        // message: channel, payload; pmessage: pattern, channel, payload.
        let skip = match info.kind {
            PushKind::Message | PushKind::SMessage => 0,
            PushKind::PMessage => 1,
            PushKind::SUnsubscribe => return self.unsubscribed(info.data),
            _ => return,
        };
        let mut data = info.data.into_iter().skip(skip);
        if let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) =
            (data.next(), data.next())
        {
            // Others may publish under what is no text, and it concerns nobody here.
            if let Ok(channel) = std::str::from_utf8(&channel) {
                self.inbox.frame(channel.into(), Bytes::from(payload));
            }
        }
    }

    /// A subscription to a sharded channel has ended, as it was to or since its slot has moved.
    fn unsubscribed(&self, data: Vec<Value>) {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        match data.into_iter().next() {
            Some(Value::BulkString(channel)) if leaving.remove(&channel) => {}
            _ => drop(self.has_moved.send_replace(true)),
        }
    }
}

impl Subscriptions<'_> {
    /// Subscribes to all that is wanted, and follows the changes until a connection fails.
    async fn follow(
        &mut self,
        wanted: &Wanted,
        backoff: &mut Backoff,
    ) -> Result<Infallible, Error> {
        if let Some(cluster) = self.cluster {
            self.shared.server.look(cluster, None).await?;
        }
        loop {
            let Err(error) = self.keep(wanted, backoff).await;
            let (Some(cluster), Error::Elsewhere { address, .. }) = (self.cluster, &error) else {
                return Err(error);
            };
            // The others go on.
            let node = self.node_at(address);
            self.nodes.remove(&node);
            self.held.retain(|_, at| *at != node);
            self.shared.down(Side::Subscribing(self.way), error);
            backoff.pause().await;
            self.shared.server.look(cluster, node.as_ref()).await?;
        }
    }

    /// Subscribes to all that is wanted, and follows the changes until something fails.
    async fn keep(&mut self, wanted: &Wanted, backoff: &mut Backoff) -> Result<Infallible, Error> {
        if self.cluster.is_none() {
            self.node(&None).await?;
        }
        let mut topology = self.cluster.map(Cluster::watch);
        self.topology = topology.as_mut().and_then(learned);
        let mut version = self.catch_up(wanted).await?;
        self.shared.subscribed(self.way, version, self.inbox);
        backoff.reset();
        self.shared.up(Side::Subscribing(self.way));
        loop {
            let learns = async {
                match &mut topology {
                    Some(topology) => topology.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                error = failed(&mut self.nodes) => return Err(error),
                () = wanted.changed(version) => {
                    version = match wanted.since(version) {
                        Some((now, changes)) => {
                            self.apply(changes).await?;
                            now
                        }
                        None => self.catch_up(wanted).await?,
                    };
                }
                true = learns => {
                    self.topology = topology.as_mut().and_then(learned);
                    version = self.catch_up(wanted).await?;
                }
            }
            self.shared.subscribed(self.way, version, self.inbox);
        }
    }

    /// Makes all that is wanted true, whatever was before. Returns its version.
    async fn catch_up(&mut self, wanted: &Wanted) -> Result<u64, Error> {
        let (version, topics) = wanted.all();
        let topics: HashSet<_> = topics.into_iter().collect();
        let gone = self.held.keys().filter(|topic| !topics.contains(topic));
        let gone = gone.map(|topic| (topic.clone(), false));
        let changes: Vec<_> = topics.iter().map(|topic| (topic.clone(), true)).collect();
        let changes = gone
            .chain(changes)
            .map(|(topic, is_wanted)| Change { topic, is_wanted });
        let changes = changes.collect();
        self.apply(changes).await?;
        // Nodes that have nothing of it any more.
        let held: HashSet<_> = self.held.values().cloned().collect();
        if self.cluster.is_some() {
            self.nodes.retain(|at, _| held.contains(at));
        }
        Ok(version)
    }

    /// Makes changes true, of which the last of each topic counts.
    async fn apply(&mut self, changes: Vec<Change>) -> Result<(), Error> {
        let last: HashMap<_, _> = changes
            .into_iter()
            .filter(|change| self.goes_here(&change.topic))
            .map(|change| (change.topic, change.is_wanted))
            .collect();
        let (mut begins, mut ends) = (HashMap::new(), HashMap::new());
        for (topic, is_wanted) in last {
            let held = self.held.get(&topic);
            let at = match is_wanted {
                true => Some(self.at(&topic)?),
                false => None,
            };
            if at.as_ref() == held {
                continue;
            }
            if let Some(held) = held.cloned() {
                let ends: &mut Vec<_> = ends.entry((held, topic.is_pattern())).or_default();
                ends.push(topic.clone());
            }
            if let Some(at) = at {
                let begins: &mut Vec<_> = begins.entry((at, topic.is_pattern())).or_default();
                begins.push(topic);
            }
        }
        for (is_wanted, changes) in [(true, begins), (false, ends)] {
            for ((at, is_pattern), topics) in changes {
                for part in topics.chunks(NAMES) {
                    self.say(&at, part, is_wanted, is_pattern).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether a topic is subscribed to by this. Streams are read, whether they are wanted or not.
    fn goes_here(&self, topic: &Topic) -> bool {
        !topic.is_stream() && self.shared.server.way(topic) == self.way
    }

    /// Where a topic is to be subscribed to.
    fn at(&self, topic: &Topic) -> Result<At, Error> {
        let Some(topology) = &self.topology else {
            return Ok(None);
        };
        match topology.master_of(topic.name()) {
            Some(node) => Ok(Some(node.clone())),
            None => Err(Error::Uncovered {
                slots: topology.uncovered(),
            }),
        }
    }

    /// The node at this address.
    fn node_at(&self, address: &str) -> At {
        let mut nodes = self.nodes.keys().flatten();
        nodes.find(|node| node.to_string() == address).cloned()
    }

    /// The connection there, which is made if there is none.
    async fn node(&mut self, at: &At) -> Result<&mut Node, Error> {
        if !self.nodes.contains_key(at) {
            let node = connect(self.shared, self.cluster, self.inbox, at).await?;
            self.nodes.insert(at.clone(), node);
        }
        // It has just been put there.
        self.nodes.get_mut(at).ok_or(Error::Uncovered { slots: 0 })
    }

    /// Subscribes to topics of one kind at one node, or ends that. It resolves when all are
    /// confirmed.
    async fn say(
        &mut self,
        at: &At,
        topics: &[Topic],
        is_wanted: bool,
        is_pattern: bool,
    ) -> Result<(), Error> {
        let is_sharded = self.shared.server.channels.are_sharded;
        let names: Vec<_> = topics.iter().map(channel).collect();
        let node = self.node(at).await?;
        let requests = &mut node.connection.requests;
        let said = match (is_wanted, is_pattern) {
            (_, false) if is_sharded => {
                // One name each: names of one command must have one slot.
                let command = if is_wanted {
                    "SSUBSCRIBE"
                } else {
                    node.ears.leave(&names);
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
        said.map_err(|error| node.connection.error(&error))?;
        for topic in topics {
            if is_wanted {
                self.held.insert(topic.clone(), at.clone());
            } else if self.held.get(topic) == Some(at) {
                self.held.remove(topic);
            }
        }
        Ok(())
    }
}

impl Ears {
    /// Subscriptions to these are about to end.
    fn leave(&self, names: &[String]) {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.extend(names.iter().map(|name| name.clone().into_bytes()));
    }
}

/// Connects, and listens.
async fn connect(
    shared: &Shared,
    cluster: Option<&Cluster>,
    inbox: &Arc<Inbox>,
    at: &At,
) -> Result<Node, Error> {
    let ears = Arc::new(Ears {
        inbox: Arc::clone(inbox),
        leaving: Mutex::default(),
        has_moved: watch::Sender::new(false),
    });
    let hears = Arc::clone(&ears);
    let push: Push = Arc::new(move |info| hears.hear(info));
    let server = &shared.server;
    let connection = match (cluster, at) {
        (Some(cluster), Some(at)) => server.connect_to(cluster, at, push).await?,
        _ => server.connect(push).await?,
    };
    let mut moved = ears.has_moved.subscribe();
    let (ends, address) = (connection.ending(None), connection.context.address.clone());
    let ending = async move {
        tokio::select! {
            error = ends => error,
            // The ears are here as long as the connection is.
            Ok(_) = moved.wait_for(|has_moved| *has_moved) => Error::Elsewhere {
                address,
                answer: "its slots have moved".to_owned(),
            },
        }
    };
    Ok(Node {
        connection,
        ears,
        ending: Box::pin(ending),
    })
}

/// What is known of the Redis Cluster by now.
fn learned(known: &mut watch::Receiver<Option<Arc<Topology>>>) -> Option<Arc<Topology>> {
    known.borrow_and_update().clone()
}

/// Resolves when one of the connections fails.
async fn failed(nodes: &mut HashMap<At, Node>) -> Error {
    std::future::poll_fn(|cx| {
        let failed = nodes
            .values_mut()
            .find_map(|node| match node.ending.as_mut().poll(cx) {
                Poll::Ready(error) => Some(error),
                Poll::Pending => None,
            });
        failed.map_or(Poll::Pending, Poll::Ready)
    })
    .await
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
