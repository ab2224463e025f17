//! Why arguments don't fit a type: which argument, where in it, and what was expected.
//!
//! Path and message can repeat what a peer has sent, so each is cut at 256 bytes.

use std::error::Error;
use std::fmt::{self, Display, Formatter, Write as _};

use super::misfit::{self, Show};

/// Longest path and longest message, in bytes. Both can repeat what a peer has sent.
const LONGEST: usize = 256;

/// Arguments that don't fit the type that they were read as.
///
/// ```
/// # use antiphon_protocol::socket::{Decoder, Limits, Packet};
/// # use antiphon_protocol::engine::Revision;
/// # let mut decoder = Decoder::new(Revision::V4, Limits::default());
/// # let packet = decoder.text(r#"2["move","left","far"]"#).unwrap();
/// # let Some(Packet::Event { args, .. }) = packet else { panic!() };
/// let error = args.deserialize::<(String, u32)>().unwrap_err();
/// assert_eq!(error.path(), "[1]");
/// assert_eq!(
///     error.to_string(),
///     r#"argument 2: invalid type: string "far", expected u32"#,
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgsError {
    /// From 0; `None` if the arguments are wrong as a whole.
    argument: Option<usize>,
    /// The index of the argument in brackets, then the way inside it.
    path: String,
    problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Problem {
    Missing,
    Invalid(String),
}

impl ArgsError {
    pub(super) fn missing(argument: usize) -> Self {
        Self {
            argument: Some(argument),
            path: format!("[{argument}]"),
            problem: Problem::Missing,
        }
    }

    /// `inside` is the way from the argument to the value that doesn't fit.
    pub(super) fn invalid(
        argument: Option<usize>,
        inside: &serde_path_to_error::Path,
        skip: usize,
        error: &serde_json::Error,
    ) -> Self {
        use serde_path_to_error::Segment;
        let mut path = String::new();
        if let Some(argument) = argument {
            let _ = write!(path, "[{argument}]");
        }
        for segment in inside.iter().skip(skip) {
            let _ = match segment {
                Segment::Seq { index } => write!(path, "[{index}]"),
                Segment::Map { key } => write!(path, ".{key}"),
                Segment::Enum { variant } => write!(path, ".{variant}"),
                Segment::Unknown => write!(path, ".?"),
            };
        }
        Self {
            argument,
            path: shortened(path),
            problem: Problem::Invalid(shortened(without_position(error))),
        }
    }

    /// An error of a value that stands for itself, such as the payload of a CONNECT.
    #[must_use]
    pub fn of_value(error: &serde_json::Error) -> Self {
        Self {
            argument: None,
            path: String::new(),
            problem: Problem::Invalid(shortened(without_position(error))),
        }
    }

    /// The message for the client that has sent the arguments: what is expected is said in the
    /// words of JSON, without names of Rust types.
    ///
    /// ```
    /// # use antiphon_protocol::socket::{Decoder, Limits, Packet};
    /// # use antiphon_protocol::engine::Revision;
    /// # let mut decoder = Decoder::new(Revision::V4, Limits::default());
    /// # let packet = decoder.text(r#"2["age","old"]"#).unwrap();
    /// # let Some(Packet::Event { args, .. }) = packet else { panic!() };
    /// let error = args.deserialize::<u8>().unwrap_err();
    /// assert_eq!(error.to_string(), r#"argument 1: invalid type: string "old", expected u8"#);
    /// assert_eq!(
    ///     error.for_client(),
    ///     r#"argument 1: invalid type: string "old", expected a whole number from 0 to 255"#,
    /// );
    /// assert_eq!(error.for_log(), "argument 1: invalid type: string, expected u8");
    /// ```
    #[must_use]
    pub fn for_client(&self) -> String {
        let (types, value) = (false, true);
        self.showing(Show { types, value })
    }

    /// The message for a log: with the names of types, and without the value that the client has
    /// sent, as far as serde made the message.
    #[must_use]
    pub fn for_log(&self) -> String {
        let (types, value) = (true, false);
        self.showing(Show { types, value })
    }

    /// The message with neither the names of types nor the value: of a secret.
    #[must_use]
    pub fn for_secret(&self) -> String {
        let (types, value) = (false, false);
        self.showing(Show { types, value })
    }

    fn showing(&self, show: Show) -> String {
        let problem = match &self.problem {
            Problem::Missing => Problem::Missing,
            Problem::Invalid(text) => Problem::Invalid(misfit::message(text, show).into_owned()),
        };
        let shown = Self {
            argument: self.argument,
            path: self.path.clone(),
            problem,
        };
        shown.to_string()
    }

    /// Where the value is that doesn't fit: the index of the argument, from 0, and the way inside
    /// it, as in `[1].user.age`. Empty if it is about the arguments as a whole.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl Display for ArgsError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(argument) = self.argument {
            write!(f, "argument {}", argument + 1)?;
        }
        let message = match &self.problem {
            Problem::Missing => return f.write_str(" is missing"),
            Problem::Invalid(message) => message,
        };
        let inside = match self.argument {
            Some(_) => self.path.split_once(']').map_or("", |(_, inside)| inside),
            None => &self.path,
        };
        if !inside.is_empty() {
            let separator = if self.argument.is_some() { ", " } else { "" };
            match inside.strip_prefix('.') {
                Some(field) => write!(f, "{separator}field `{field}`")?,
                None => write!(f, "{separator}element `{inside}`")?,
            }
        }
        if !self.path.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(message)
    }
}

impl Error for ArgsError {}

/// What went wrong; the line and the column would be those of a part of the packet.
fn without_position(error: &serde_json::Error) -> String {
    let mut message = error.to_string();
    if error.line() > 0
        && let Some(end) = message.rfind(" at line ")
    {
        message.truncate(end);
    }
    message
}

fn shortened(mut text: String) -> String {
    if text.len() > LONGEST {
        let mut end = LONGEST;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}
