//! The fixtures: what was published, and in which step.

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

/// The fixtures of a file.
pub(crate) fn read(json: &str) -> Vec<Fixture> {
    serde_json::from_str(json).unwrap()
}

/// Bytes as one can read them where they differ.
pub(crate) fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
