//! Entries on their way to a log: from the journal through the queue to the statement that appends
//! them.
//!
//! The journal packs a [`Queued`] into the queue; the task that publishes appends those of one log
//! together.

use antiphon_cluster::{Topic, broker::entry, log::Append};
use bytes::Bytes;
use tokio_postgres::{Statement, types::ToSql};

use crate::{error::Error, server::Session};

/// An entry that is to be appended, on its way through the queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Queued<'f> {
    from: &'f [u8],
    number: i64,
    entry: &'f [u8],
    keep: i64,
    millis: i64,
}

impl<'f> Queued<'f> {
    pub(crate) fn pack(append: &Append<'_>) -> Bytes {
        let millis = u64::try_from(append.time.as_millis()).unwrap_or(u64::MAX);
        let numbers = [append.number, append.keep, millis].map(|it| signed(it).to_be_bytes());
        let [number, keep, millis] = &numbers;
        let fields = [(&number[..], &append.entry[..]), (keep, millis)];
        entry::pack(append.from.as_bytes(), fields)
    }

    /// It was packed by this broker.
    fn unpack(frame: &'f [u8]) -> Option<Self> {
        let (from, fields) = entry::unpack(frame)?;
        let [(number, entry), (keep, millis)] = fields[..] else {
            return None;
        };
        let number_of = |bytes: &[u8]| bytes.try_into().ok().map(i64::from_be_bytes);
        Some(Self {
            from,
            number: number_of(number)?,
            entry,
            keep: number_of(keep)?,
            millis: number_of(millis)?,
        })
    }
}

/// A number as Postgres has it.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Appends the entries of one log.
pub(crate) async fn append(
    session: &Session<'_>,
    statement: &Statement,
    log: &Topic,
    frames: &[(Topic, Bytes)],
) -> Result<(), Error> {
    let queued = frames.iter().filter_map(|(_, frame)| Queued::unpack(frame));
    let queued: Vec<_> = queued.collect();
    let log = log.name().as_bytes();
    let from: Vec<_> = queued.iter().map(|it| it.from).collect();
    let numbers: Vec<_> = queued.iter().map(|it| it.number).collect();
    let entries: Vec<_> = queued.iter().map(|it| it.entry).collect();
    let keep: Vec<_> = queued.iter().map(|it| it.keep).collect();
    let millis: Vec<_> = queued.iter().map(|it| it.millis).collect();
    let params: [&(dyn ToSql + Sync); 6] = [&log, &from, &numbers, &entries, &keep, &millis];
    let appends = session.client.execute(statement, &params);
    session.answer(appends).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_entry_comes_through_the_queue_as_it_was() {
        let append = Append {
            from: "server",
            number: 7,
            entry: Bytes::from_static(b"what it says"),
            keep: u64::MAX,
            time: Duration::from_secs(60),
        };
        let frame = Queued::pack(&append);
        let queued = Queued {
            from: b"server",
            number: 7,
            entry: b"what it says",
            keep: i64::MAX,
            millis: 60_000,
        };
        assert_eq!(Queued::unpack(&frame), Some(queued));
        assert_eq!(Queued::unpack(b"garbage"), None);
    }
}
