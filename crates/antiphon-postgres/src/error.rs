//! What can be wrong with a Postgres, in the words of whoever runs it, and what to do about it.
//!
//! Errors of the client library come in with what is known of the connection ([`Context`]); no text
//! that goes out has a password.

use std::error::Error as _;

use tokio_postgres::error::SqlState;

/// What is wrong with the Postgres, and what to do about it.
///
/// No text contains a password: URLs are told without it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL isn't one of a Postgres.
    #[error(
        "the URL isn't understood: {problem}. Write it like postgres://user:password@host:5432/name"
    )]
    Url {
        /// What is wrong with it.
        problem: String,
    },
    /// A prefix or a name can't be that of a table.
    #[error(
        "{name:?} can't be the name of a table: up to 40 lower-case letters, digits and underscores \
         are possible, the first no digit"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The URL asks for TLS and this program has been built without, or the server wants it and the URL
    /// doesn't say so.
    #[error(
        "Postgres at {address} wants TLS ({answer}): say sslmode=require in the URL, and build with \
         the feature `tls` of antiphon-postgres"
    )]
    NoTls {
        /// Host and port.
        address: String,
        /// What it says, or what the URL does.
        answer: String,
    },
    /// There is no connection to its address.
    #[error(
        "Postgres at {address} can't be reached: {problem}. See whether it runs and listens there"
    )]
    Unreachable {
        /// Host and port, or the folder of its socket.
        address: String,
        /// What the system says.
        problem: String,
    },
    /// It has closed the connection.
    #[error(
        "Postgres at {address} has closed the connection ({answer}): it was stopped, it has \
         crashed, or somebody told it to (pg_terminate_backend). Its log says which"
    )]
    Closed {
        /// Host and port, or the folder of its socket.
        address: String,
        /// What it says, or the system.
        answer: String,
    },
    /// It takes too long to answer.
    #[error(
        "Postgres at {address} hasn't answered in {seconds} s: it hangs, it is overloaded, somebody \
         holds a lock on the tables of antiphon, or the network is cut"
    )]
    Silent {
        /// Host and port, or the folder of its socket.
        address: String,
        /// So long it was waited for.
        seconds: u64,
    },
    /// User or password are wrong, or it lets the user in from elsewhere only.
    #[error(
        "Postgres at {address} refuses the login: {answer}. Put the right user and password into \
         the URL (postgres://user:password@host/name), and see its pg_hba.conf"
    )]
    Login {
        /// Host and port, or the folder of its socket.
        address: String,
        /// What it says.
        answer: String,
    },
    /// It has no such database.
    #[error(
        "Postgres at {address} has no such database: {answer}. The URL ends with its name: \
         postgres://user:password@host/name"
    )]
    NoDatabase {
        /// Host and port, or the folder of its socket.
        address: String,
        /// What it says.
        answer: String,
    },
    /// It is older than 13.
    #[error("Postgres at {address} is too old: version 13 or later is needed, and it is {version}")]
    TooOld {
        /// Host and port, or the folder of its socket.
        address: String,
        /// Its version.
        version: String,
    },
    /// The tables aren't there, or they are those of another version, and
    /// [`PostgresBuilder::create`](crate::PostgresBuilder::create) says that they aren't to be made.
    #[error(
        "Postgres at {address} lacks the tables of antiphon, or has those of another version. Their \
         owner makes them by this:\n{sql}"
    )]
    NotSetUp {
        /// Host and port, or the folder of its socket.
        address: String,
        /// What makes them, and gives the rights.
        sql: String,
    },
    /// There is a table of the name of Node's, and it is another one.
    #[error(
        "the table {table} of the Postgres at {address} isn't as Node's adapter needs it: {problem}. Name \
         another one (PostgresBuilder::attachments, and tableName of Node's adapter), or make it anew, \
         once nobody needs what is in it:\nDROP TABLE {table};\n{sql}"
    )]
    OtherTable {
        /// Host and port, or the folder of its socket.
        address: String,
        /// Its name.
        table: String,
        /// What is different.
        problem: String,
        /// What makes it as it has to be, and gives the rights.
        sql: String,
    },
    /// Its user lacks a right.
    #[error(
        "Postgres at {address} doesn't allow its user enough: {answer}. The owner of the tables \
         allows it by this:\n{sql}"
    )]
    Forbidden {
        /// Host and port, or the folder of its socket.
        address: String,
        /// What it says.
        answer: String,
        /// What gives the rights.
        sql: String,
    },
    /// Its user may not make the tables.
    #[error(
        "Postgres at {address} doesn't allow its user to make the tables: {answer}. Their owner, or \
         somebody who may, makes them by this:\n{sql}"
    )]
    NotMade {
        /// Host and port, or the folder of its socket.
        address: String,
        /// What it says.
        answer: String,
        /// What makes the tables, and gives the rights.
        sql: String,
    },
    /// It is a standby, which nothing can be written to.
    #[error("Postgres at {address} is a standby: connect to the primary")]
    Standby {
        /// Host and port, or the folder of its socket.
        address: String,
    },
    /// The database can't hold every text.
    #[error(
        "the database at {address} has the encoding {encoding}, which can't hold every text: make \
         one with ENCODING 'UTF8'"
    )]
    Encoding {
        /// Host and port, or the folder of its socket.
        address: String,
        /// Its encoding.
        encoding: String,
    },
    /// It has as many connections as it takes.
    #[error(
        "Postgres at {address} takes no more connections: {answer}. Raise max_connections, or end \
         some: each server of a cluster has one"
    )]
    Full {
        /// Host and port, or the folder of its socket.
        address: String,
        /// What it says.
        answer: String,
    },
    /// It has been started and isn't ready yet, or it is being stopped.
    #[error("Postgres at {address} isn't ready: {answer}")]
    NotReady {
        /// Host and port, or the folder of its socket.
        address: String,
        /// What it says.
        answer: String,
    },
    /// It answers with another error.
    #[error("Postgres at {address} answers: {answer}")]
    Other {
        /// Host and port, or the folder of its socket.
        address: String,
        /// What it says.
        answer: String,
    },
}

