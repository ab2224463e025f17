//! Our own wire, as long as one connection holds: frames are rows of the table.
//!
//! ```text
//! queue --- insert, notify ---> table --- notify ---> read behind the place ---> inbox
//! wanted -- filter --------------------------------------^
//! ```
//!
//! A notification says no more than that there is something to read, so that one that is lost or
//! late costs time alone: the table is read again after [`POLL`] in any case.

use std::{convert::Infallible, pin::pin, time::Duration};

use antiphon_cluster::{Topic, Wanted, broker::Inbox};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tokio::sync::Notify;
use tokio_postgres::{
    Row, RowStream, Statement,
    types::{ToSql, Type},
};

use crate::{
    append,
    error::Error,
    filter::Filter,
    place::{From, Head, Place},
    server::{Driver, Session},
    shared::Shared,
    table::{Statements, Table},
};

/// So often the table is read without a notification.
const POLL: Duration = Duration::from_secs(1);

/// So often it is looked whether there is something to delete.
const SWEEP: Duration = Duration::from_secs(2);

/// Publishes and reads until the connection fails. `place` outlives it.
pub(crate) async fn run(
    shared: &Shared,
    table: &Table,
    (session, driver): (Session<'_>, Driver<'_>),
    (wanted, inbox): (&Wanted, &Inbox),
    place: &mut Place,
) -> Error {
    let woken = Notify::new();
    let works = async {
        let statements = table.open(&session).await?;
        let _asks = shared.ask_by(&session.client);
        let (version, topics) = wanted.all();
        let mut reader = Reader {
            session: &session,
            table,
            statements: &statements,
            filter: Filter::new(topics),
            place,
        };
        reader.begin(inbox).await?;
        inbox.subscribed(version);
        shared.line.up(inbox);
        tokio::try_join!(
            publish(shared, &session, &statements),
            sweep(table, &session, &statements),
            reader.follow(wanted, inbox, version, &woken),
        )?;
        Ok(())
    };
    tokio::select! {
        biased;
        error = driver.run(|_| woken.notify_one()) => error,
        error = shared.given_up() => error,
        worked = works => match worked {
            Err(error) => error,
            Ok(()) => session.context.silent(),
        }
    }
}

/// Puts what waits into the table, and into the logs, batch by batch and in its order.
async fn publish(
    shared: &Shared,
    session: &Session<'_>,
    statements: &Statements,
) -> Result<Infallible, Error> {
    loop {
        let batch = shared.line.queue().take().await;
        // Entries of one log go together, and frames between them. No transaction holds two logs.
        let is_same = |one: &(Topic, Bytes), other: &(Topic, Bytes)| match one.0.is_stream() {
            true => one.0 == other.0,
            false => !other.0.is_stream(),
        };
        for part in batch.frames.chunk_by(is_same) {
            match part {
                [(log, _), ..] if log.is_stream() => {
                    append::append(session, &statements.append, log, part).await?;
                }
                part => insert(session, &statements.insert, part).await?,
            }
        }
        shared.line.queue().done(batch.size);
    }
}

async fn insert(
    session: &Session<'_>,
    insert: &Statement,
    frames: &[(Topic, Bytes)],
) -> Result<(), Error> {
    let topics: Vec<_> = frames
        .iter()
        .map(|(topic, _)| topic.name().as_bytes())
        .collect();
    let frames: Vec<_> = frames.iter().map(|(_, frame)| &frame[..]).collect();
    let params: [&(dyn ToSql + Sync); 2] = [&topics, &frames];
    let inserts = session.client.execute(insert, &params);
    session.answer(inserts).await.map(drop)
}

/// Deletes what is old.
async fn sweep(
    table: &Table,
    session: &Session<'_>,
    statements: &Statements,
) -> Result<Infallible, Error> {
    let keep = i64::try_from(table.keep.as_millis()).unwrap_or(i64::MAX);
    loop {
        tokio::time::sleep(SWEEP.min(table.keep)).await;
        let params: [&(dyn ToSql + Sync); 2] = [&keep, &table.keep_rows];
        let sweeps = session.client.execute(&statements.sweep, &params);
        session.answer(sweeps).await?;
    }
}

struct Reader<'r> {
    session: &'r Session<'r>,
    table: &'r Table,
    statements: &'r Statements,
    filter: Filter,
    place: &'r mut Place,
}

