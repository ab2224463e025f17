//! The log of a namespace: its events in one order, and the sessions that may come back to them.
//!
//! A [`Log`] is the line between recovery and what keeps events: memory, a file, a broker. The
//! namespace owns one. It appends each event before it is delivered, and gives the sequence that
//! this has been given to its clients. A client that comes back says the last one that it has had;
//! [`Log::read`] gives what its socket has missed since, by the rooms that it was in at that time.
//! What a log can't give any more it must say ([`LogError`]): nothing is skipped in silence.
//!
//! A log may be shared by the servers of a cluster. Then all deliver its events in its order:
//! those of others come to [`Local::deliver`](crate::adapter::Local::deliver), and a session is
//! [taken](Log::take) from wherever it is.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use antiphon_protocol::socket::Outgoing;

use serde::{Deserialize, Serialize};

use crate::server::{Room, SocketId, Target, adapter::Flags, handlers::future::BoxFuture};

/// How often a log says what goes wrong for events one after the other.
pub(super) const SAID_EACH: Duration = Duration::from_secs(10);

/// A place in a log: that of one event.
///
/// As a text it is `<epoch>:<sequence>`, both in base 36. Clients keep that and give it back; they
/// don't look into it.
///
/// ```
/// use antiphon::recovery::Offset;
///
/// let offset: Offset = "1z141z3:a".parse()?;
/// assert_eq!((offset.epoch, offset.sequence), (u32::MAX, 10));
/// assert_eq!(offset.to_string(), "1z141z3:a");
/// # Ok::<(), antiphon::recovery::LogError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Offset {
    /// Which log this is a place of: one that begins anew has another epoch.
    pub epoch: u32,
    /// The number of the event. The first has 1; 0 is the place before it.
    pub sequence: u64,
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Both numbers fit: 7 and 13 digits, and the colon.
        let mut text = [0; 21];
        let mut at = text.len();
        for (number, end) in [(self.sequence, Some(b':')), (u64::from(self.epoch), None)] {
            let mut rest = number;
            loop {
                at -= 1;
                let digit = (rest % 36) as u8;
                text[at] = if digit < 10 {
                    b'0' + digit
                } else {
                    b'a' + digit - 10
                };
                rest /= 36;
                if rest == 0 {
                    break;
                }
            }
            if let Some(colon) = end {
                at -= 1;
                text[at] = colon;
            }
        }
        f.write_str(str::from_utf8(&text[at..]).unwrap_or_default())
    }
}

impl FromStr for Offset {
    type Err = LogError;

    /// # Errors
    /// [`LogError::Gap`] if this is no offset.
    fn from_str(text: &str) -> Result<Self, LogError> {
        let parse = || {
            let (epoch, sequence) = text.split_once(':')?;
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if !digits(epoch) || !digits(sequence) {
                return None;
            }
            Some(Self {
                epoch: u32::from_str_radix(epoch, 36).ok()?,
                sequence: u64::from_str_radix(sequence, 36).ok()?,
            })
        };
        parse().ok_or(LogError::Gap)
    }
}

/// Why a log can't give what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The session was never there, or belongs to a server that has kept nothing over its restart.
    #[error("no such session: the server may have been restarted without a durable log")]
    Unknown,
    /// The session's time is up, or it was ended on purpose.
    #[error("the session has expired, or was ended by either side")]
    Expired,
    /// Events that the socket has missed are not in the log: they have been dropped, for their age
    /// or for its bounds, or were not stored yet when the server was killed.
    #[error(
        "missed events are not in the log: dropped for its bounds, or not stored by a server that was killed"
    )]
    Evicted,
    /// Another connection of its client has come for the session, here or to another server: who has
    /// this is closed, and its client comes again.
    #[error("another connection of its client has come for the session")]
    Elsewhere,
    /// The offset is no place of this log.
    #[error("the offset is no place of this log")]
    Gap,
    /// The namespace has no log: see [`ServerBuilder::recovery`](crate::ServerBuilder::recovery).
    #[error("the namespace has no log: see `ServerBuilder::recovery`")]
    NoLog,
    /// What keeps the log has failed.
    #[error("the log has failed: {0}")]
    Failed(String),
}

/// When a socket was in a room.
///
/// It got the events to that room with a sequence above `after`, up to `upto` if that is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stay {
    /// The room; that of its own id is one, too.
    pub room: Room,
    /// The last event before it came.
    pub after: u64,
    /// The last event before it left. `None` if it hasn't.
    pub upto: Option<u64>,
}

