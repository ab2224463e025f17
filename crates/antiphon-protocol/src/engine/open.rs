//! The data of the packet open, by which a server tells its client the session's id and settings
//! (docs/protocol.md 4.2).
//!
//! Two values without state: an [`Open`] borrows from the server's options and writes the JSON; a
//! [`Handshake`] is what a client reads from it, with owned texts. Writing can't fail. Reading
//! fails with a [`HandshakeError`] that names the key; unknown keys are passed over, and times are
//! cut at 49 days so that they overflow no clock.

use std::{fmt::Write as _, time::Duration};

use serde_json::Value;

/// No timeout of a handshake is read as longer than this (49 days), so that none overflows a clock.
const LONGEST: u64 = u32::MAX as u64;

/// The data of an open packet, as a server writes it.
///
/// Source: docs/protocol.md 4.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open<'a> {
    /// The id of the session.
    pub sid: &'a str,
    /// The transports that the client may upgrade to.
    pub upgrades: &'a [&'a str],
    /// Time between two pings.
    pub ping_interval: Duration,
    /// How long the answer to a ping may take.
    pub ping_timeout: Duration,
    /// The most bytes of one payload or message that the server takes.
    pub max_payload: u64,
}

impl Open<'_> {
    /// Writes the JSON, in the key order of the reference implementation. Times are milliseconds.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = String::with_capacity(128);
        json.push_str("{\"sid\":");
        append_string(&mut json, self.sid);
        json.push_str(",\"upgrades\":[");
        for (index, upgrade) in self.upgrades.iter().enumerate() {
            if index > 0 {
                json.push(',');
            }
            append_string(&mut json, upgrade);
        }
        json.push(']');
        for (key, number) in [
            ("pingInterval", self.ping_interval.as_millis()),
            ("pingTimeout", self.ping_timeout.as_millis()),
            ("maxPayload", u128::from(self.max_payload)),
        ] {
            // Writing to a string can't fail.
            let _ = write!(json, ",\"{key}\":{number}");
        }
        json.push('}');
        json
    }
}

fn append_string(json: &mut String, text: &str) {
    // Ids and transport names hardly ever need an escape.
    if text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    {
        json.push('"');
        json.push_str(text);
        json.push('"');
    } else {
        json.push_str(&Value::from(text).to_string());
    }
}

/// The data of an open packet, as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The id of the session.
    pub sid: String,
    /// The transports that the server can upgrade the session to.
    pub upgrades: Vec<String>,
    /// Time between two pings.
    pub ping_interval: Duration,
    /// How long the answer to a ping may take.
    pub ping_timeout: Duration,
    /// The most bytes of one payload that the server takes; servers of revision 3 don't say.
    pub max_payload: Option<u64>,
}

/// Why the data of an open packet could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The data is no JSON.
    #[error("the data of the open packet is not JSON")]
    NotJson,
    /// A key is missing, or its value has the wrong type.
    #[error("the open packet has no valid `{0}`")]
    Key(&'static str),
}

impl Handshake {
    /// Reads the JSON of an open packet. Keys that are not known are ignored, and so are upgrades
    /// that are no strings. Times of more than 49 days are read as 49 days.
    ///
    /// # Errors
    /// [`HandshakeError`] if the text is no JSON, or without a valid `sid`, `pingInterval` or
    /// `pingTimeout`.
    pub fn parse(json: &str) -> Result<Self, HandshakeError> {
        let value: Value = serde_json::from_str(json).map_err(|_| HandshakeError::NotJson)?;
        let millis = |key| {
            (value.get(key).and_then(Value::as_u64))
                .map(|millis| Duration::from_millis(millis.min(LONGEST)))
                .ok_or(HandshakeError::Key(key))
        };
        let sid = value.get("sid").and_then(Value::as_str);
        let upgrades = value.get("upgrades").and_then(Value::as_array);
        Ok(Self {
            sid: sid.ok_or(HandshakeError::Key("sid"))?.to_owned(),
            upgrades: (upgrades.into_iter().flatten())
                .filter_map(|upgrade| upgrade.as_str().map(str::to_owned))
                .collect(),
            ping_interval: millis("pingInterval")?,
            ping_timeout: millis("pingTimeout")?,
            max_payload: value.get("maxPayload").and_then(Value::as_u64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Open<'_> = Open {
        sid: "lv_VI97HAXpY6yYWAAAC",
        upgrades: &["websocket"],
        ping_interval: Duration::from_secs(25),
        ping_timeout: Duration::from_secs(20),
        max_payload: 1_000_000,
    };

    #[test]
    fn the_json_is_that_of_the_reference_implementation() {
        assert_eq!(
            OPEN.to_json(),
            r#"{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#
        );
    }

    #[test]
    fn upgrades_are_a_list_of_any_length() {
        let none = Open {
            upgrades: &[],
            ..OPEN
        };
        assert!(none.to_json().contains(r#""upgrades":[],"#));
        let two = Open {
            upgrades: &["websocket", "webtransport"],
            ..OPEN
        };
        assert!(
            two.to_json()
                .contains(r#""upgrades":["websocket","webtransport"],"#)
        );
    }

    #[test]
    fn any_id_survives_the_json() {
        for sid in ["", "a\"b\\c\n", "🦀", "\u{1e}\u{2028}"] {
            let read = Handshake::parse(&Open { sid, ..OPEN }.to_json()).unwrap();
            assert_eq!(read.sid, sid);
        }
    }

    #[test]
    fn a_handshake_is_read_back() {
        let read = Handshake::parse(&OPEN.to_json()).unwrap();
        assert_eq!(
            read,
            Handshake {
                sid: OPEN.sid.to_owned(),
                upgrades: vec!["websocket".to_owned()],
                ping_interval: OPEN.ping_interval,
                ping_timeout: OPEN.ping_timeout,
                max_payload: Some(OPEN.max_payload),
            }
        );
    }

    #[test]
    fn upgrades_and_the_largest_payload_are_optional() {
        let read = Handshake::parse(r#"{"pingTimeout":2,"sid":"x","pingInterval":1,"new":[]}"#);
        let read = read.unwrap();
        assert_eq!(read.max_payload, None);
        assert!(read.upgrades.is_empty());
    }

    #[test]
    fn a_broken_handshake_names_the_key() {
        let cases = [
            ("", HandshakeError::NotJson),
            ("{", HandshakeError::NotJson),
            ("[]", HandshakeError::Key("sid")),
            (r#"{"sid":1}"#, HandshakeError::Key("sid")),
            (r#"{"sid":"x"}"#, HandshakeError::Key("pingInterval")),
            (
                r#"{"sid":"x","pingInterval":-1}"#,
                HandshakeError::Key("pingInterval"),
            ),
            (
                r#"{"sid":"x","pingInterval":1}"#,
                HandshakeError::Key("pingTimeout"),
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(Handshake::parse(json), Err(expected), "{json}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(Handshake::parse(&deep), Err(HandshakeError::NotJson));
    }

    #[test]
    fn a_huge_time_overflows_no_clock() {
        let json = format!(
            r#"{{"sid":"x","pingInterval":{0},"pingTimeout":{0}}}"#,
            u64::MAX
        );
        let read = Handshake::parse(&json).unwrap();
        assert!(read.ping_interval + read.ping_timeout < Duration::from_secs(100 * 24 * 3600));
    }
}
