//! Reads streams, and gives their entries to the inbox: one connection, or one for each stream in a
//! Redis Cluster, where each has a node.
//!
//! A stream keeps what is published, so nothing has to be lost with a connection: a new one goes on
//! behind the last entry that was read. The first begins with what comes from now on. Entries that
//! find the inbox full wait in the stream.
//!
//! A stream is bounded, too. If entries were trimmed before they were read, that is counted as
//! dropped, as the inbox counts what it drops.

use std::{fmt, sync::Arc};

use antiphon_cluster::broker::{Backoff, Inbox, entry};
use bytes::Bytes;
use redis::{ErrorKind, RedisError, RedisResult, Value};
use tokio::task::JoinSet;

use crate::{
    connection::{Connection, PROBE},
    error::Error,
    server::{Server, Streams},
    shared::{Shared, Side},
};

/// So many entries of each stream are read at once, as by Node.
const COUNT: u64 = 100;

/// The streams that are read by one connection each: all of them, or one, where each has its own node.
pub(crate) fn groups(server: &Server) -> Vec<Vec<String>> {
    let names = server.channels.streams.as_ref();
    let names = names.map_or_else(Vec::new, |streams| streams.names.clone());
    match server.cluster() {
        Some(_) => names.into_iter().map(|name| vec![name]).collect(),
        None if names.is_empty() => Vec::new(),
        None => vec![names],
    }
}

/// Reads all streams until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>, inbox: Arc<Inbox>) {
    let mut tasks = JoinSet::new();
    for (number, names) in groups(&shared.server).into_iter().enumerate() {
        tasks.spawn(read(Arc::clone(&shared), Arc::clone(&inbox), number, names));
    }
    tasks.join_all().await;
}

/// Reads some streams, and connects again when that fails, until it is dropped.
async fn read(shared: Arc<Shared>, inbox: Arc<Inbox>, number: usize, names: Vec<String>) {
    let Some(streams) = shared.server.channels.streams.as_ref() else {
        return;
    };
    let mut backoff = Backoff::new();
    let mut reader = Reader::new(&names, streams, &inbox);
    loop {
        let error = match connect(&shared.server, &names).await {
            Ok(connection) => {
                let follows = reader.follow(&shared, number, &connection, &mut backoff);
                let Err(error) = follows.await;
                error
            }
            Err(error) => error,
        };
        shared.down(Side::Reading(number), error);
        backoff.pause().await;
    }
}

/// Connects to what has these streams.
async fn connect(server: &Server, names: &[String]) -> Result<Connection, Error> {
    let (Some(cluster), Some(name)) = (server.cluster(), names.first()) else {
        return server.connect(Arc::new(|_| {})).await;
    };
    let topology = server.look(cluster, None).await?;
    let slots = topology.uncovered();
    let node = topology.master_of(name).ok_or(Error::Uncovered { slots })?;
    server.connect_to(cluster, node, Arc::new(|_| {})).await
}

struct Reader<'s> {
    streams: Vec<Stream>,
    /// So many entries of each are read at once.
    count: u64,
    inbox: &'s Inbox,
}

/// A stream, and what has been read of it.
struct Stream {
    name: Arc<str>,
    /// `None` before it has been looked at.
    place: Option<Place>,
}

/// Up to where a stream has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// The last entry that was read.
    last: Id,
    /// So many had been appended by then, as far as the Redis counts them.
    appended: Option<u64>,
}

/// The id of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Id(u64, u64);

/// What a Redis says of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct About {
    length: u64,
    first: Option<Id>,
    last: Id,
    /// So many have been appended, those that were trimmed among them. Redis 7 counts them.
    appended: Option<u64>,
}

/// What has become of a stream since it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    /// What is there goes on behind the place.
    Kept,
    /// Entries were trimmed: so many, or at least one.
    Trimmed(u64),
    /// It isn't the one that was read: the Redis has lost its data, or some.
    Anew,
}

/// An entry that was read.
pub(crate) struct Entry {
    id: Id,
    fields: Vec<Value>,
}

