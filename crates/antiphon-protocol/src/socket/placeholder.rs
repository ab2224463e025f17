//! Placeholders: `{"_placeholder":true,"num":0}` stands in the JSON where attachment 0 belongs
//! (docs/protocol.md 17.1, 17.5).
//!
//! Used both ways: `packet` refuses a placeholder that names no attachment, `input` reads one as
//! bytes, and `encode` makes sure that foreign JSON forges none. The text must be known to be JSON.

use std::io::{self, Write};

use super::error::DecodeError;
use super::json;

/// What an object is, as far as attachments are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placeholder {
    /// An ordinary object.
    Not,
    /// It stands for this attachment.
    Attachment {
        /// The number of the attachment, from 0.
        num: usize,
        /// Where the object ends, after its closing brace.
        end: usize,
    },
    /// It says that it is one, and names no attachment.
    Illegal,
}

/// Writes the placeholder of this attachment.
pub(super) fn write<W: Write + ?Sized>(num: usize, to: &mut W) -> io::Result<()> {
    write!(to, r#"{{"_placeholder":true,"num":{num}}}"#)
}

/// Looks at the object whose brace is at `at`, in a text that is known to be JSON.
///
/// Encoders write exactly two keys, some of them in the order of a hash map. So an object is a
/// placeholder if one of its first two keys is `_placeholder` with the value `true` and the other
/// is `num`; further keys are ignored. One that begins with the mark and goes on otherwise is
/// illegal. Looking at two keys alone keeps this independent of the size of an ordinary object.
pub(super) fn at(text: &str, at: usize, attachments: usize) -> Placeholder {
    find(text, at, attachments).unwrap_or(Placeholder::Not)
}

fn find(text: &str, at: usize, attachments: usize) -> Option<Placeholder> {
    let bytes = text.as_bytes();
    let (first, value, mut next) = entry(text, at)?;
    let num = match first {
        PlaceholderKey::Mark if value == "true" => match entry(text, next) {
            Some((PlaceholderKey::Num, value, after)) => {
                next = after;
                value
            }
            _ => return Some(Placeholder::Illegal),
        },
        PlaceholderKey::Num => match entry(text, next)? {
            (PlaceholderKey::Mark, "true", after) => {
                next = after;
                value
            }
            _ => return None,
        },
        PlaceholderKey::Mark | PlaceholderKey::Other => return None,
    };
    // Keys after these two belong to the object all the same.
    while bytes.get(next) == Some(&b',') {
        let key = json::whitespace(bytes, next + 1);
        let colon = json::whitespace(bytes, json::string(bytes, key).ok()?);
        let value = json::whitespace(bytes, colon + 1);
        next = json::whitespace(bytes, json::value(bytes, value, usize::MAX).ok()?);
    }
    Some(match num.parse() {
        Ok(num) if num < attachments => Placeholder::Attachment { num, end: next + 1 },
        _ => Placeholder::Illegal,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PlaceholderKey {
    Mark,
    Num,
    Other,
}

/// Reads `{"key":value` or `,"key":value`: the key, the value if it is a scalar, what follows.
/// `None` at the end of the object, or if the object can't be a placeholder.
fn entry(text: &str, at: usize) -> Option<(PlaceholderKey, &str, usize)> {
    let bytes = text.as_bytes();
    if !matches!(bytes.get(at), Some(b'{' | b',')) {
        return None;
    }
    let start = json::whitespace(bytes, at + 1);
    if bytes.get(start) != Some(&b'"') {
        return None;
    }
    let end = json::string(bytes, start).ok()?;
    // Longer than the longest key with every character escaped: not worth reading.
    let key = match text.get(start..end)? {
        r#""_placeholder""# => PlaceholderKey::Mark,
        r#""num""# => PlaceholderKey::Num,
        long if long.len() > 80 || !long.contains('\\') => return None,
        escaped => match json::unescape(escaped)?.as_ref() {
            "_placeholder" => PlaceholderKey::Mark,
            "num" => PlaceholderKey::Num,
            _ => PlaceholderKey::Other,
        },
    };
    let colon = json::whitespace(bytes, end);
    let start = json::whitespace(bytes, colon + 1);
    let end = json::scalar(bytes, start).ok()?;
    Some((key, text.get(start..end)?, json::whitespace(bytes, end)))
}

/// Checks the placeholders in these JSON values: each must name one of so many attachments, and no
/// two the same. An attachment that none names is of no use, but does no harm.
pub(super) fn check(text: &str, attachments: usize) -> Result<(), DecodeError> {
    let illegal = || DecodeError::IllegalPlaceholder { attachments };
    let bytes = text.as_bytes();
    let mut named = Named::default();
    let mut next = 0;
    while let Some(&byte) = bytes.get(next) {
        next = match byte {
            b'"' => json::string(bytes, next).map_err(|_| illegal())?,
            b'{' => match at(text, next, attachments) {
                Placeholder::Not => next + 1,
                Placeholder::Attachment { num, end } if named.insert(num) => end,
                Placeholder::Attachment { num, .. } => {
                    return Err(DecodeError::RepeatedPlaceholder { num });
                }
                Placeholder::Illegal => return Err(illegal()),
            },
            _ => next + 1,
        };
    }
    Ok(())
}

/// The numbers that have been named: the usual ones take no memory of their own.
#[derive(Default)]
struct Named {
    first: u64,
    /// One for each number, from 0.
    others: Vec<bool>,
}

impl Named {
    /// Adds a number. Returns `false` if it was there.
    fn insert(&mut self, num: usize) -> bool {
        if num >= 64 {
            return self.insert_other(num);
        }
        let bit = 1 << num;
        let is_new = self.first & bit == 0;
        self.first |= bit;
        is_new
    }

    /// The decoder bounds how many there are.
    #[cold]
    fn insert_other(&mut self, num: usize) -> bool {
        if self.others.len() <= num {
            self.others.resize(num + 1, false);
        }
        let named = self.others.get_mut(num);
        named.is_some_and(|named| !std::mem::replace(named, true))
    }
}
