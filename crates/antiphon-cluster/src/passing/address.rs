//! [`Address`]: where a server takes requests that others pass on to it. An operator says it, and
//! heartbeats tell it to the others, so what comes by these is checked like anything foreign.

use std::{fmt, sync::Arc};

use antiphon_protocol::cluster::native::MAX_ADDRESS;
use http::{
    Uri,
    uri::{PathAndQuery, Scheme},
};

/// Where a server takes requests of its sessions that have come to other servers:
/// `http://10.0.0.5:3000`. Whatever serves it is there: it needs no listener of its own.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    url: Arc<str>,
    host: Arc<str>,
    port: u16,
    /// What a proxy on the way to it takes off the path, without a slash at its end.
    prefix: Arc<str>,
}

impl Address {
    /// The address of this URL. A path in it is put in front of the path of each request.
    ///
    /// # Panics
    /// If it isn't `http://` with a host, a port (or 80) and maybe a path.
    #[must_use]
    pub fn new(url: &str) -> Self {
        let Some(address) = Self::parse(url) else {
            panic!(
                "the address that a server advertises is like http://10.0.0.5:3000, not {url:?}"
            );
        };
        address
    }

    /// The address of this URL. Returns `None` if it isn't one.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok().filter(|_| url.len() <= MAX_ADDRESS)?;
        let authority = uri.authority()?;
        // Nothing is in front of the host: no user.
        let port = match authority.as_str().strip_prefix(authority.host())? {
            "" => 80,
            port => port.strip_prefix(':')?.parse().ok()?,
        };
        let host = authority.host().trim_matches(['[', ']']);
        let is_whole = uri.scheme() == Some(&Scheme::HTTP)
            && uri.query().is_none()
            && !host.is_empty()
            && port != 0;
        is_whole.then(|| Self {
            url: url.into(),
            host: host.into(),
            port,
            prefix: uri.path().trim_end_matches('/').into(),
        })
    }

    pub(crate) const fn url(&self) -> &Arc<str> {
        &self.url
    }

    pub(crate) fn host_and_port(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The path and query to ask it for.
    pub(crate) fn path(&self, asked: &PathAndQuery) -> Option<PathAndQuery> {
        if self.prefix.is_empty() {
            return Some(asked.clone());
        }
        format!("{}{asked}", self.prefix).parse().ok()
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.url).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_a_port_and_maybe_a_path() {
        let parsed = |url| {
            let address = Address::parse(url)?;
            let asked = PathAndQuery::from_static("/socket.io/?EIO=4");
            let path = address.path(&asked)?;
            let (host, port) = address.host_and_port();
            Some((host.to_owned(), port, path.to_string()))
        };
        for (url, host, port, path) in [
            (
                "http://10.0.0.5:3000",
                "10.0.0.5",
                3000,
                "/socket.io/?EIO=4",
            ),
            ("http://one.example", "one.example", 80, "/socket.io/?EIO=4"),
            ("http://[::1]:3000/", "::1", 3000, "/socket.io/?EIO=4"),
            ("http://one/api/", "one", 80, "/api/socket.io/?EIO=4"),
        ] {
            let expected = Some((host.to_owned(), port, path.to_owned()));
            assert_eq!(parsed(url), expected, "{url}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("http://one/{}", "a".repeat(MAX_ADDRESS));
        for url in [
            "",
            "10.0.0.5:3000",
            "https://10.0.0.5",
            "http://",
            "http://:80",
            "http://user@one",
            "http://one:0",
            "http://one:70000",
            "http://one/?a",
            "http://one/\r\nHost: two",
            "/socket.io",
            &long,
        ] {
            assert_eq!(Address::parse(url), None, "{url}");
        }
    }

    #[test]
    #[should_panic(expected = "like http://10.0.0.5:3000")]
    fn advertising_what_is_no_address_panics() {
        let _ = Address::new("10.0.0.5:3000");
    }
}
