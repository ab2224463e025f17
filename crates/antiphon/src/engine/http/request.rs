//! The query of a request: what a client of Engine.IO says in it.

use antiphon_protocol::engine::{Revision, TransportKind};
use http::Uri;

/// The parameters that the engine looks at. The first of a name counts.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) eio: Option<String>,
    pub(super) transport: Option<String>,
    pub(super) sid: Option<String>,
    /// The client can't take binary.
    pub(super) base64: bool,
    /// The index of the callback that is called with the answer of a poll (JSONP).
    pub(super) jsonp: Option<String>,
}

impl Query {
    pub(super) fn parse(uri: &Uri) -> Self {
        let mut query = Self::default();
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            let slot = match &*name {
                "EIO" => &mut query.eio,
                "transport" => &mut query.transport,
                "sid" => &mut query.sid,
                "j" => &mut query.jsonp,
                "b64" => {
                    query.base64 = true;
                    continue;
                }
                _ => continue,
            };
            slot.get_or_insert_with(|| value.into_owned());
        }
        query
    }

    pub(super) fn revision(&self) -> Option<Revision> {
        Revision::from_query(self.eio.as_deref()?)
    }

    pub(super) fn transport(&self) -> Option<TransportKind> {
        match self.transport.as_deref()? {
            "polling" => Some(TransportKind::Polling),
            "websocket" => Some(TransportKind::WebSocket),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Query {
        Query::parse(&format!("/socket.io/?{query}").parse().unwrap())
    }

    #[test]
    fn only_3_and_4_are_revisions() {
        assert_eq!(parse("EIO=3").revision(), Some(Revision::V3));
        assert_eq!(parse("EIO=4").revision(), Some(Revision::V4));
        for query in ["", "EIO=", "EIO=5", "EIO=04", "eio=4"] {
            assert_eq!(parse(query).revision(), None, "{query}");
        }
    }

    #[test]
    fn the_first_parameter_of_a_name_counts() {
        let query = parse("sid=a&sid=b&b64=1");
        assert_eq!(query.sid.as_deref(), Some("a"));
        assert!(query.base64);
    }
}
