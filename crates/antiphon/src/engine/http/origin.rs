//! Origins: what the header `Origin` says, compared as those who send it mean it.
//!
//! Browsers send `scheme://host[:port]`, in small letters and without the scheme's own port, or
//! `null`. Programs send whatever they like: `wss://`, the port always, a path behind it,
//! `file://`, `*`. So hosts and ports are compared, each with the default of its scheme, and what
//! has no host is compared as it is.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A host and its port, as `Host` and `Origin` have them.
#[derive(Debug, Clone, Copy)]
struct Authority<'a> {
    /// Without the dot at the end that a name may have.
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let end = match text.strip_prefix('[') {
            Some(rest) => rest.find(']')? + 2,
            None => text.find(':').unwrap_or(text.len()),
        };
        let (host, port) = text.split_at(end);
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            _ => return None,
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        let is_host = match host.strip_prefix('[') {
            Some(_) => ipv6(host).is_some(),
            None => !host.is_empty() && host.bytes().all(is_of_host),
        };
        is_host.then_some(Self { host, port })
    }

    fn is_host_of(&self, other: &Self) -> bool {
        match (ipv6(self.host), ipv6(other.host)) {
            (Some(one), Some(other)) => one == other,
            _ => self.host.eq_ignore_ascii_case(other.host),
        }
    }
}

const fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn ipv6(host: &str) -> Option<Ipv6Addr> {
    let address = host.strip_prefix('[')?.strip_suffix(']')?;
    address.parse().ok()
}

/// An origin that names a host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    scheme: &'a str,
    authority: Authority<'a>,
}

impl<'a> Origin<'a> {
    /// Reads the value of an `Origin`. Returns `None` if it names no host. A path behind the host,
    /// as some programs send it, doesn't count.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        Some(Self {
            scheme,
            authority: Authority::parse(&rest[..end])?,
        })
    }

    /// Whether these are one origin. A WebSocket's scheme is that of HTTP.
    fn is_same(&self, other: &Self) -> bool {
        let [one, two] = [self.scheme, other.scheme].map(|scheme| web(scheme).unwrap_or(scheme));
        one.eq_ignore_ascii_case(two)
            && self.authority.is_host_of(&other.authority)
            && self.port() == other.port()
    }

    /// Whether this is the host and port of a `Host`. The scheme isn't compared: a proxy that ends
    /// TLS hides it. But a page of `capacitor://localhost` isn't one of this server.
    pub(crate) fn is_of(&self, host: &str) -> bool {
        let sent_to = Authority::parse(host).filter(|_| web(self.scheme).is_some());
        sent_to.is_some_and(|sent_to| {
            self.authority.is_host_of(&sent_to)
                && self.port() == sent_to.port.or(default_port(self.scheme))
        })
    }

    fn port(&self) -> Option<u16> {
        self.authority.port.or(default_port(self.scheme))
    }

    /// The origin as a browser would say it.
    fn canonical(&self) -> String {
        let scheme = web(self.scheme).unwrap_or(self.scheme);
        let host = match ipv6(self.authority.host) {
            Some(address) => format!("[{address}]"),
            None => self.authority.host.to_owned(),
        };
        let port = self.authority.port;
        let port = port.filter(|_| port != default_port(self.scheme));
        let port = port.map_or(String::new(), |port| format!(":{port}"));
        format!("{scheme}://{host}{port}").to_ascii_lowercase()
    }
}

/// The scheme of HTTP that this one stands for.
fn web(scheme: &str) -> Option<&'static str> {
    let pair = [("http", "ws"), ("https", "wss")]
        .into_iter()
        .find(|(web, ws)| scheme.eq_ignore_ascii_case(web) || scheme.eq_ignore_ascii_case(ws));
    pair.map(|(web, _)| web)
}

fn default_port(scheme: &str) -> Option<u16> {
    web(scheme).map(|web| if web == "https" { 443 } else { 80 })
}

/// Whether an origin is the one that stands in a list.
pub(crate) fn is_listed(listed: &str, origin: &str) -> bool {
    listed.eq_ignore_ascii_case(origin)
        || Origin::parse(listed).is_some_and(|listed| {
            Origin::parse(origin).is_some_and(|origin| listed.is_same(&origin))
        })
}

