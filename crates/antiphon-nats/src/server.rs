//! The NATS servers of a URL: where they are, and how to log in.
//!
//! The broker owns the [`Servers`] and tries each in its turn. Nothing is learned of other servers of
//! their cluster.

#[cfg(feature = "keys")]
use std::sync::Arc;
use std::{
    fmt, io,
    sync::atomic::{AtomicUsize, Ordering},
};

use percent_encoding::percent_decode_str;
use tokio::net::TcpStream;

#[cfg(feature = "keys")]
use crate::keys::Key;
use crate::{error::Error, wire::Connect};

/// Where a server listens if its URL doesn't say.
const PORT: u16 = 4_222;

/// The servers of one cluster of NATS, of which any will do.
#[derive(Debug)]
pub(crate) struct Servers {
    servers: Vec<Server>,
    /// Which one is tried next.
    next: AtomicUsize,
}

/// One server.
pub(crate) struct Server {
    host: String,
    port: u16,
    wants_tls: bool,
    login: Option<Login>,
}

enum Login {
    User {
        user: String,
        password: String,
    },
    Token(String),
    #[cfg(feature = "keys")]
    Key(Arc<Key>),
}

impl Servers {
    /// Those of a URL, or of several with commas between them.
    pub(crate) fn new(urls: &str) -> Result<Self, Error> {
        let servers = urls.split(',').map(|url| Server::new(url.trim()));
        Ok(Self {
            servers: servers.collect::<Result<_, _>>()?,
            next: AtomicUsize::new(0),
        })
    }

    /// One logs in at all of them by this key.
    #[cfg(feature = "keys")]
    pub(crate) fn with_key(mut self, key: Key) -> Self {
        let key = Arc::new(key);
        for server in &mut self.servers {
            server.login = Some(Login::Key(Arc::clone(&key)));
        }
        self
    }

    pub(crate) fn len(&self) -> usize {
        self.servers.len()
    }

    /// The one that is to be tried next: each in its turn.
    pub(crate) fn next(&self) -> &Server {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        // There is one at least: a text has at least one part.
        &self.servers[next % self.servers.len()]
    }
}

impl Server {
    fn new(url: &str) -> Result<Self, Error> {
        let wrong = |problem: &str| Error::Url {
            problem: problem.to_owned(),
        };
        let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, address) = match rest.rsplit_once('@') {
            Some((login, address)) => (Some(login), address),
            None => (None, rest),
        };
        let plain = |text: &str| {
            let text = percent_decode_str(text).decode_utf8();
            let text = text.map_err(|_| wrong("its login is no UTF-8"))?;
            Ok::<_, Error>(text.into_owned())
        };
        let login = match login.map(|login| login.split_once(':')) {
            Some(Some((user, password))) => Some(Login::User {
                user: plain(user)?,
                password: plain(password)?,
            }),
            Some(None) => login.map(plain).transpose()?.map(Login::Token),
            None => None,
        };
        let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let (host, port) = match address.rsplit_once(':') {
            // The colons of an IPv6 address are in brackets.
            Some((host, port)) if is_port(port) => {
                let port = port.parse().map_err(|_| wrong("its port is no number"))?;
                (host, port)
            }
            _ => (address, PORT),
        };
        let inner = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let has_colon = host.contains(':') && inner.is_none();
        let host = inner.unwrap_or(host);
        if host.is_empty() {
            return Err(wrong("it has no host"));
        }
        if has_colon || host.contains(['/', '?', '#', ' ']) {
            return Err(wrong("it has more than a host and a port"));
        }
        let server = Self {
            host: host.to_owned(),
            port,
            wants_tls: scheme == "tls",
            login,
        };
        match scheme {
            "tls" if !cfg!(feature = "tls") => Err(Error::NoTls {
                address: server.address(),
            }),
            "nats" | "tls" => Ok(server),
            _ => Err(wrong("it doesn't begin with nats:// or tls://")),
        }
    }

    /// Host and port, for people.
    pub(crate) fn address(&self) -> String {
        let Self { host, port, .. } = self;
        match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }

    /// The host, which its certificate has to name.
    #[cfg(feature = "tls")]
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Whether the URL says that nothing may be sent without TLS.
    pub(crate) const fn wants_tls(&self) -> bool {
        self.wants_tls
    }

    pub(crate) async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((&*self.host, self.port)).await?;
        stream.set_nodelay(true)?;
        // A connection that is given up must be over: what the system still holds of it would be
        // published behind what the next one has, once a network that was cut is whole again.
        stream.set_zero_linger()?;
        Ok(stream)
    }

    /// How to log in at a server that has said this number.
    #[cfg_attr(
        not(feature = "keys"),
        expect(unused_variables, reason = "only keys sign it")
    )]
    pub(crate) fn login(&self, nonce: &str) -> Connect<'_> {
        let mut connect = Connect::default();
        match &self.login {
            Some(Login::User { user, password }) => {
                (connect.user, connect.pass) = (Some(&**user), Some(&**password));
            }
            Some(Login::Token(token)) => connect.auth_token = Some(token),
            #[cfg(feature = "keys")]
            Some(Login::Key(key)) => {
                let signed = key.sign(nonce);
                (connect.nkey, connect.jwt) = (signed.nkey, signed.jwt);
                connect.sig = Some(signed.sig);
            }
            None => {}
        }
        connect
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.address()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_is_none_of_a_nats_is_told_without_its_password() {
        for url in [
            "http://user:secret@host",
            "nats://user:secret@",
            "nats://user:secret@host:99999",
            "nats://user:secret@host:secret",
            "nats://user:secret@host/secret",
            "nats://user:secret@::1",
            "nats://host,",
            "",
        ] {
            let error = Servers::new(url).unwrap_err();
            assert!(matches!(error, Error::Url { .. }), "{url}: {error:?}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn a_url_with_tls_names_the_feature_without_its_password() {
        let error = Servers::new("tls://user:secret@host").unwrap_err();
        assert!(matches!(error, Error::NoTls { .. }), "{error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn urls_of_a_nats_are_taken() {
        for (url, address) in [
            ("host", "host:4222"),
            ("nats://host/", "host:4222"),
            ("nats://user:p%40ss@host:7000", "host:7000"),
            ("nats://token@[::1]:7000", "[::1]:7000"),
        ] {
            let servers = Servers::new(url).unwrap();
            assert_eq!(servers.next().address(), address);
            assert!(!format!("{servers:?}").contains("ss"), "{servers:?}");
        }
    }

    #[test]
    fn a_login_is_a_user_or_a_token() {
        let servers = Servers::new("nats://u:p%40@a,nats://t%3A@b,c").unwrap();
        let login = servers.next().login("");
        assert_eq!((login.user, login.pass), (Some("u"), Some("p@")));
        assert_eq!(servers.next().login("").auth_token, Some("t:"));
        let login = servers.next().login("");
        assert_eq!((login.user, login.auth_token), (None, None));
        // Round and round.
        assert_eq!(servers.next().address(), "a:4222");
    }
}