impl Stay {
    /// Whether an event with this sequence was for it.
    #[must_use]
    pub fn covers(&self, sequence: u64) -> bool {
        sequence > self.after && self.upto.is_none_or(|upto| sequence <= upto)
    }
}

/// What a socket has been in since when: by this the events that it has missed are found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stays {
    /// The last event before it joined the namespace.
    pub came: u64,
    /// Its rooms, and those that it has left.
    pub stays: Vec<Stay>,
    /// What is known of rooms that it has left begins here: before, some may have been forgotten.
    pub known_from: u64,
}

/// Which part of a log is wanted: what a socket has missed.
#[derive(Debug, Clone)]
pub struct Missed {
    /// Where it was when.
    pub stays: Stays,
    /// The last event that it has had.
    pub after: u64,
    /// The last event that is wanted.
    pub upto: u64,
    /// About so many bytes at a time.
    pub bytes: usize,
}

/// Events of a log, in its order.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The events.
    pub events: Vec<LoggedEvent>,
    /// Whether there are more behind them.
    pub has_more: bool,
}

/// An event that a log has kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LoggedEvent {
    /// Its place in the log.
    pub offset: Offset,
    /// When it was emitted.
    pub at: SystemTime,
    /// The event: see [`Outgoing::name`] and [`Outgoing::with_args`].
    pub event: Outgoing,
}

impl LoggedEvent {
    /// An event as a log gives it.
    #[must_use]
    pub const fn new(offset: Offset, at: SystemTime, event: Outgoing) -> Self {
        Self { offset, at, event }
    }
}

/// A session as it is kept outside of this process.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedSession {
    /// Its private id, which is its credential.
    pub pid: Room,
    /// The id of its socket.
    pub id: SocketId,
    /// Its rooms.
    pub stays: Stays,
    /// Values of [`Recovery::data`](super::Recovery::data), by their names.
    pub data: serde_json::Map<String, serde_json::Value>,
}

/// A session as JSON.
#[derive(Serialize, Deserialize)]
struct Written {
    id: String,
    came: u64,
    /// Room, after, and upto where it was left.
    stays: Vec<(String, u64, Option<u64>)>,
    known_from: u64,
    data: serde_json::Map<String, serde_json::Value>,
}

impl SavedSession {
    /// The session without its private id, as a JSON text.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let stays = self.stays.stays.iter();
        let written = Written {
            id: self.id.as_str().to_owned(),
            came: self.stays.came,
            stays: stays
                .map(|stay| (stay.room.to_string(), stay.after, stay.upto))
                .collect(),
            known_from: self.stays.known_from,
            data: self.data.clone(),
        };
        // A map with texts as keys can be written.
        serde_json::to_vec(&written).unwrap_or_default()
    }

    /// The session of this private id, from such a text. Returns `None` if it is none.
    #[must_use]
    pub fn from_json(pid: &str, json: &[u8]) -> Option<Self> {
        let written: Written = serde_json::from_slice(json).ok()?;
        let stays = written.stays.into_iter();
        let stays = stays.map(|(room, after, upto)| Stay {
            room: room.into(),
            after,
            upto,
        });
        Some(Self {
            pid: pid.into(),
            id: SocketId::new(written.id),
            stays: Stays {
                came: written.came,
                stays: stays.collect(),
                known_from: written.known_from,
            },
            data: written.data,
        })
    }
}

/// What becomes of an event that is appended.
pub enum Appending {
    /// It has its place.
    Done(Result<u64, LogError>),
    /// It will have one when this resolves: it isn't delivered before, and what its sender does next
    /// waits, too. The work goes on whether it is polled or not. A log bounds how many wait: what it
    /// can't take is `Done` with an error.
    Waiting(BoxFuture<Result<u64, LogError>>),
    /// This log doesn't keep it: sockets that are there get it, in its order, and it isn't recovered.
    Unlogged,
}

impl fmt::Debug for Appending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(result) => f.debug_tuple("Done").field(result).finish(),
            Self::Waiting(_) => f.write_str("Waiting"),
            Self::Unlogged => f.write_str("Unlogged"),
        }
    }
}