impl Entry {
    /// The frame of it.
    pub(crate) fn frame(&self) -> Bytes {
        let pairs = self.fields.chunks_exact(2);
        let pairs = pairs.filter_map(|pair| Some((bytes(&pair[0])?, bytes(&pair[1])?)));
        entry::pack(self.id.to_string().as_bytes(), pairs)
    }
}

impl<'s> Reader<'s> {
    fn new(names: &[String], streams: &Streams, inbox: &'s Inbox) -> Self {
        Self {
            streams: names
                .iter()
                .map(|name| Stream {
                    name: name.as_str().into(),
                    place: None,
                })
                .collect(),
            count: COUNT.min(streams.max_len / 2).max(1),
            inbox,
        }
    }

    /// Reads until the connection fails.
    async fn follow(
        &mut self,
        shared: &Shared,
        number: usize,
        connection: &Connection,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, Error> {
        self.look(connection).await?;
        let mut read = self.catch_up(connection).await?;
        // What is refused is refused by now, each time.
        backoff.reset();
        shared.up(Side::Reading(number));
        let mut is_behind = true;
        loop {
            let is_full = read
                .iter()
                .any(|(_, entries)| entries.len() as u64 >= self.count);
            // More may have come than the stream keeps: it is read again, with a look at that.
            let is_new = is_full && !is_behind;
            is_behind = is_full;
            if !is_new {
                self.deliver(read).await;
            }
            read = match is_behind {
                true => self.catch_up(connection).await?,
                false => self.wait(connection).await?,
            };
        }
    }

    /// Finds the places where to begin.
    async fn look(&mut self, connection: &Connection) -> Result<(), Error> {
        let mut pipeline = redis::pipe();
        self.ask_about(&mut pipeline);
        let replies = self.query(connection, &mut pipeline).await?;
        self.told_about(connection, replies).await
    }

    /// Reads what is there, and looks at whether something before has been trimmed.
    async fn catch_up(
        &mut self,
        connection: &Connection,
    ) -> Result<Vec<(usize, Vec<Entry>)>, Error> {
        let mut pipeline = redis::pipe();
        // Redis does what comes by one write without doing anything else in between.
        self.ask_about(&mut pipeline);
        pipeline.add_command(self.read(false));
        let mut replies = self.query(connection, &mut pipeline).await?;
        let read = replies.pop().unwrap_or(Ok(Value::Nil));
        self.told_about(connection, replies).await?;
        let read = read.map_err(|error| connection.error(&error))?;
        Ok(self.entries(read))
    }

    async fn told_about(
        &mut self,
        connection: &Connection,
        replies: Vec<RedisResult<Value>>,
    ) -> Result<(), Error> {
        for (stream, reply) in self.streams.iter_mut().zip(replies) {
            let about = about(reply).map_err(|error| connection.error(&error))?;
            let told = match stream.look(&about) {
                Since::Kept => continue,
                Since::Trimmed(entries) => {
                    self.inbox.dropped(entries);
                    entry::TRIMMED
                }
                Since::Anew => entry::ANEW,
            };
            // Those that keep what they read know that something lacks.
            let name = Arc::clone(&stream.name);
            self.inbox.read(name, Bytes::from_static(told)).await;
        }
        Ok(())
    }

    /// Waits for entries. None may come: by that one sees that the connection is there.
    async fn wait(&self, connection: &Connection) -> Result<Vec<(usize, Vec<Entry>)>, Error> {
        let command = self.read(true);
        let mut requests = connection.requests.clone();
        let read = tokio::select! {
            biased;
            error = connection.ended() => return Err(error),
            read = command.query_async(&mut requests) => read,
        };
        let read = read.map_err(|error| connection.error(&error))?;
        Ok(self.entries(read))
    }

    async fn query(
        &self,
        connection: &Connection,
        pipeline: &mut redis::Pipeline,
    ) -> Result<Vec<RedisResult<Value>>, Error> {
        let mut requests = connection.requests.clone();
        // A stream that isn't there yet is one.
        let replies = pipeline.ignore_errors().query_async(&mut requests).await;
        replies.map_err(|error| connection.error(&error))
    }

    fn ask_about(&self, pipeline: &mut redis::Pipeline) {
        for stream in &self.streams {
            pipeline.cmd("XINFO").arg("STREAM").arg(&*stream.name);
        }
    }

    /// The command that reads on.
    fn read(&self, waits: bool) -> redis::Cmd {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(self.count);
        if waits {
            // It is less than what an answer is waited for.
            let millis = u64::try_from(PROBE.as_millis()).unwrap_or(u64::MAX);
            command.arg("BLOCK").arg(millis);
        }
        command.arg("STREAMS");
        for stream in &self.streams {
            command.arg(&*stream.name);
        }
        for stream in &self.streams {
            let last = stream.place.map_or(Id(0, 0), |place| place.last);
            command.arg(last.to_string());
        }
        command
    }

    /// The entries of a reply, by their stream.
    fn entries(&self, reply: Value) -> Vec<(usize, Vec<Entry>)> {
        let Value::Map(streams) = reply else {
            return Vec::new();
        };
        let streams = streams.into_iter().filter_map(|(name, entries)| {
            let name = text(&name)?;
            let number = self
                .streams
                .iter()
                .position(|stream| &*stream.name == name)?;
            let Value::Array(entries) = entries else {
                return None;
            };
            Some((number, entries.into_iter().filter_map(entry).collect()))
        });
        streams.collect()
    }

    async fn deliver(&mut self, read: Vec<(usize, Vec<Entry>)>) {
        for (number, entries) in read {
            let Some(stream) = self.streams.get_mut(number) else {
                continue;
            };
            for entry in entries {
                self.inbox
                    .read(Arc::clone(&stream.name), entry.frame())
                    .await;
                stream.have_read(entry.id);
            }
        }
    }
}

impl Stream {
    /// Finds its place. Returns what has become of the stream since the last look.
    fn look(&mut self, about: &About) -> Since {
        let Some(place) = &mut self.place else {
            self.place = Some(about.end());
            return Since::Kept;
        };
        let stream = &*self.name;
        let since = place.since(about);
        match since {
            Since::Kept => {}
            Since::Trimmed(entries) => {
                tracing::warn!(
                    stream,
                    entries,
                    "entries of the stream were trimmed before they were read: more come than \
                     its maxLen holds while this server is away, or too busy"
                );
                place.appended = place.appended.map(|appended| appended + entries);
            }
            Since::Anew => {
                tracing::warn!(
                    stream,
                    "the stream isn't the one that was read: Redis has lost it, and what was \
                     appended and not read yet"
                );
                *place = match about.last <= place.last {
                    true => about.end(),
                    // All that is there is new.
                    false => Place {
                        last: place.last,
                        appended: about.appended.map(|all| all.saturating_sub(about.length)),
                    },
                };
            }
        }
        since
    }