impl Reader<'_> {
    /// Reads what has come since the last connection.
    async fn begin(&mut self, inbox: &Inbox) -> Result<(), Error> {
        let sql = format!(
            "SELECT epoch::text, pg_current_snapshot()::text, clock_timestamp() FROM {}_state",
            self.table.prefix()
        );
        let row = self.session.one(&sql, &[]).await?;
        let (epoch, now): (String, String) = (row.get(0), row.get(1));
        match self.place.from(&epoch, &now) {
            From::Now => {
                self.place.arrive(Head {
                    epoch,
                    snapshot: now,
                    swept: None,
                    now: row.get(2),
                });
                Ok(())
            }
            From::Snapshot(snapshot) => self.read_behind(&snapshot, inbox).await,
            From::Time(time) => {
                let types = [Type::TIMESTAMPTZ, Type::BYTEA, Type::INT4];
                let sql = self.table.read_since();
                let prepares = self.session.client.prepare_typed(&sql, &types);
                let statement = self.session.answer(prepares).await?;
                let (bits, mask) = self.filter.bits();
                let params: [&(dyn ToSql + Sync); 3] = [&time, &bits, &mask];
                let reads = self.session.client.query_raw(&statement, params);
                let rows = self.session.answer(reads).await?;
                self.take(rows, inbox).await
            }
        }
    }

    /// Reads as often as there may be something new, and follows what is wanted.
    async fn follow(
        &mut self,
        wanted: &Wanted,
        inbox: &Inbox,
        mut version: u64,
        woken: &Notify,
    ) -> Result<Infallible, Error> {
        loop {
            tokio::select! {
                () = wanted.changed(version) => {
                    version = match wanted.since(version) {
                        Some((now, changes)) => {
                            self.filter.apply(changes);
                            now
                        }
                        None => {
                            let (now, topics) = wanted.all();
                            self.filter = Filter::new(topics);
                            now
                        }
                    };
                    // What is committed from now on is read with it.
                    inbox.subscribed(version);
                    continue;
                }
                () = woken.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
            if let From::Snapshot(snapshot) = self.place.here() {
                self.read_behind(&snapshot, inbox).await?;
            }
        }
    }

    async fn read_behind(&mut self, snapshot: &str, inbox: &Inbox) -> Result<(), Error> {
        let (bits, mask) = self.filter.bits();
        let params: [&(dyn ToSql + Sync); 3] = [&snapshot, &bits, &mask];
        let reads = self.session.client.query_raw(&self.statements.read, params);
        let rows = self.session.answer(reads).await?;
        self.take(rows, inbox).await
    }

    /// Takes the rows of a read.
    async fn take(&mut self, rows: RowStream, inbox: &Inbox) -> Result<(), Error> {
        let mut rows = pin!(rows);
        let mut head = None;
        while let Some(row) = self.session.answer(rows.try_next()).await? {
            match row.get::<_, Option<i64>>(0) {
                None => head = Some(self.head(&row)?),
                Some(id) => self.row(&row, id, inbox),
            }
        }
        let head = head.ok_or_else(|| self.torn())?;
        if self.place.arrive(head) {
            tracing::warn!(
                "frames were deleted before they could be read: this server was away for longer \
                 than they are kept (PostgresBuilder::keep)"
            );
            inbox.dropped(1);
        }
        Ok(())
    }

    fn row(&mut self, row: &Row, id: i64, inbox: &Inbox) {
        let is_new = self.place.take(row.get(1), id);
        if is_new && let Some(topic) = self.filter.wants(row.get(2)) {
            inbox.frame(topic, Bytes::copy_from_slice(row.get(3)));
        }
    }

    fn head(&self, row: &Row) -> Result<Head, Error> {
        let text = std::str::from_utf8(row.get(2)).map_err(|_| self.torn())?;
        let mut parts = text.split(' ').map(str::to_owned);
        let (Some(epoch), Some(snapshot)) = (parts.next(), parts.next()) else {
            return Err(self.torn());
        };
        Ok(Head {
            epoch,
            snapshot,
            swept: parts.next(),
            now: row.get(1),
        })
    }

    /// The row of the state is gone: the next connection makes it again.
    fn torn(&self) -> Error {
        Error::Other {
            address: self.session.context.address.clone(),
            answer: format!("the row of {}_state is missing", self.table.prefix()),
        }
    }
}
