//! Flash: sockets of a plug-in that web pages used if a browser had no WebSocket.
//!
//! Before Flash opens a socket it asks the host for a policy, on port 843 and then on the port that
//! it wants: `<policy-file-request/>` and a zero byte. The answer is XML that names the hosts whose
//! pages may connect; then the connection is closed. What it opens after that is a WebSocket, with
//! `transport=flashsocket`. Source: Adobe's "Setting up a socket policy file server".
//!
//! A request of HTTP can't begin with `<`, so one byte tells which of the two a connection is. It
//! is looked at and left where it is: HTTP gets the connection as it came.

use std::{fmt::Write as _, io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const REQUEST: &[u8] = b"<policy-file-request/>\0";

/// How long the first byte of a connection may take: as long as hyper waits for a head.
const FIRST_BYTE: Duration = Duration::from_secs(30);

/// How long the rest may take, and the answer.
const EXCHANGE: Duration = Duration::from_secs(5);

/// Which pages may open sockets by Flash. See
/// [`ServerBuilder::flash_sockets`](crate::ServerBuilder::flash_sockets).
#[derive(Debug, Clone)]
pub struct FlashPolicy {
    domains: Vec<String>,
    ports: Vec<u16>,
}

impl FlashPolicy {
    /// Lets pages of these origins connect, such as `https://example.com`, to the port that the
    /// policy is asked for at. Flash compares the host alone.
    ///
    /// # Panics
    /// If an origin isn't of the form `scheme://host[:port]`.
    #[must_use]
    pub fn new<O: AsRef<str>>(origins: impl IntoIterator<Item = O>) -> Self {
        let domains = origins.into_iter().map(|origin| {
            let origin = origin.as_ref();
            let host = origin.split_once("://").map(|(_, host)| host);
            let host = host.map(|host| match host.rsplit_once(':') {
                Some((name, port)) if port.parse::<u16>().is_ok() => name,
                _ => host,
            });
            // None of these has a meaning in XML.
            let is_host = |host: &&str| {
                let part = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
                !host.is_empty() && host.bytes().all(part)
            };
            let host = host.filter(is_host);
            host.unwrap_or_else(|| {
                panic!("the origin {origin:?} isn't of the form scheme://host[:port]")
            })
            .to_ascii_lowercase()
        });
        Self {
            domains: domains.collect(),
            ports: Vec::new(),
        }
    }

    /// The ports that pages may connect to, as they see them, if they aren't that of the
    /// listener, as behind a mapping of ports or with
    /// [`serve_flash_policy`](crate::Server::serve_flash_policy).
    #[must_use]
    pub fn ports(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.ports = ports.into_iter().collect();
        self
    }

    /// The policy for clients that ask on `port`.
    fn xml(&self, port: u16) -> String {
        let ports = match self.ports.as_slice() {
            [] => port.to_string(),
            ports => {
                let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
                ports.join(",")
            }
        };
        let mut xml = String::from("<?xml version=\"1.0\"?>\n<cross-domain-policy>\n");
        for domain in &self.domains {
            // Writing to a string can't fail.
            let _ = writeln!(
                xml,
                "  <allow-access-from domain=\"{domain}\" to-ports=\"{ports}\"/>"
            );
        }
        xml.push_str("</cross-domain-policy>\n\0");
        xml
    }

    /// Answers a connection that asks for the policy. Gives it back untouched if it is one of HTTP.
    pub(crate) async fn answer_or_pass(&self, stream: TcpStream) -> Option<TcpStream> {
        let mut first = [0];
        let peeked = tokio::time::timeout(FIRST_BYTE, stream.peek(&mut first)).await;
        match peeked {
            Ok(Ok(1)) if first[0] == REQUEST[0] => {
                self.answer(stream).await;
                None
            }
            Ok(Ok(1..)) => Some(stream),
            // It said nothing, and has gone or has had its time.
            Ok(Ok(0) | Err(_)) | Err(_) => None,
        }
    }

    /// Answers a connection if it asks for the policy, and closes it.
    pub(crate) async fn answer(&self, stream: TcpStream) {
        let exchanged = tokio::time::timeout(EXCHANGE, self.exchange(stream)).await;
        let failed = match exchanged {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(late) => late.into(),
        };
        tracing::debug!(error = %failed, "a Flash policy was not sent");
    }

    async fn exchange(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut request = [0; REQUEST.len()];
        let mut length = 0;
        while length < REQUEST.len() {
            let read = stream.read(&mut request[length..]).await?;
            length += read;
            if read == 0 || !REQUEST.starts_with(&request[..length]) {
                let error = "the connection neither speaks HTTP nor asks for a Flash policy";
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        let port = stream.local_addr()?.port();
        stream.write_all(self.xml(port).as_bytes()).await?;
        stream.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_hosts_and_ports() {
        let policy = FlashPolicy::new(["https://App.example:8443", "http://b.example"]);
        assert_eq!(
            policy.xml(3000),
            "<?xml version=\"1.0\"?>\n<cross-domain-policy>\n  \
             <allow-access-from domain=\"app.example\" to-ports=\"3000\"/>\n  \
             <allow-access-from domain=\"b.example\" to-ports=\"3000\"/>\n\
             </cross-domain-policy>\n\0"
        );
        let policy = policy.ports([80, 443]);
        assert!(policy.xml(843).contains("to-ports=\"80,443\""));
    }

    #[test]
    fn what_is_no_origin_is_refused_at_start() {
        for origin in [
            "app.example",
            "http://",
            "http://a/",
            "http://\"/>",
            "http://a:x",
            "*",
        ] {
            let made = std::panic::catch_unwind(|| FlashPolicy::new([origin]));
            assert!(made.is_err(), "{origin}");
        }
    }
}
