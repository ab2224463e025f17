//! The query of a request: what a client of Engine.IO says in it (docs/protocol.md 2.2, 2.3).
//!
//! A [`Query`] borrows from the URI and lives as long as the request is routed. Parameters are
//! found once and read when they are asked for. Numbers of extensions that aren't any are ignored,
//! but for an offset in a session that has them: that is refused (`BadNumber`). Parameters that few
//! requests are asked for are found by [`parameter`]. Nothing is decoded that isn't escaped.

use std::{borrow::Cow, time::Duration};

use antiphon_protocol::engine::{Revision, TransportKind, jsonp::Callback};
use http::{HeaderMap, HeaderValue, Uri, header::USER_AGENT, request::Parts};

use super::RequestError;

/// The largest whole number that JavaScript knows exactly.
const LARGEST: u64 = 1 << 53;

/// Names of extensions begin so. All other names but the protocol's own are the application's,
/// which has them in the same query.
const OFFSET: &str = "antiphon-offset";
const WAIT: &str = "antiphon-wait";
const INTERVAL: &str = "antiphon-interval";
pub(super) const POST: &str = "antiphon-post";

/// The parameters that the engine looks at. The first of a name counts.
#[derive(Debug, Default)]
pub(super) struct Query<'u> {
    pub(super) eio: Option<Cow<'u, str>>,
    pub(super) transport: Option<Cow<'u, str>>,
    pub(super) sid: Option<Cow<'u, str>>,
    /// The client can't take binary.
    pub(super) base64: bool,
    /// What is to be called with the answer of a poll: JSONP.
    pub(super) callback: Option<Callback>,
    pub(super) jsonp: Option<Cow<'u, str>>,
    offset: Option<Cow<'u, str>>,
    wait: Option<Cow<'u, str>>,
    interval: Option<Cow<'u, str>>,
}

impl<'u> Query<'u> {
    pub(super) fn parse(uri: &'u Uri) -> Self {
        let mut query = Self::default();
        for (name, value) in pairs(uri.query().unwrap_or_default()) {
            let slot = match &*name {
                "EIO" => &mut query.eio,
                "transport" => &mut query.transport,
                "sid" => &mut query.sid,
                "j" => &mut query.jsonp,
                OFFSET => &mut query.offset,
                WAIT => &mut query.wait,
                INTERVAL => &mut query.interval,
                "b64" => {
                    query.base64 = true;
                    continue;
                }
                _ => continue,
            };
            slot.get_or_insert(value);
        }
        query
    }

    /// The revision that the client speaks.
    pub(super) fn revision(&self) -> Option<Revision> {
        Revision::from_query(self.eio.as_deref().unwrap_or_default())
    }

    /// Whether it says that as 3 or 4, and not as clients did before.
    pub(super) fn says_its_revision(&self) -> bool {
        matches!(self.eio.as_deref(), Some("3" | "4"))
    }

    pub(super) fn unknown_transport(&self) -> RequestError {
        RequestError::UnknownTransport(self.transport.as_deref().map(str::to_owned))
    }

    pub(super) fn unsupported_revision(&self) -> RequestError {
        RequestError::UnsupportedRevision(self.eio.as_deref().map(str::to_owned))
    }

    /// Refuses a request of a session that speaks another revision than this request says. One that
    /// says nothing speaks that of its session.
    pub(super) fn check_revision(&self, session: Revision) -> Result<(), RequestError> {
        match &self.eio {
            Some(eio) if self.revision() != Some(session) => Err(RequestError::RevisionMismatch {
                eio: eio.to_string(),
                session,
            }),
            _ => Ok(()),
        }
    }

    /// Whether the client that opens a session will say how many packets it has had.
    pub(super) fn asks_to_be_tracked(&self) -> bool {
        number(self.offset.as_deref()) == Some(0)
    }

