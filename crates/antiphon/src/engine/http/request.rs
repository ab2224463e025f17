//! The query of a request: what a client of Engine.IO says in it.

use std::{borrow::Cow, time::Duration};

use antiphon_protocol::engine::{Revision, TransportKind, jsonp::Callback};
use http::{Uri, request::Parts};

use super::RequestError;

/// The largest whole number that JavaScript knows exactly.
const LARGEST: u64 = 1 << 53;

/// A client that polls at intervals comes as seldom as this.
const LONGEST_INTERVAL: u64 = 60_000;

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
                "offset" => &mut query.offset,
                "wait" => &mut query.wait,
                "interval" => &mut query.interval,
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

    pub(super) fn revision(&self) -> Option<Revision> {
        Revision::from_query(self.eio.as_deref()?)
    }

    pub(super) fn unknown_transport(&self) -> RequestError {
        RequestError::UnknownTransport(self.transport.as_deref().map(str::to_owned))
    }

    pub(super) fn unsupported_revision(&self) -> RequestError {
        RequestError::UnsupportedRevision(self.eio.as_deref().map(str::to_owned))
    }

    /// How many packets the client has had.
    pub(super) fn offset(&self) -> Result<Option<u64>, RequestError> {
        number("offset", self.offset.as_deref())
    }

    /// How long a poll may wait for packets.
    pub(super) fn wait(&self) -> Result<Option<Duration>, RequestError> {
        Ok(number("wait", self.wait.as_deref())?.map(Duration::from_millis))
    }

    /// How seldom the client comes.
    pub(super) fn interval(&self) -> Result<Duration, RequestError> {
        let interval = number("interval", self.interval.as_deref())?;
        Ok(Duration::from_millis(
            interval.unwrap_or(0).min(LONGEST_INTERVAL),
        ))
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

fn number(name: &'static str, value: Option<&str>) -> Result<Option<u64>, RequestError> {
    let Some(value) = value else {
        return Ok(None);
    };
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value
        .parse()
        .ok()
        .filter(|number| digits && *number <= LARGEST);
    number.map(Some).ok_or(RequestError::BadNumber(name))
}

/// A parameter of the query that few requests are asked for.
pub(super) fn parameter<'p>(parts: &'p Parts, name: &str) -> Option<Cow<'p, str>> {
    let mut pairs = pairs(parts.uri.query().unwrap_or_default());
    pairs.find_map(|(key, value)| (key == name).then_some(value))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(query: &str) -> Uri {
        format!("/socket.io/?{query}").parse().unwrap()
    }

    #[test]
    fn only_3_and_4_are_revisions() {
        assert_eq!(Query::parse(&uri("EIO=3")).revision(), Some(Revision::V3));
        assert_eq!(Query::parse(&uri("EIO=4")).revision(), Some(Revision::V4));
        for query in ["", "EIO=", "EIO=5", "EIO=04", "eio=4"] {
            assert_eq!(Query::parse(&uri(query)).revision(), None, "{query}");
        }
    }

    #[test]
    fn the_first_parameter_of_a_name_counts() {
        let uri = uri("sid=a&sid=b&b64=1");
        let query = Query::parse(&uri);
        assert_eq!(query.sid.as_deref(), Some("a"));
        assert!(query.base64);
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
        assert_eq!(Query::parse(&uri("")).offset(), Ok(None));
        assert_eq!(Query::parse(&uri("offset=07")).offset(), Ok(Some(7)));
        assert_eq!(
            Query::parse(&uri("offset=9007199254740992")).offset(),
            Ok(Some(LARGEST))
        );
        for junk in [
            "",
            "-1",
            "%2B1",
            "1.5",
            "x",
            "9007199254740993",
            "99999999999999999999",
        ] {
            let error = Err(RequestError::BadNumber("offset"));
            assert_eq!(
                Query::parse(&uri(&format!("offset={junk}"))).offset(),
                error,
                "{junk}"
            );
        }
        assert_eq!(
            Query::parse(&uri("interval=3600000")).interval(),
            Ok(Duration::from_secs(60))
        );
    }
}