    fn have_read(&mut self, id: Id) {
        if let Some(place) = &mut self.place {
            place.last = id;
            place.appended = place.appended.map(|appended| appended + 1);
        }
    }
}

impl About {
    /// The place behind all that is there.
    const fn end(&self) -> Place {
        Place {
            last: self.last,
            appended: self.appended,
        }
    }
}

impl Place {
    fn since(&self, about: &About) -> Since {
        let counts = about.appended.zip(self.appended);
        if about.last < self.last || counts.is_some_and(|(now, before)| now < before) {
            return Since::Anew;
        }
        // An entry that was read is there: none behind it has been trimmed.
        let is_whole = about.first.unwrap_or(about.last) <= self.last;
        if is_whole {
            return Since::Kept;
        }
        let trimmed = match counts {
            Some((now, before)) => now.saturating_sub(about.length).saturating_sub(before),
            // What was read last isn't there any more, and nobody knows what else.
            None => u64::from(self.last != Id(0, 0)),
        };
        match trimmed {
            0 => Since::Kept,
            trimmed => Since::Trimmed(trimmed),
        }
    }
}

impl Id {
    fn parse(id: &Value) -> Option<Self> {
        let (time, number) = text(id)?.split_once('-')?;
        Some(Self(time.parse().ok()?, number.parse().ok()?))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// What the reply to `XINFO STREAM` says.
fn about(reply: RedisResult<Value>) -> RedisResult<About> {
    let mut about = About {
        length: 0,
        first: None,
        last: Id(0, 0),
        appended: None,
    };
    let fields = match reply {
        Ok(Value::Map(fields)) => fields,
        Err(error) if error.to_string().contains("no such key") => {
            about.appended = Some(0);
            return Ok(about);
        }
        Err(error) => return Err(error),
        Ok(_) => {
            let error = (ErrorKind::UnexpectedReturnType, "XINFO STREAM");
            return Err(RedisError::from(error));
        }
    };
    for (name, value) in fields {
        match (text(&name), value) {
            (Some("length"), Value::Int(length)) => about.length = length.try_into().unwrap_or(0),
            (Some("entries-added"), Value::Int(count)) => about.appended = count.try_into().ok(),
            (Some("last-generated-id"), id) => about.last = Id::parse(&id).unwrap_or(about.last),
            (Some("first-entry"), Value::Array(entry)) => {
                about.first = entry.first().and_then(Id::parse);
            }
            _ => {}
        }
    }
    Ok(about)
}

pub(crate) fn entry(entry: Value) -> Option<Entry> {
    let Value::Array(parts) = entry else {
        return None;
    };
    let mut parts = parts.into_iter();
    let id = Id::parse(&parts.next()?)?;
    match parts.next()? {
        Value::Array(fields) => Some(Entry { id, fields }),
        _ => None,
    }
}

const fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes.as_slice()),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::SimpleString(text) => Some(text),
        _ => std::str::from_utf8(bytes(value)?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(length: u64, first: Option<Id>, last: Id, appended: Option<u64>) -> About {
        About {
            length,
            first,
            last,
            appended,
        }
    }

    const PLACE: Place = Place {
        last: Id(5, 0),
        appended: Some(50),
    };

    #[test]
    fn as_long_as_what_was_read_is_there_nothing_behind_it_was_trimmed() {
        let kept = about(10, Some(Id(5, 0)), Id(9, 3), Some(90));
        assert_eq!(PLACE.since(&kept), Since::Kept);
        let nothing_new = about(0, None, Id(5, 0), Some(50));
        assert_eq!(PLACE.since(&nothing_new), Since::Kept);
    }

    #[test]
    fn what_was_trimmed_is_counted_where_redis_counts_what_was_appended() {
        // 40 came, of which 10 are there.
        let trimmed = about(10, Some(Id(7, 0)), Id(9, 0), Some(90));
        assert_eq!(PLACE.since(&trimmed), Since::Trimmed(30));
        // Up to what was read, and not beyond.
        let just = about(10, Some(Id(7, 0)), Id(9, 0), Some(60));
        assert_eq!(PLACE.since(&just), Since::Kept);
        let all = about(0, None, Id(9, 0), Some(60));
        assert_eq!(PLACE.since(&all), Since::Trimmed(10));
        let old = Place {
            appended: None,
            ..PLACE
        };
        let uncounted = about(10, Some(Id(7, 0)), Id(9, 0), None);
        assert_eq!(old.since(&uncounted), Since::Trimmed(1));
    }

    #[test]
    fn a_stream_with_less_than_was_read_is_another_one() {
        let behind = about(3, Some(Id(2, 0)), Id(4, 0), Some(49));
        let new = about(3, Some(Id(8, 0)), Id(9, 0), Some(3));
        let gone = about(0, None, Id(0, 0), Some(0));
        for about in [behind, new, gone] {
            assert_eq!(PLACE.since(&about), Since::Anew);
            let mut stream = Stream {
                name: "s".into(),
                place: Some(PLACE),
            };
            assert_eq!(stream.look(&about), Since::Anew);
        }
    }

    #[test]
    fn a_place_is_found_anew_and_read_on_from_there() {
        let mut stream = Stream {
            name: "s".into(),
            place: None,
        };
        assert_eq!(
            stream.look(&about(3, Some(Id(3, 0)), Id(5, 0), Some(50))),
            Since::Kept
        );
        assert_eq!(stream.place, Some(PLACE));
        let later = about(3, Some(Id(7, 0)), Id(9, 0), Some(60));
        assert_eq!(stream.look(&later), Since::Trimmed(7));
        for number in 7..10 {
            stream.have_read(Id(number, 0));
        }
        let read = Place {
            last: Id(9, 0),
            appended: Some(60),
        };
        assert_eq!(stream.place, Some(read));
    }
}