    /// How many packets the client has had, if its session `is_tracked`. Other clients don't know
    /// the name, and what they say in it is not for the engine.
    pub(super) fn offset(
        &self,
        is_tracked: impl FnOnce() -> bool,
    ) -> Result<Option<u64>, RequestError> {
        let Some(offset) = self.offset.as_deref().filter(|_| is_tracked()) else {
            return Ok(None);
        };
        let offset = number(Some(offset)).ok_or(RequestError::BadNumber(OFFSET));
        offset.map(Some)
    }

    /// How long a poll may wait for packets.
    pub(super) fn wait(&self) -> Option<Duration> {
        number(self.wait.as_deref()).map(Duration::from_millis)
    }

    /// How seldom the client comes.
    pub(super) fn interval(&self) -> Duration {
        Duration::from_millis(number(self.interval.as_deref()).unwrap_or(0))
    }

    /// The transport. `flash` says that a WebSocket of Flash is taken for one.
    pub(super) fn transport(&self, flash: bool) -> Option<TransportKind> {
        match self.transport.as_deref()? {
            "polling" => Some(TransportKind::Polling),
            "streaming" => Some(TransportKind::Streaming),
            "websocket" => Some(TransportKind::WebSocket),
            "flashsocket" if flash => Some(TransportKind::WebSocket),
            _ => None,
        }
    }
}

/// The number that an extension says, if it is one.
fn number(value: Option<&str>) -> Option<u64> {
    let value = value?;
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    value
        .parse()
        .ok()
        .filter(|number| digits && *number <= LARGEST)
}

/// A parameter of the query that few requests are asked for.
pub(super) fn parameter<'p>(parts: &'p Parts, name: &str) -> Option<Cow<'p, str>> {
    let mut pairs = pairs(parts.uri.query().unwrap_or_default());
    pairs.find_map(|(key, value)| (key == name).then_some(value))
}

/// Packets that a client takes in one poll. python-engineio closes the connection for more than 16
/// (`max_decode_packets`); it says nothing of itself, but its libraries for HTTP do.
pub(super) fn packets_per_poll(headers: &HeaderMap) -> usize {
    let agent = headers.get(USER_AGENT).map(HeaderValue::as_bytes);
    match agent {
        Some(agent) if agent.starts_with(b"python-requests/") => 16,
        // Of aiohttp: `Python/3.11 aiohttp/3.9.1`.
        Some(agent) if agent.starts_with(b"Python/") => 16,
        _ => usize::MAX,
    }
}

/// The names and values of a query. Of what clients send hardly anything is escaped, and what isn't
/// needs no decoding.
fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter_map(|pair| {
        if pair.bytes().any(|byte| byte == b'%' || byte == b'+') {
            return form_urlencoded::parse(pair.as_bytes()).next();
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (!pair.is_empty()).then_some((name.into(), value.into()))
    })
}

