//! The logs of namespaces with recovery, and their sessions: tables (`setup.sql`).
//!
//! An entry is appended, and put among the frames of its log's topic, by one transaction, which holds
//! the row of the log: so all servers hear entries in the order of their places. Appending goes
//! through the queue of what is published; the rest are questions on the same connection.

use std::{sync::Arc, time::Duration};

use antiphon::{adapter::BoxFuture, recovery::Bounds};
use antiphon_cluster::{
    Topic,
    broker::Refused,
    log::{Append, Change, Extent, Journal, Kept, Placed},
};
use bytes::Bytes;
use tokio_postgres::{
    Row,
    error::{DbError, Severity},
    types::{ToSql, Type},
};

use crate::{
    append::{Queued, signed},
    broker::PostgresBroker,
    error::Error,
    server::{DEADLINE, check_size},
    shared::Shared,
};

/// So many entries are read at a time.
const PAGE: i64 = 1_024;

/// A number of Postgres that is a place.
fn place(row: &Row, column: usize) -> u64 {
    u64::try_from(row.get::<_, i64>(column)).unwrap_or(0)
}

/// Whether the connection ends with this error.
fn ends(error: &DbError) -> bool {
    !matches!(error.parsed_severity(), Some(Severity::Error))
}

impl Shared {
    /// Asks a question, in which `{prefix}` is the one of the tables.
    async fn ask(
        &self,
        sql: &str,
        types: &[Type],
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Refused> {
        let (client, table) = self.asks()?;
        let sql = sql.replace("{prefix}", table.prefix());
        let typed = params.iter().copied().zip(types.iter().cloned());
        let typed: Vec<_> = typed.collect();
        let asked = tokio::time::timeout(DEADLINE, client.query_typed(&sql, &typed)).await;
        let asked = asked.map_err(|_| Refused::Down {
            reason: self.give_up().to_string(),
        })?;
        asked.map_err(|error| {
            let ends = error.is_closed() || error.as_db_error().is_none_or(ends);
            let reason = Error::of(&error, &self.server.context).to_string();
            match ends {
                true => Refused::Down { reason },
                false => Refused::Denied { reason },
            }
        })
    }
}

impl Journal for PostgresBroker {
    fn append(&self, log: &Topic, append: Append<'_>) -> Result<(), Refused> {
        check_size(&append.entry)?;
        let log = Topic::stream(log.name());
        self.0.line.queue().push(&log, Queued::pack(&append))
    }

    fn open(&self, log: &Topic, _: Bounds, heard: u64) -> BoxFuture<Result<Extent, Refused>> {
        let (shared, log) = (Arc::clone(&self.0), log.clone());
        Box::pin(async move {
            let sql = "SELECT from_place, to_place FROM {prefix}_open($1, $2)";
            let types = [Type::BYTEA, Type::INT8];
            let log = log.name().as_bytes();
            let rows = shared.ask(sql, &types, &[&log, &signed(heard)]).await?;
            let row = rows.first().ok_or_else(|| Refused::Denied {
                reason: "the log isn't there".to_owned(),
            })?;
            Ok(Extent {
                base: place(row, 0),
                last: place(row, 1),
            })
        })
    }

    fn read(
        &self,
        log: &Topic,
        after: u64,
        bytes: usize,
    ) -> BoxFuture<Result<Vec<Placed>, Refused>> {
        let (shared, log) = (Arc::clone(&self.0), log.clone());
        Box::pin(async move {
            // An entry is read if those before it aren't too many bytes: one at least.
            let sql = "SELECT place, before, entry FROM (SELECT place, before, entry, \
                       sum(octet_length(entry)) OVER (ORDER BY place) - octet_length(entry) AS ahead \
                       FROM (SELECT place, before, entry FROM {prefix}_entries \
                       WHERE log = $1 AND place > $2 ORDER BY place LIMIT $4) AS page) AS page \
                       WHERE ahead < $3 ORDER BY place";
            let types = [Type::BYTEA, Type::INT8, Type::INT8, Type::INT8];
            let log = log.name().as_bytes();
            let (after, bytes) = (signed(after), signed(bytes as u64));
            let rows = shared
                .ask(sql, &types, &[&log, &after, &bytes, &PAGE])
                .await?;
            let placed = rows.iter().map(|row| Placed {
                place: place(row, 0),
                before: place(row, 1),
                entry: Bytes::copy_from_slice(row.get(2)),
            });
            Ok(placed.collect())
        })
    }

    fn session(&self, log: &Topic, pid: &str) -> BoxFuture<Result<Option<Kept>, Refused>> {
        let (shared, log, pid) = (Arc::clone(&self.0), log.clone(), pid.to_owned());
        Box::pin(async move {
            let sql = "SELECT owner, session FROM {prefix}_sessions \
                       WHERE log = $1 AND pid = $2 AND until > clock_timestamp()";
            let types = [Type::BYTEA, Type::BYTEA];
            let params: [&(dyn ToSql + Sync); 2] = [&log.name().as_bytes(), &pid.as_bytes()];
            let rows = shared.ask(sql, &types, &params).await?;
            Ok(rows.first().map(|row| Kept {
                owner: String::from_utf8_lossy(row.get(0)).into(),
                session: Bytes::copy_from_slice(row.get(1)),
            }))
        })
    }

    fn claim(
        &self,
        log: &Topic,
        pid: &str,
        from: &str,
        to: &str,
    ) -> BoxFuture<Result<bool, Refused>> {
        let (shared, log) = (Arc::clone(&self.0), log.clone());
        let [pid, from, to] = [pid, from, to].map(|text| text.as_bytes().to_vec());
        Box::pin(async move {
            let sql = "UPDATE {prefix}_sessions SET owner = $4 \
                       WHERE log = $1 AND pid = $2 AND owner = $3 RETURNING true";
            let log = log.name().as_bytes();
            let params: [&(dyn ToSql + Sync); 4] = [&log, &pid, &from, &to];
            let rows = shared
                .ask(sql, &[const { Type::BYTEA }; 4], &params)
                .await?;
            Ok(!rows.is_empty())
        })
    }

    fn save(
        &self,
        log: &Topic,
        owner: &str,
        changes: Vec<Change>,
        time: Duration,
    ) -> BoxFuture<Result<Vec<bool>, Refused>> {
        let (shared, log) = (Arc::clone(&self.0), log.clone());
        let owner = owner.as_bytes().to_vec();
        Box::pin(async move {
            let sql = "SELECT {prefix}_save($1, $2, pid, session, $5) \
                       FROM unnest($3, $4) AS change (pid, session)";
            let types = [
                Type::BYTEA,
                Type::BYTEA,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::INT8,
            ];
            let pids: Vec<_> = changes.iter().map(|(pid, _)| pid.as_bytes()).collect();
            let sessions = changes.iter().map(|(_, session)| session.as_deref());
            let sessions: Vec<Option<&[u8]>> = sessions.collect();
            let log = log.name().as_bytes();
            let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
            let params: [&(dyn ToSql + Sync); 5] = [&log, &owner, &pids, &sessions, &millis];
            let rows = shared.ask(sql, &types, &params).await?;
            Ok(rows.iter().map(|row| row.get(0)).collect())
        })
    }
}