/// Keeps the events and the sessions of one namespace.
///
/// Calls of `append` come one by one, in the order in which the events are to be delivered, and
/// sequences must be given in that order. No method blocks.
pub trait Log: Send + Sync + 'static {
    /// Which log this is: the epoch of its offsets.
    fn epoch(&self) -> u32;

    /// The last event that has been given a sequence; 0 if there was none.
    fn last(&self) -> u64;

    /// How clients are told of a place in this log. By default as [`Offset`] writes it.
    fn offset(&self, sequence: u64) -> String {
        let epoch = self.epoch();
        Offset { epoch, sequence }.to_string()
    }

    /// The sequence of an offset that a client has given back.
    ///
    /// # Errors
    /// [`LogError::Gap`] if it is no place of this log.
    fn sequence(&self, offset: &str) -> Result<u64, LogError> {
        let offset: Offset = offset.parse()?;
        let is_ours = offset.epoch == self.epoch();
        is_ours.then_some(offset.sequence).ok_or(LogError::Gap)
    }

    /// Keeps an event to the sockets of `target`. The flags say how it travels; what is
    /// [`local`](Flags::local) concerns the sockets of this server alone.
    fn append(&self, event: &Outgoing, target: &Target, flags: Flags) -> Appending;

    /// Keeps an event which other servers that share the log keep, too: they know by its number among
    /// what `from` emits that it is the same, and it comes once, as those of other servers do
    /// ([`Local::deliver`](crate::adapter::Local::deliver)). Returns `false` if the log can't do that,
    /// which is the default; then it doesn't get the event.
    fn append_once(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
        (from, number): (&str, u64),
    ) -> bool {
        let _ = (event, target, flags, from, number);
        false
    }

    /// What a socket has missed, oldest first. It must be ready at once where all that is wanted
    /// was appended a moment ago, since the namespace emits nothing meanwhile.
    ///
    /// # Errors
    /// [`LogError`] if a part of that can't be given: never a page with a hole.
    fn read(&self, missed: Missed) -> BoxFuture<Result<Page, LogError>>;

    /// The newest events to a room (to everyone if there is none), oldest first, of those above
    /// `after`.
    fn newest(
        &self,
        room: Option<&str>,
        after: u64,
        limit: usize,
    ) -> BoxFuture<Result<Page, LogError>>;

    /// Whether sessions outlive this process. Only then [`save`](Self::save) and its like are
    /// called.
    fn is_durable(&self) -> bool {
        false
    }

    /// Keeps a session as it is now. Called at its connect and whenever it changes.
    fn save(&self, session: SavedSession) {
        let _ = session;
    }

    /// Forgets a session: it has been ended on purpose, or its time is up.
    fn forget(&self, pid: &str) {
        let _ = pid;
    }

    /// Keeps a session whose client is away, for as long as it may be resumed. Called when its
    /// connection has ended, behind all changes. By default nothing more than by
    /// [`save`](Self::save) is to be done.
    fn park(&self, session: SavedSession) {
        let _ = session;
    }

    /// Whether sessions whose clients are away belong to no server: each is [taken](Self::take) then
    /// before it is resumed, also by the server that it was on.
    fn lends(&self) -> bool {
        false
    }

    /// The sessions that were there when the log was opened.
    fn saved(&self) -> Vec<SavedSession> {
        Vec::new()
    }

    /// Resolves when this server has heard all events up to this one: before, nobody who has had it
    /// is let in. At once where nobody else appends.
    ///
    /// # Errors
    /// [`LogError::Gap`] if the log doesn't go so far.
    fn reached(&self, sequence: u64) -> BoxFuture<Result<(), LogError>> {
        let _ = sequence;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Takes a session that isn't on this server, once: from the one that has it, or from where it
    /// was saved. It is this server's from then on. By default there is none.
    ///
    /// # Errors
    /// [`LogError::Elsewhere`] if the client has come for it to another server since, or that one has
    /// just taken it; another [`LogError`] if nothing can be told.
    fn take(&self, pid: &str) -> BoxFuture<Result<Option<SavedSession>, LogError>> {
        let _ = pid;
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Drops what is older than the log keeps. Called from time to time.
    fn sweep(&self) {}

    /// Events and changes of sessions that could not be stored so far.
    fn failures(&self) -> u64 {
        0
    }

    /// Resolves when all that was appended and saved is stored.
    fn flush(&self) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }
}

/// What a log keeps of one namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// How long an event is kept.
    pub duration: Duration,
    /// How many events.
    pub events: usize,
    /// How many bytes: arguments, attachments, and some 20 bytes an event.
    pub bytes: usize,
}
