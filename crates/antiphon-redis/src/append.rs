//! An entry on its way to a log: from the journal through the queue to the script that appends it.
//!
//! The journal packs a [`Queued`] into the queue, and the publisher takes it apart and runs the
//! script. Its [`Sender`] is told if that fails.

use std::{sync::Arc, time::Duration};

use antiphon_cluster::{broker::entry, log::Append};
use bytes::Bytes;
use redis::Pipeline;

/// What the scripts that give places begin with.
pub(crate) const BEGIN: &str = include_str!("scripts/begin.lua");

/// The script that appends, as Redis is to know it.
pub(crate) fn append_script() -> String {
    format!("{BEGIN}{}", include_str!("scripts/append.lua"))
}

/// Who has sent an entry, and its number.
pub(crate) struct Sender {
    pub(crate) from: Arc<str>,
    pub(crate) number: u64,
}

/// An entry that is to be appended, on its way through the queue.
pub(crate) struct Queued {
    from: Arc<str>,
    number: u64,
    keep: u64,
    millis: u64,
    entry: Bytes,
}

impl Queued {
    pub(crate) fn pack(append: &Append<'_>) -> Bytes {
        let millis = millis(append.time).max(1);
        let [number, keep, time] =
            [append.number, append.keep, millis].map(|number| number.to_string());
        entry::pack(
            append.from.as_bytes(),
            [
                (number.as_bytes(), &append.entry[..]),
                (keep.as_bytes(), time.as_bytes()),
            ],
        )
    }

    /// It was packed by this broker.
    pub(crate) fn unpack(frame: &[u8]) -> Option<Self> {
        let text = |bytes| str::from_utf8(bytes).ok();
        let (from, fields) = entry::unpack(frame)?;
        let [(number, entry), (keep, millis)] = fields[..] else {
            return None;
        };
        Some(Self {
            from: text(from)?.into(),
            number: text(number)?.parse().ok()?,
            keep: text(keep)?.parse().ok()?,
            millis: text(millis)?.parse().ok()?,
            entry: Bytes::copy_from_slice(entry),
        })
    }

    /// Who waits for it.
    pub(crate) fn sender(&self) -> Sender {
        Sender {
            from: Arc::clone(&self.from),
            number: self.number,
        }
    }

    /// The command that appends it by the script of this digest.
    pub(crate) fn command(&self, pipeline: &mut Pipeline, script: &str, log: &str) {
        pipeline
            .cmd("EVALSHA")
            .arg(script)
            .arg(3)
            .arg(log)
            .arg(state(log))
            .arg(format!("{log}:sent:{}", self.from))
            .arg(self.number)
            .arg(&self.entry[..])
            .arg(self.keep)
            .arg(self.millis);
    }
}

/// The key of what is known of a log.
pub(crate) fn state(log: &str) -> String {
    format!("{log}:state")
}

/// A time, as scripts take it.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
