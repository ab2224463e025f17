//! The fixtures: what was published, and in which step.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

/// What was published.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fixture {
    /// The step in which it was.
    pub(crate) name: String,
    /// On this channel.
    #[serde(default)]
    pub(crate) channel: String,
    text: Option<String>,
    hex: Option<String>,
    /// Or it is an entry of a stream.
    pub(crate) fields: Option<BTreeMap<String, String>>,
    /// Or it was kept under this key.
    pub(crate) key: Option<String>,
    #[serde(default)]
    pub(crate) value: String,
    /// Or it is a row of a table.
    pub(crate) id: Option<String>,
}

impl Fixture {
    /// The bytes.
    pub(crate) fn payload(&self) -> Vec<u8> {
        match (&self.text, &self.hex) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(hex)) => {
                let digits = hex.as_bytes().chunks(2);
                let byte = |digits| u8::from_str_radix(str::from_utf8(digits).unwrap(), 16);
                digits.map(|digits| byte(digits).unwrap()).collect()
            }
            _ => panic!("{}: text or hexadecimal digits", self.name),
        }
    }
}

/// The fixtures of a file, each with its number among those of its step, from 0.
pub(crate) fn read(json: &str) -> Vec<(Fixture, usize)> {
    let fixtures: Vec<Fixture> = serde_json::from_str(json).unwrap();
    let mut seen = HashMap::new();
    let mut number = |name: &str| {
        let next = seen.entry(name.to_owned()).or_insert(0);
        *next += 1;
        *next - 1
    };
    let numbered = fixtures.into_iter().map(|it| {
        let nth = number(&it.name);
        (it, nth)
    });
    numbered.collect()
}

/// Bytes as one can read them where they differ.
pub(crate) fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
