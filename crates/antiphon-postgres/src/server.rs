//! The Postgres of a URL: where it is, how to log in, and one connection to it.
//!
//! The broker owns a [`Server`]. A connection is a [`Session`], by which one asks, and a [`Driver`],
//! which reads and writes while it is polled, and gives notifications as they come.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use antiphon_cluster::broker::Refused;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls, Notification, Row, Socket,
    config::{Host, SslMode, TargetSessionAttrs},
    types::ToSql,
};

use crate::error::{Context, Error};

/// So long an answer is waited for, and a connection. It is less than the time after which servers
/// count each other as dead.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// The largest frame. Some are in memory at a time, here and there.
pub(crate) const MAX_FRAME: usize = 16 * 1_024 * 1_024;

/// A Postgres.
#[derive(Debug)]
pub(crate) struct Server {
    config: Config,
    pub(crate) context: Context,
}

/// A connection that has been logged in, to be asked.
pub(crate) struct Session<'s> {
    pub(crate) client: Arc<Client>,
    pub(crate) context: &'s Context,
}

/// What comes by a connection, with TLS or without. To look for it is what makes it read and write.
type Messages = Box<
    dyn FnMut(&mut task::Context<'_>) -> Poll<Option<Result<AsyncMessage, tokio_postgres::Error>>>
        + Send,
>;

/// What reads and writes a connection.
pub(crate) struct Driver<'s> {
    messages: Messages,
    context: &'s Context,
}

impl Server {
    /// The Postgres of this URL. `grants` is the SQL that gives the user of this name what is needed.
    pub(crate) fn new(url: &str, grants: impl FnOnce(&str) -> String) -> Result<Self, Error> {
        let problem = |problem: String| Error::Url { problem };
        if !["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
        {
            return Err(problem("it doesn't begin with postgres://".to_owned()));
        }
        let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            let source = std::error::Error::source(&error);
            problem(source.map_or_else(|| error.to_string(), ToString::to_string))
        })?;
        let address = address(&config);
        if address.is_empty() {
            return Err(problem("it has no host".to_owned()));
        }
        if config.get_ssl_mode() != SslMode::Require {
            // A certificate that isn't trusted must not be what one begins with by chance.
            config.ssl_mode(SslMode::Disable);
        } else if !cfg!(feature = "tls") {
            let answer = "sslmode=require".to_owned();
            return Err(Error::NoTls { address, answer });
        }
        if config.get_application_name().is_none() {
            config.application_name("antiphon");
        }
        // Of several that one is taken which can be written to.
        let is_one = config.get_hosts().len() + config.get_hostaddrs().len() <= 1;
        if !is_one && config.get_target_session_attrs() == TargetSessionAttrs::Any {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        // Without one it is that of the system's user, which the library finds out.
        let rights = grants(config.get_user().unwrap_or("the user of the server"));
        let context = Context { address, rights };
        Ok(Self { config, context })
    }

    /// Connects and logs in.
    pub(crate) async fn connect(&self) -> Result<(Session<'_>, Driver<'_>), Error> {
        let context = &self.context;
        let connects = tokio::time::timeout(DEADLINE, self.open());
        let connected = connects.await.map_err(|_| context.silent())?;
        let (client, messages) = connected.map_err(|error| Error::of(&error, context))?;
        let driver = Driver { messages, context };
        let client = Arc::new(client);
        Ok((Session { client, context }, driver))
    }

    async fn open(&self) -> Result<(Client, Messages), tokio_postgres::Error> {
        #[cfg(feature = "tls")]
        if self.config.get_ssl_mode() == SslMode::Require {
            let connected = self.config.connect(crate::tls::Tls).await?;
            return Ok((connected.0, messages(connected.1)));
        }
        let (client, connection) = self.config.connect(NoTls).await?;
        Ok((client, messages(connection)))
    }
}

