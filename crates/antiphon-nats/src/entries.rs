//! Entries of logs: on their way to JetStream, and as it gives them.
//!
//! A codec. The journal packs a [`Queued`] into the queue, and the writer takes it apart for
//! JetStream. What the reader hears of a stored entry, or the journal reads, has its place by the name of
//! its stream and its number there.

use std::sync::Arc;

use antiphon_cluster::{
    broker::entry,
    log::{Append, Placed},
};
use bytes::Bytes;

use crate::{
    subject::{self, token},
    wire::Message,
};

/// What stands for an entry that isn't ours, and is understood by nobody: an empty one would be a
/// break in the log.
const FOREIGN: &[u8] = b"?";

/// An entry that is to be appended, on its way through the queue.
pub(crate) struct Queued {
    pub(crate) from: Arc<str>,
    pub(crate) number: u64,
    pub(crate) entry: Bytes,
}

impl Queued {
    pub(crate) fn pack(append: &Append<'_>) -> Bytes {
        let number = append.number.to_string();
        entry::pack(
            append.from.as_bytes(),
            [(number.as_bytes(), &append.entry[..])],
        )
    }

    /// It was packed by this broker.
    pub(crate) fn unpack(frame: &Bytes) -> Option<Self> {
        let (from, fields) = entry::unpack(frame)?;
        let [(number, entry)] = fields[..] else {
            return None;
        };
        Some(Self {
            from: str::from_utf8(from).ok()?.into(),
            number: str::from_utf8(number).ok()?.parse().ok()?,
            entry: frame.slice_ref(entry),
        })
    }

    /// The headers by which JetStream stores it once.
    pub(crate) fn headers(&self) -> [(&'static str, String); 1] {
        let id = format!("{}:{}", token(&self.from).0, self.number);
        [("Nats-Msg-Id", id)]
    }
}

/// The frame of an entry that JetStream has stored and published, under the topic of a log. Returns
/// `None` if the message is none.
pub(crate) fn heard(topic: &str, message: &Message) -> Option<(u64, u64)> {
    let stream = message.headers.get("Nats-Stream")?;
    let base = base(&stem(topic), stream)?;
    let sequence: u64 = message.headers.get("Nats-Sequence")?.parse().ok()?;
    let place = base.checked_add(sequence)?;
    Some((place, place.checked_sub(1)?))
}

/// The entry of a stored message, which has what comes before it in a payload.
pub(crate) fn placed((place, before): (u64, u64), entry: Option<Bytes>) -> Placed {
    let entry = entry.filter(|entry| !entry.is_empty());
    Placed {
        place,
        before,
        entry: entry.unwrap_or(Bytes::from_static(FOREIGN)),
    }
}

/// What the name of a log's stream begins with.
pub(crate) fn stem(log: &str) -> String {
    subject::plain(log)
}

/// What the places in a stream begin behind. Returns `None` if it isn't one of this log.
pub(crate) fn base(stem: &str, stream: &str) -> Option<u64> {
    stream.strip_prefix(stem)?.strip_prefix('-')?.parse().ok()
}
