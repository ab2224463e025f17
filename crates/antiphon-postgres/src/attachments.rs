//! The table of Node's adapter, in which frames lie that are too large for a notification.
//!
//! The builder makes [`Attachments`] of its options; a connection [opens](Attachments::open) them once.
//! The table is as Node's documentation has it, and servers of Node may have made it.

use tokio_postgres::{Statement, types::Type};

use crate::{
    error::Error,
    schema::{self, Schema},
    server::{MAX_FRAME, Session},
};

/// The table of attachments.
#[derive(Debug, Clone)]
pub(crate) struct Attachments {
    pub(crate) table: String,
    creates: bool,
}

/// What is said again and again.
pub(crate) struct Statements {
    pub(crate) notify: Statement,
    pub(crate) insert: Statement,
    pub(crate) fetch: Statement,
}

/// A column of a table.
struct Column {
    name: String,
    kind: String,
    /// Whether it can't be null.
    is_needed: bool,
    /// Whether it has a value if none is said.
    is_given: bool,
}

/// What is wrong with a table of these columns. What others need besides may be there.
fn problem_of(columns: &[Column]) -> Option<String> {
    const NEEDED: [(&str, &[&str], bool); 3] = [
        ("id", &["bigint", "integer"], true),
        (
            "created_at",
            &["timestamp with time zone", "timestamp without time zone"],
            true,
        ),
        ("payload", &["bytea"], false),
    ];

    for (name, kinds, is_given) in NEEDED {
        let Some(column) = columns.iter().find(|column| column.name == name) else {
            return Some(format!("it lacks the column {name}"));
        };
        let kind = &*column.kind;
        if !kinds.contains(&kind) {
            let right = kinds.join(" or ");
            return Some(format!(
                "its column {name} is of the type {kind}, and not {right}"
            ));
        }
        if is_given && !column.is_given {
            return Some(format!("its column {name} has no default"));
        }
    }
    let is_needed = |column: &&Column| {
        let is_known = NEEDED.iter().any(|(name, ..)| *name == column.name);
        !is_known && column.is_needed && !column.is_given
    };
    let other = columns.iter().find(is_needed)?;
    Some(format!(
        "its column {} may not be null and has no default",
        other.name
    ))
}

impl Attachments {
    pub(crate) fn new(table: &str, creates: bool) -> Result<Self, Error> {
        schema::check_name(table)?;
        Ok(Self {
            table: table.to_owned(),
            creates,
        })
    }

    /// What a server needs of the database: the table is as Node's documentation has it.
    pub(crate) fn schema(&self) -> Schema {
        let table = &self.table;
        Schema {
            tables: vec![(table.clone(), &["SELECT", "INSERT", "DELETE"])],
            sequence: format!("{table}_id_seq"),
            mark: None,
            setup: format!(
                "CREATE TABLE IF NOT EXISTS {table} (id bigserial UNIQUE, \
                 created_at timestamptz DEFAULT NOW(), payload bytea);"
            ),
            creates: self.creates,
        }
    }

    /// A table of another shape is told at the start, and not when the first attachment is lost.
    async fn check(&self, session: &Session<'_>) -> Result<(), Error> {
        let sql = "SELECT attname::text, format_type(atttypid, NULL), attnotnull, \
                   atthasdef OR attidentity <> '' FROM pg_attribute \
                   WHERE attrelid = to_regclass($1::text) AND attnum > 0 AND NOT attisdropped";
        let asks = async { session.client.query(sql, &[&self.table]).await };
        let columns = session.answer(asks).await?.into_iter().map(|row| Column {
            name: row.get(0),
            kind: row.get(1),
            is_needed: row.get(2),
            is_given: row.get(3),
        });
        match problem_of(&columns.collect::<Vec<_>>()) {
            None => Ok(()),
            Some(problem) => Err(Error::OtherTable {
                address: session.context.address.clone(),
                table: self.table.clone(),
                problem,
                sql: format!("{}\n{}", self.schema().setup, session.context.rights),
            }),
        }
    }

    /// Sees to it that a connection finds the table, and prepares what is said to it.
    pub(crate) async fn open(&self, session: &Session<'_>) -> Result<Statements, Error> {
        self.schema().open(session).await?;
        self.check(session).await?;
        let encoding = session.one("SELECT current_setting('server_encoding')", &[]);
        let encoding: String = encoding.await?.get(0);
        if !["UTF8", "SQL_ASCII"].contains(&&*encoding) {
            let address = session.context.address.clone();
            return Err(Error::Encoding { address, encoding });
        }
        session.say("SET synchronous_commit = off").await?;
        let table = &self.table;
        let prepare = async |sql: &str, types: &[Type]| {
            let prepares = session.client.prepare_typed(sql, types);
            session.answer(prepares).await
        };
        Ok(Statements {
            notify: prepare(
                "SELECT pg_notify(channel, payload) \
                 FROM unnest($1::text[], $2::text[]) AS frame (channel, payload)",
                &[],
            )
            .await?,
            insert: prepare(
                &format!(
                    "WITH row AS (INSERT INTO {table} (payload) VALUES ($4) RETURNING id) \
                     SELECT pg_notify($1, $2 || id || $3) FROM row"
                ),
                &[Type::TEXT, Type::TEXT, Type::TEXT, Type::BYTEA],
            )
            .await?,
            fetch: prepare(
                &format!(
                    "SELECT payload FROM {table} \
                     WHERE id = $1 AND octet_length(payload) <= {MAX_FRAME}"
                ),
                &[Type::INT8],
            )
            .await?,
        })
    }
}