/// Why an origin in a list would never match, and what to write instead.
pub(crate) fn check_listed(listed: &str) -> Result<(), String> {
    if listed == "null" || listed == "*" {
        return Ok(());
    }
    let form = "isn't of the form scheme://host[:port], without a path, as browsers send it";
    if !listed.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "{form}: in plain ASCII and without spaces, names of hosts in their form `xn--..`"
        ));
    }
    let (scheme, rest) = listed.split_once("://").ok_or(form)?;
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if scheme.is_empty() || !scheme.bytes().all(is_scheme) || rest.contains(['/', '?', '#', '@']) {
        return Err(form.to_owned());
    }
    if let Some((front, back)) = listed.split_once('*')
        && !back.contains('*')
    {
        return Err(format!(
            "has a `*`, which stands for nothing here: use \
             Cors::matching(|origin| origin.starts_with({front:?}) && origin.ends_with({back:?}))"
        ));
    }
    if web(scheme).is_none() {
        // Of an app or a file: there need be no host.
        return Ok(());
    }
    let origin = Origin::parse(listed).ok_or(form)?;
    let Authority { host, port } = origin.authority;
    let labels = host.split('.');
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let is_address = labels.clone().next_back().is_some_and(is_number);
    if labels.clone().any(str::is_empty) || (is_address && host.parse::<Ipv4Addr>().is_err()) {
        return Err(form.to_owned());
    }
    if listed.ends_with(':') {
        return Err(form.to_owned());
    }
    if port.is_some() && port == default_port(scheme) {
        let canonical = origin.canonical();
        return Err(format!(
            "names its scheme's own port, which browsers leave out: write {canonical:?}"
        ));
    }
    Ok(())
}

/// The option that lets an origin in, as code.
pub(crate) fn option_for(origin: &str) -> String {
    let canonical = Origin::parse(origin).map(|origin| origin.canonical());
    let mut listable = [Some(origin), canonical.as_deref()].into_iter().flatten();
    // Alone it is taken for "any origin", written wrongly.
    let listable = listable.find(|origin| *origin != "*" && check_listed(origin).is_ok());
    match listable {
        Some(origin) => format!(".cors(Cors::origins([{origin:?}]))"),
        None if origin.bytes().all(|byte| matches!(byte, b' '..=b'~')) => {
            format!(".cors(Cors::matching(|origin| origin == {origin:?}))")
        }
        // Of a header that isn't ASCII no function is asked.
        None => ".cors(Cors::any())".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_compared_with_the_schemes_default_on_both_sides() {
        let is_of = |origin: &str, host| Origin::parse(origin).is_some_and(|it| it.is_of(host));
        for (origin, host) in [
            ("https://a.example", "a.example"),
            ("https://a.example", "a.example:443"),
            ("wss://a.example", "a.example:443"),
            ("wss://a.example:443", "a.example"),
            ("ws://a.example", "a.example:80"),
            ("http://a.example:80", "a.example"),
            ("ws://a.example:80", "a.example:80"),
            ("HTTPS://A.Example", "a.example"),
            ("https://a.example.", "a.example"),
            ("https://a.example", "A.EXAMPLE.:443"),
            ("http://localhost:3000", "localhost:3000"),
            ("http://127.0.0.1:3000/", "127.0.0.1:3000"),
            ("https://a.example/page?x", "a.example"),
            ("http://[::1]:3000", "[::1]:3000"),
            ("http://[0:0:0:0:0:0:0:1]", "[::1]:80"),
            ("https://[2001:DB8::1]", "[2001:db8:0::1]:443"),
            ("https://a.example", "a.example:"),
        ] {
            assert!(is_of(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("http://a.example", "a.example:443"),
            ("https://a.example", "a.example:80"),
            ("wss://a.example", "a.example:80"),
            ("https://a.example:8443", "a.example"),
            ("https://a.example", "a.example:8443"),
            ("http://localhost:5173", "localhost:3000"),
            ("https://b.example", "a.example"),
            ("https://a.example..", "a.example"),
            ("https://a.example@b.example", "b.example"),
            ("https://b.example/a.example", "a.example"),
            ("https://b.example#a.example", "a.example"),
            ("https://a.example:443:443", "a.example"),
            ("https://a.example:x", "a.example"),
            ("https://a.example:70000", "a.example"),
            ("http://[::1]", "[::2]"),
            ("http://[::1", "[::1]"),
            ("http://[::1]x", "[::1]"),
            ("http://", ""),
            ("http://", "a.example"),
            ("null", "null"),
            ("file://", ""),
            ("a.example", "a.example"),
            ("capacitor://localhost", "localhost"),
            ("https://a.example\\.b", "a.example"),
        ] {
            assert!(!is_of(origin, host), "{origin} {host}");
        }
    }

    #[test]
    fn the_code_for_an_origin_names_it() {
        for (origin, option) in [
            (
                "https://a.example",
                r#"Cors::origins(["https://a.example"])"#,
            ),
            (
                "wss://a.example:443",
                r#"Cors::origins(["https://a.example"])"#,
            ),
            (
                "http://A.example:80/x",
                r#"Cors::origins(["http://a.example"])"#,
            ),
            ("null", r#"Cors::origins(["null"])"#),
            ("file://", r#"Cors::origins(["file://"])"#),
            ("*", r#"Cors::matching(|origin| origin == "*")"#),
            ("\"", r#"Cors::matching(|origin| origin == "\"")"#),
            ("\u{e9}", "Cors::any()"),
        ] {
            assert_eq!(option_for(origin), format!(".cors({option})"));
        }
    }
}
