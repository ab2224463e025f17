//! The tables of our own wire: their names, the SQL that makes them, and what is said to them.
//!
//! The builder makes a [`Table`] of its options. The broker has it for its connections, and an outbox
//! for the user's; a connection prepares [`Statements`] once.

use std::time::Duration;

use antiphon_protocol::cluster::native;
use tokio_postgres::{Statement, types::Type};

use crate::{
    error::Error,
    schema::{self, Schema},
    server::Session,
};

/// What makes the tables, for the prefix `antiphon`.
const SETUP: &str = include_str!("setup.sql");

/// All that may be done with rows.
const ALL: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE"];

/// How a session has to be. What it writes needs no disk before it goes on: frames of a cluster
/// are gone with a crash all the same. The table is always read by its key: without statistics the
/// planner can't know that few rows are new, and compiling plans takes longer than they do.
const SESSION: &str = "SET synchronous_commit = off; SET enable_seqscan = off; SET jit = off; \
                       SET plan_cache_mode = force_generic_plan; SET timezone = 'UTC'";

/// The tables of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    prefix: String,
    /// Whether they are made where they lack.
    pub(crate) creates: bool,
    /// So long rows stay at least.
    pub(crate) keep: Duration,
    /// So many rows stay, and as many again until they are swept.
    pub(crate) keep_rows: i64,
}

/// What is said again and again.
pub(crate) struct Statements {
    pub(crate) insert: Statement,
    pub(crate) append: Statement,
    pub(crate) read: Statement,
    pub(crate) sweep: Statement,
}

