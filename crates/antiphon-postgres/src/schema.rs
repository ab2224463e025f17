//! What a server needs of the database: tables, and rights to them.
//!
//! Each wire says what it needs as a [`Schema`]. A new connection sees to it that all is there, makes
//! what lacks if it may, and checks the rights: what is missing is an [`Error`] with the SQL that mends
//! it.

use crate::{
    error::Error,
    server::{DEADLINE, Session},
};

/// So many characters a name of ours may have: names in Postgres have up to 63.
const NAME: usize = 40;

/// The oldest version of Postgres that has what is needed, as it numbers them.
const OLDEST: i32 = 130_000;

/// What a server needs of the database.
pub(crate) struct Schema {
    /// The tables with the rights to them that are needed.
    pub(crate) tables: Vec<(String, &'static [&'static str])>,
    /// The sequence that counts rows.
    pub(crate) sequence: String,
    /// A function that is made behind them, and its comment, which says for which version.
    pub(crate) mark: Option<(String, String)>,
    /// What makes them, also where some are there.
    pub(crate) setup: String,
    /// Whether they are made where they lack.
    pub(crate) creates: bool,
}

/// Whether this can be, or begin, the name of a table.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let is_letter = |c: char| c.is_ascii_lowercase() || c == '_';
    let is_name = name.len() <= NAME
        && name.starts_with(is_letter)
        && name.chars().all(|c| is_letter(c) || c.is_ascii_digit());
    match is_name {
        true => Ok(()),
        false => Err(Error::Name {
            name: name.to_owned(),
        }),
    }
}

impl Schema {
    /// What gives the user of this name the rights.
    pub(crate) fn grants(&self, user: &str) -> String {
        let user = user.replace('"', "\"\"");
        let tables = self.tables.iter().map(|(table, rights)| {
            let rights = rights.join(", ");
            format!("GRANT {rights} ON {table} TO \"{user}\";\n")
        });
        let tables: String = tables.collect();
        let sequence = &self.sequence;
        format!("{tables}GRANT USAGE ON SEQUENCE {sequence} TO \"{user}\";")
    }

    /// Sees to it that a session finds all that is needed.
    pub(crate) async fn open(&self, session: &Session<'_>) -> Result<(), Error> {
        check(session).await?;
        self.make(session).await?;
        self.check_rights(session).await
    }

    /// Whether all is there.
    async fn is_made(&self, session: &Session<'_>) -> Result<bool, Error> {
        for (table, _) in &self.tables {
            let sql = "SELECT to_regclass($1::text) IS NOT NULL";
            if !session.one(sql, &[table]).await?.get::<_, bool>(0) {
                return Ok(false);
            }
        }
        let Some((function, comment)) = &self.mark else {
            return Ok(true);
        };
        let sql = "SELECT obj_description(to_regproc($1::text), 'pg_proc')";
        let found: Option<String> = session.one(sql, &[function]).await?.get(0);
        Ok(found.as_ref() == Some(comment))
    }

    /// Makes what isn't there.
    async fn make(&self, session: &Session<'_>) -> Result<(), Error> {
        if self.is_made(session).await? {
            return Ok(());
        }
        let address = session.context.address.clone();
        let sql = format!("{}\n{}", self.setup, session.context.rights);
        if !self.creates {
            return Err(Error::NotSetUp { address, sql });
        }
        // One after the other: others that come at the same time find the tables.
        let (lock, seconds) = (&self.sequence, DEADLINE.as_secs());
        let begin = format!(
            "BEGIN; SET LOCAL lock_timeout = '{seconds}s'; \
             SELECT pg_advisory_xact_lock(hashtext('{lock}'))"
        );
        session.say(&begin).await?;
        if !self.is_made(session).await? {
            tracing::info!(address, "making the tables of the cluster");
            if let Err(error) = session.say(&self.setup).await {
                return Err(match error {
                    Error::Forbidden { answer, .. } => Error::NotMade {
                        address,
                        answer,
                        sql,
                    },
                    error => error,
                });
            }
        }
        session.say("COMMIT").await
    }

    /// A right that lacks is told at the start, and not when the first event is lost.
    async fn check_rights(&self, session: &Session<'_>) -> Result<(), Error> {
        let mut lacking = Vec::new();
        for (table, rights) in &self.tables {
            for right in *rights {
                let sql = "SELECT has_table_privilege($1::text, $2::text)";
                let asked = session.one(sql, &[table, right]).await?;
                if !asked.get::<_, bool>(0) {
                    lacking.push(format!("{right} on {table}"));
                }
            }
        }
        // A table that others have made may count its rows in another way.
        let sql = "SELECT coalesce(has_sequence_privilege(to_regclass($1::text), 'USAGE'), true)";
        let sequence = &self.sequence;
        if !session.one(sql, &[sequence]).await?.get::<_, bool>(0) {
            lacking.push(format!("USAGE on {sequence}"));
        }
        match lacking.is_empty() {
            true => Ok(()),
            false => Err(Error::Forbidden {
                address: session.context.address.clone(),
                answer: format!("it lacks {}", lacking.join(", ")),
                sql: session.context.rights.clone(),
            }),
        }
    }
}

/// Whether a Postgres has what is needed: it is new enough, and no standby.
async fn check(session: &Session<'_>) -> Result<(), Error> {
    let address = || session.context.address.clone();
    let sql = "SELECT current_setting('server_version_num')::int, \
               current_setting('server_version'), pg_is_in_recovery()";
    let row = session.one(sql, &[]).await?;
    if row.get::<_, i32>(0) < OLDEST {
        return Err(Error::TooOld {
            address: address(),
            version: row.get(1),
        });
    }
    match row.get(2) {
        true => Err(Error::Standby { address: address() }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tables_need_no_quotes() {
        for name in ["", "1a", "A", "a-b", "a\"", "ä", &"a".repeat(41)] {
            assert!(
                matches!(check_name(name), Err(Error::Name { .. })),
                "{name}"
            );
        }
        assert_eq!(check_name("shop_2"), Ok(()));
    }
}