/// Whether `path` is `below` itself or something under it: `/socket.io`, `/socket.io/`,
/// `/socket.io/anything`, but not `/socket.iofoo`.
pub(crate) fn is_below(path: &str, below: &str) -> bool {
    path.strip_prefix(below)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(query: &str) -> Uri {
        format!("/socket.io/?{query}").parse().unwrap()
    }

    #[test]
    fn what_older_clients_say_is_revision_3() {
        assert_eq!(Query::parse(&uri("EIO=4")).revision(), Some(Revision::V4));
        for query in ["", "EIO=", "EIO", "EIO=1", "EIO=2", "EIO=3", "eio=4"] {
            let revision = Query::parse(&uri(query)).revision();
            assert_eq!(revision, Some(Revision::V3), "{query}");
        }
        for query in ["EIO=5", "EIO=04", "EIO=abc", "EIO=4.0", "EIO=44"] {
            assert_eq!(Query::parse(&uri(query)).revision(), None, "{query}");
        }
    }

    #[test]
    fn a_request_of_a_session_speaks_its_revision() {
        let check = |query, session| Query::parse(&uri(query)).check_revision(session);
        for query in ["", "EIO=4"] {
            assert_eq!(check(query, Revision::V4), Ok(()), "{query}");
        }
        for query in ["", "EIO=", "EIO=2", "EIO=3"] {
            assert_eq!(check(query, Revision::V3), Ok(()), "{query}");
        }
        for (query, session) in [
            ("EIO=3", Revision::V4),
            ("EIO=2", Revision::V4),
            ("EIO=5", Revision::V4),
            ("EIO=4", Revision::V3),
            ("EIO=5", Revision::V3),
        ] {
            let refused = check(query, session);
            assert!(
                matches!(refused, Err(RequestError::RevisionMismatch { .. })),
                "{query}"
            );
        }
    }

    #[test]
    fn names_of_the_application_are_left_alone() {
        let uri = uri("offset=0&wait=1&interval=60000&post=a");
        let query = Query::parse(&uri);
        assert!(!query.asks_to_be_tracked());
        assert_eq!(query.offset(|| true), Ok(None));
        assert_eq!(query.wait(), None);
        assert_eq!(query.interval(), Duration::ZERO);
    }

    #[test]
    fn the_first_parameter_of_a_name_counts() {
        let uri = uri("sid=a&sid=b&b64=1");
        let query = Query::parse(&uri);
        assert_eq!(query.sid.as_deref(), Some("a"));
        assert!(query.base64);
    }

    #[test]
    fn clients_in_python_take_16_packets_a_poll() {
        let packets = |agent| {
            packets_per_poll(&HeaderMap::from_iter([(
                USER_AGENT,
                HeaderValue::from_static(agent),
            )]))
        };
        for agent in ["python-requests/2.31.0", "Python/3.11 aiohttp/3.9.1"] {
            assert_eq!(packets(agent), 16, "{agent}");
        }
        for agent in ["node-XMLHttpRequest", "Mozilla/5.0 (X11; Linux x86_64)"] {
            assert_eq!(packets(agent), usize::MAX, "{agent}");
        }
        assert_eq!(packets_per_poll(&HeaderMap::new()), usize::MAX);
    }

    #[test]
    fn a_query_is_read_as_a_form() {
        for query in [
            "EIO=4&transport=polling&t=abc",
            "a+b=c%20d&%61=b&=&&x&y=&=z&a=b=c&%=%zz&+=+",
            "a=%C3%A9&b=%ff&\u{e9}=\u{e9}",
            "&",
        ] {
            let form = form_urlencoded::parse(query.as_bytes());
            assert!(pairs(query).eq(form), "{query}");
        }
    }

    #[test]
    fn numbers_are_digits_that_javascript_knows() {
        assert_eq!(Query::parse(&uri("")).offset(|| true), Ok(None));
        assert_eq!(
            Query::parse(&uri("antiphon-offset=07")).offset(|| true),
            Ok(Some(7))
        );
        assert_eq!(
            Query::parse(&uri("antiphon-offset=9007199254740992")).offset(|| true),
            Ok(Some(LARGEST))
        );
        for junk in [
            "",
            "-1",
            "%2B1",
            "1.5",
            "x",
            "1m",
            "9007199254740993",
            "99999999999999999999",
        ] {
            let uri = uri(&format!(
                "antiphon-offset={junk}&antiphon-wait={junk}&antiphon-interval={junk}"
            ));
            let query = Query::parse(&uri);
            assert!(!query.asks_to_be_tracked(), "{junk}");
            assert_eq!(query.offset(|| true), Err(RequestError::BadNumber(OFFSET)));
            assert_eq!(query.offset(|| false), Ok(None), "{junk}");
            assert_eq!(query.wait(), None, "{junk}");
            assert_eq!(query.interval(), Duration::ZERO, "{junk}");
        }
    }

    #[test]
    fn a_path_matches_whole_segments() {
        for path in ["/socket.io", "/socket.io/", "/socket.io/x"] {
            assert!(is_below(path, "/socket.io"), "{path}");
        }
        for path in ["/socket.iofoo", "/", "/other/socket.io"] {
            assert!(!is_below(path, "/socket.io"), "{path}");
        }
    }
}