impl Table {
    /// Those whose names begin with this.
    pub(crate) fn new(prefix: &str) -> Result<Self, Error> {
        schema::check_name(prefix)?;
        Ok(Self {
            prefix: prefix.to_owned(),
            creates: true,
            keep: Duration::from_secs(60),
            keep_rows: 100_000,
        })
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name of the table, and of the channel that tells of new rows.
    pub(crate) fn events(&self) -> String {
        format!("{}_events", self.prefix)
    }

    /// What makes the tables.
    fn setup(&self) -> String {
        let version = native::VERSION.to_string();
        SETUP
            .replace("antiphon_", &format!("{}_", self.prefix))
            .replace("'antiphon:", &format!("'{}:", self.prefix))
            .replace("VERSION", &version)
    }

    /// What a server needs of the database.
    pub(crate) fn schema(&self) -> Schema {
        let prefix = &self.prefix;
        Schema {
            tables: vec![
                (self.events(), &["SELECT", "INSERT", "DELETE"]),
                (format!("{prefix}_state"), &["SELECT", "INSERT", "UPDATE"]),
                (format!("{prefix}_logs"), &["SELECT", "INSERT", "UPDATE"]),
                (format!("{prefix}_entries"), &["SELECT", "INSERT", "DELETE"]),
                (format!("{prefix}_senders"), ALL),
                (format!("{prefix}_sessions"), ALL),
            ],
            sequence: format!("{prefix}_events_id_seq"),
            mark: Some((
                format!("{prefix}_emit"),
                format!("antiphon {}", native::VERSION),
            )),
            setup: self.setup(),
            creates: self.creates,
        }
    }

    /// What puts frames into the table: their topics and their bytes.
    pub(crate) fn insert(&self) -> String {
        let events = self.events();
        format!(
            "WITH sent AS (INSERT INTO {events} (topic, payload) \
             SELECT * FROM unnest($1::bytea[], $2::bytea[])) SELECT pg_notify('{events}', '')"
        )
    }

    /// What appends entries to one log: it, and of each the sender, its number, the entry, how many
    /// are kept, and for how many ms.
    fn append(&self) -> String {
        let prefix = &self.prefix;
        format!(
            "SELECT {prefix}_append($1, sender, number, entry, keep, ms) FROM unnest($2::bytea[], \
             $3::bigint[], $4::bytea[], $5::bigint[], $6::bigint[]) \
             AS appended (sender, number, entry, keep, ms)"
        )
    }

    /// A read of the rows that this holds for: first a row that tells of the read, then these. $2
    /// and $3 are the [`Filter`](crate::filter::Filter)'s. Rows of transactions that haven't begun
    /// yet come from another database, which has been restored into this one.
    fn read_where(&self, condition: &str) -> String {
        let prefix = &self.prefix;
        format!(
            "SELECT NULL::bigint AS id, clock_timestamp() AS created, \
             convert_to(concat_ws(' ', epoch, pg_current_snapshot(), swept), 'UTF8') AS topic, \
             ''::bytea AS payload FROM {prefix}_state WHERE one \
             UNION ALL \
             SELECT id, created, topic, payload FROM {prefix}_events \
             WHERE ({condition}) AND xid < pg_snapshot_xmax(pg_current_snapshot()) \
             AND get_bit($2::bytea, tag & $3::int) = 1 \
             ORDER BY id NULLS FIRST"
        )
    }

    /// A read behind a snapshot.
    fn read(&self) -> String {
        self.read_where(
            "xid >= pg_snapshot_xmax($1::text::pg_snapshot) \
             OR xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot)))",
        )
    }

    /// A read behind a time.
    pub(crate) fn read_since(&self) -> String {
        self.read_where("created > $1::timestamptz")
    }

    /// Deletes what had been committed long ago, if nobody else is about to: what had been when the
    /// snapshot `next` was taken, which is one that is old enough, or behind which there are too
    /// many rows. Logs lose what they need not keep at the same time.
    fn sweep(&self) -> String {
        let prefix = &self.prefix;
        let last = format!("coalesce(pg_sequence_last_value('{prefix}_events_id_seq'), 0)");
        format!(
            "WITH turn AS (UPDATE {prefix}_state SET swept = next, next = pg_current_snapshot(), \
             next_at = clock_timestamp(), next_id = {last} \
             WHERE one AND (next_at < clock_timestamp() - $1::bigint * interval '1 ms' \
             OR next_id + $2::bigint < {last}) RETURNING swept), \
             trimmed AS (DELETE FROM {prefix}_entries entry USING {prefix}_logs AS log, turn \
             WHERE entry.log = log.log AND (entry.place <= log.last - log.keep \
             OR entry.written < clock_timestamp() - log.keep_ms * interval '1 ms')), \
             gone AS (DELETE FROM {prefix}_senders USING turn \
             WHERE written < clock_timestamp() - interval '1 hour'), \
             over AS (DELETE FROM {prefix}_sessions USING turn WHERE until < clock_timestamp()) \
             DELETE FROM {prefix}_events USING turn \
             WHERE xid < pg_snapshot_xmax(swept) AND pg_visible_in_snapshot(xid, swept) \
             OR xid >= pg_snapshot_xmax(pg_current_snapshot())"
        )
    }

    /// Sees to it that a session can do what it has to, and prepares that.
    pub(crate) async fn open(&self, session: &Session<'_>) -> Result<Statements, Error> {
        session.say(SESSION).await?;
        self.schema().open(session).await?;
        let prefix = &self.prefix;
        let first = format!("INSERT INTO {prefix}_state DEFAULT VALUES ON CONFLICT DO NOTHING");
        let listen = format!("{first}; LISTEN {}", self.events());
        session.say(&listen).await?;
        let prepare = async |sql: String, types: &[Type]| {
            let prepares = session.client.prepare_typed(&sql, types);
            session.answer(prepares).await
        };
        Ok(Statements {
            insert: prepare(self.insert(), &[]).await?,
            append: prepare(self.append(), &[]).await?,
            read: prepare(self.read(), &[]).await?,
            sweep: prepare(self.sweep(), &[]).await?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_begin_with_the_prefix() {
        let table = Table::new("shop_2").unwrap();
        assert_eq!(table.events(), "shop_2_events");
        let schema = table.schema();
        assert!(!schema.setup.contains("antiphon_"));
        assert!(schema.grants("able").contains("shop_2_events_id_seq"));
    }
}