/// Of whom an error is told.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) address: String,
    /// What gives the rights that are needed.
    pub(crate) rights: String,
}

impl Error {
    /// What an error of the client library means.
    pub(crate) fn of(error: &tokio_postgres::Error, context: &Context) -> Self {
        let Context { address, rights } = context.clone();
        let Some(db) = error.as_db_error() else {
            return Self::of_connection(error, address);
        };
        let answer = db.message().to_owned();
        let code = db.code();
        match () {
            () if answer.contains("no encryption") || answer.contains("SSL off") => {
                Self::NoTls { address, answer }
            }
            () if [
                SqlState::INVALID_PASSWORD,
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            ]
            .contains(code) =>
            {
                Self::Login { address, answer }
            }
            () if *code == SqlState::INVALID_CATALOG_NAME => Self::NoDatabase { address, answer },
            // A function that is another's.
            () if *code == SqlState::INSUFFICIENT_PRIVILEGE => Self::Forbidden {
                address,
                answer,
                sql: rights,
            },
            () if *code == SqlState::READ_ONLY_SQL_TRANSACTION => Self::Standby { address },
            () if *code == SqlState::TOO_MANY_CONNECTIONS => Self::Full { address, answer },
            () if *code == SqlState::CANNOT_CONNECT_NOW => Self::NotReady { address, answer },
            () if [
                SqlState::ADMIN_SHUTDOWN,
                SqlState::CRASH_SHUTDOWN,
                SqlState::IDLE_SESSION_TIMEOUT,
            ]
            .contains(code) =>
            {
                Self::Closed { address, answer }
            }
            () => Self::Other { address, answer },
        }
    }

    fn of_connection(error: &tokio_postgres::Error, address: String) -> Self {
        let answer = match error.source() {
            Some(source) => source.to_string(),
            None => error.to_string(),
        };
        let text = error.to_string();
        match () {
            () if text.contains("connecting") => Self::Unreachable {
                address,
                problem: answer,
            },
            () if text.contains("TLS") => Self::Unreachable {
                address,
                problem: format!("no TLS, {answer}"),
            },
            // A password is asked for, and the URL has none.
            () if text.contains("configuration") => Self::Login { address, answer },
            () if text.contains("authentication") => Self::Login { address, answer },
            () if error.is_closed() || text.contains("communicating") => {
                Self::Closed { address, answer }
            }
            () => Self::Other {
                address,
                answer: format!("{text}: {answer}"),
            },
        }
    }
}