fn messages<T>(mut connection: Connection<Socket, T>) -> Messages
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Box::new(move |cx| connection.poll_message(cx))
}

/// Host and port, of each one.
fn address(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(host) if host.contains(':') => format!("[{host}]"),
        Host::Tcp(host) => host.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    });
    let mut hosts: Vec<_> = hosts.collect();
    if hosts.is_empty() {
        hosts = config
            .get_hostaddrs()
            .iter()
            .map(ToString::to_string)
            .collect();
    }
    let addresses = hosts.iter().enumerate().map(|(at, host)| {
        let port = ports.get(at).or_else(|| ports.first());
        format!("{host}:{}", port.unwrap_or(&5_432))
    });
    addresses.collect::<Vec<_>>().join(", ")
}

impl Context {
    /// It hasn't answered in time.
    pub(crate) fn silent(&self) -> Error {
        Error::Silent {
            address: self.address.clone(),
            seconds: DEADLINE.as_secs(),
        }
    }
}

impl Session<'_> {
    /// What the Postgres answers, in time.
    pub(crate) async fn answer<T>(
        &self,
        asks: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        let answered = tokio::time::timeout(DEADLINE, asks).await;
        let answered = answered.map_err(|_| self.context.silent())?;
        answered.map_err(|error| Error::of(&error, self.context))
    }

    /// The one row that the Postgres answers, in time.
    pub(crate) async fn one(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, Error> {
        self.answer(self.client.query_one(sql, params)).await
    }

    /// Says statements without parameters.
    pub(crate) async fn say(&self, sql: &str) -> Result<(), Error> {
        self.answer(self.client.batch_execute(sql)).await
    }
}

impl Driver<'_> {
    /// Reads and writes until the connection ends, which is an error. What it is notified of goes
    /// to `notified`, which never waits.
    pub(crate) async fn run(mut self, mut notified: impl FnMut(Notification)) -> Error {
        loop {
            match poll_fn(|cx| (self.messages)(cx)).await {
                Some(Ok(AsyncMessage::Notification(notification))) => notified(notification),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Error::of(&error, self.context),
                None => {
                    let address = self.context.address.clone();
                    let answer = "without a word".to_owned();
                    return Error::Closed { address, answer };
                }
            }
        }
    }
}

/// Whether a frame isn't too large.
pub(crate) fn check_size(frame: &Bytes) -> Result<(), Refused> {
    let (bytes, limit) = (frame.len(), MAX_FRAME);
    match bytes > limit {
        true => Err(Refused::TooLarge { bytes, limit }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Result<Server, Error> {
        Server::new(url, str::to_owned)
    }

    #[test]
    fn a_url_that_is_none_of_a_postgres_is_told_without_its_password() {
        for url in [
            "http://user:secret@host",
            "host=h password=secret",
            "postgres://user:secret@host:secret/x",
            "postgres://user:secret@host/x?secret",
            "postgres://user:secret@host/x?other=secret",
            "postgres://user:secret@/x",
            "",
        ] {
            let error = server(url).unwrap_err();
            assert!(matches!(error, Error::Url { .. }), "{url}: {error:?}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn a_url_that_wants_tls_names_the_feature() {
        let error = server("postgres://user:secret@host/x?sslmode=require").unwrap_err();
        assert!(matches!(error, Error::NoTls { .. }), "{error:?}");
    }

    #[test]
    fn urls_of_a_postgres_are_taken() {
        for (url, address) in [
            ("postgres://host", "host:5432"),
            ("postgresql://user:p%40ss@host:7000/name", "host:7000"),
            ("postgres://[::1]:7000/x", "[::1]:7000"),
            ("postgres://a:1,b:2/x", "a:1, b:2"),
            ("postgres://%2Frun%2Fpostgresql/x", "/run/postgresql:5432"),
        ] {
            let server = server(url).unwrap();
            assert_eq!(server.context.address, address);
        }
    }
}
