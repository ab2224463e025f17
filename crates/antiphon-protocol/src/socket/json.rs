//! A scanner of JSON text (RFC 8259): finds where a value ends, and proves on the way that it is
//! one, how deep it nests, and of how many values it is made.
//!
//! `packet` uses it on everything that a peer sends, so it neither recurses nor allocates, whatever
//! the text. A text that isn't JSON is a [`Fault::Syntax`] with the place; one that is too deep, or
//! has too many values, is a fault of its own.

use std::borrow::Cow;

/// Levels that the scanner can hold, one bit each. `serde_json` recurses as deep at most.
pub(crate) const MOST_LEVELS: usize = 127;

/// A part of a text, by the offsets of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    /// The part itself: empty if it is not a part of this text.
    pub(super) fn of(self, text: &str) -> &str {
        text.get(self.start..self.end).unwrap_or_default()
    }
}

/// Why a text is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not JSON, seen at this byte.
    Syntax(usize),
    /// Nested deeper than allowed.
    Depth,
    /// More values than allowed.
    Values,
}

/// How much of it a text may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Levels of arrays and objects.
    pub(super) depth: usize,
    /// Values, the inner ones included.
    pub(super) values: usize,
}

impl Bounds {
    /// Whether a text can't hold too many values, as each takes a byte: nothing need be counted.
    const fn has_room_for(self, text: &str) -> bool {
        text.len() <= self.values
    }
}

/// The elements of an array, without brackets and surrounding whitespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct List {
    /// The first element, if any.
    pub(super) first: Option<Span>,
    /// All elements after the first, with the commas between them.
    pub(super) rest: Span,
    /// All elements, with the commas between them.
    pub(super) all: Span,
}

/// Reads one array that reaches from `at` to the end of the text. The array itself is no value of
/// its own.
pub(super) fn list(text: &str, at: usize, bounds: Bounds) -> Result<List, Fault> {
    match bounds.has_room_for(text) {
        true => elements::<false>(text, at, bounds),
        false => elements::<true>(text, at, bounds),
    }
}

fn elements<const COUNTED: bool>(text: &str, at: usize, bounds: Bounds) -> Result<List, Fault> {
    let bytes = text.as_bytes();
    let depth = bounds.depth.min(MOST_LEVELS);
    let inner = depth.checked_sub(1).ok_or(Fault::Depth)?;
    let mut values = 0;
    if bytes.get(at) != Some(&b'[') {
        return Err(Fault::Syntax(at));
    }
    let start = whitespace(bytes, at + 1);
    let mut list = List {
        first: None,
        rest: Span { start, end: start },
        all: Span { start, end: start },
    };
    let mut next = start;
    if bytes.get(start) != Some(&b']') {
        loop {
            let end = scan::<COUNTED>(bytes, next, inner, &mut values)?;
            let element = Span { start: next, end };
            match list.first {
                None => {
                    list.first = Some(element);
                    list.rest = Span { start: end, end };
                }
                Some(first) if first.end == list.rest.end => list.rest = element,
                Some(_) => list.rest.end = end,
            }
            list.all.end = end;
            next = whitespace(bytes, end);
            match bytes.get(next) {
                Some(b',') => next = whitespace(bytes, next + 1),
                Some(b']') => break,
                _ => return Err(Fault::Syntax(next)),
            }
        }
    }
    at_end(bytes, next + 1)?;
    within(values, bounds)?;
    Ok(list)
}

/// Reads one value that reaches from `at` to the end of the text.
pub(super) fn whole(text: &str, at: usize, bounds: Bounds) -> Result<Span, Fault> {
    let bytes = text.as_bytes();
    let mut values = 0;
    let end = match bounds.has_room_for(text) {
        true => value(bytes, at, bounds.depth)?,
        false => scan::<true>(bytes, at, bounds.depth, &mut values)?,
    };
    at_end(bytes, end)?;
    within(values, bounds)?;
    Ok(Span { start: at, end })
}

/// Values are counted to the end: the text is in memory already, and its scan takes no more of it.
const fn within(values: usize, bounds: Bounds) -> Result<(), Fault> {
    if values > bounds.values {
        return Err(Fault::Values);
    }
    Ok(())
}

fn at_end(bytes: &[u8], at: usize) -> Result<(), Fault> {
    match whitespace(bytes, at) {
        end if end == bytes.len() => Ok(()),
        end => Err(Fault::Syntax(end)),
    }
}

/// Where the value that begins at `at` ends.
pub(crate) fn value(bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
    scan::<false>(bytes, at, depth, &mut 0)
}

/// Where the value that begins at `at` ends. Adds to `values` of how many it is made, if these are
/// counted.
fn scan<const COUNTED: bool>(
    bytes: &[u8],
    mut at: usize,
    depth: usize,
    values: &mut usize,
) -> Result<usize, Fault> {
    // One bit a level, the innermost lowest: set inside an object, clear inside an array.
    let mut objects: u128 = 0;
    let mut levels = 0;
    let mut count = 0;
    let depth = depth.min(MOST_LEVELS);
    loop {
        let mut open = false;
        if COUNTED {
            count += 1;
        }
        at = match bytes.get(at) {
            Some(b'"') => string(bytes, at)?,
            Some(&bracket @ (b'{' | b'[')) => {
                if levels == depth {
                    return Err(Fault::Depth);
                }
                levels += 1;
                objects = objects << 1 | u128::from(bracket == b'{');
                open = true;
                whitespace(bytes, at + 1)
            }
            _ => scalar(bytes, at)?,
        };
        // What stands before the next value: closing brackets, a comma, a key.
        loop {
            if levels == 0 {
                if COUNTED {
                    *values += count;
                }
                return Ok(at);
            }
            let object = objects & 1 == 1;
            if !open {
                at = whitespace(bytes, at);
            }
            match bytes.get(at) {
                Some(b']') if !object => {}
                Some(b'}') if object => {}
                Some(b',') if !open => {
                    at = whitespace(bytes, at + 1);
                    if object {
                        at = key(bytes, at)?;
                    }
                    break;
                }
                Some(_) if open => {
                    if object {
                        at = key(bytes, at)?;
                    }
                    break;
                }
                _ => return Err(Fault::Syntax(at)),
            }
            at += 1;
            levels -= 1;
            objects >>= 1;
            open = false;
        }
    }
}

/// Where the value that begins at `at` ends, if it is neither an array nor an object.
#[inline]
pub(super) fn scalar(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    match bytes.get(at) {
        Some(b'"') => string(bytes, at),
        Some(b'-' | b'0'..=b'9') => number(bytes, at),
        Some(b't') => literal(bytes, at, b"true"),
        Some(b'f') => literal(bytes, at, b"false"),
        Some(b'n') => literal(bytes, at, b"null"),
        _ => Err(Fault::Syntax(at)),
    }
}

/// Skips a key and its colon.
fn key(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    if bytes.get(at) != Some(&b'"') {
        return Err(Fault::Syntax(at));
    }
    let colon = whitespace(bytes, string(bytes, at)?);
    match bytes.get(colon) {
        Some(b':') => Ok(whitespace(bytes, colon + 1)),
        _ => Err(Fault::Syntax(colon)),
    }
}

/// The first byte at or after `at` that is not whitespace.
pub(crate) fn whitespace(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

fn literal(bytes: &[u8], at: usize, word: &[u8]) -> Result<usize, Fault> {
    match bytes.get(at..at + word.len()) {
        Some(found) if found == word => Ok(at + word.len()),
        _ => Err(Fault::Syntax(at)),
    }
}

fn number(bytes: &[u8], start: usize) -> Result<usize, Fault> {
    let mut at = start + usize::from(bytes.get(start) == Some(&b'-'));
    at = match bytes.get(at) {
        Some(b'0') => at + 1,
        _ => digits(bytes, at)?,
    };
    if bytes.get(at) == Some(&b'.') {
        at = digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = digits(bytes, at)?;
    }
    Ok(at)
}

/// Skips digits, at least one.
fn digits(bytes: &[u8], start: usize) -> Result<usize, Fault> {
    let mut at = start;
    while let Some(b'0'..=b'9') = bytes.get(at) {
        at += 1;
    }
    if at == start {
        return Err(Fault::Syntax(at));
    }
    Ok(at)
}

/// Where the string whose quote is at `start` ends, after its closing quote.
pub(crate) fn string(bytes: &[u8], start: usize) -> Result<usize, Fault> {
    let mut at = start + 1;
    loop {
        at = plain(bytes, at);
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => {
                at = match bytes.get(at + 1) {
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at + 2,
                    Some(b'u') => match bytes.get(at + 2..at + 6) {
                        Some(hex) if hex.iter().all(u8::is_ascii_hexdigit) => at + 6,
                        _ => return Err(Fault::Syntax(at)),
                    },
                    _ => return Err(Fault::Syntax(at)),
                }
            }
            _ => return Err(Fault::Syntax(at)),
        }
    }
}

/// Whether a text stands in a string as it is, without escapes.
pub(super) fn is_plain(text: &str) -> bool {
    plain(text.as_bytes(), 0) == text.len()
}

/// The first byte at or after `at` that is not plain text of a string: a quote, a backslash, a
/// control character. Eight bytes at a time, as most strings are short.
fn plain(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    const fn zero(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word & HIGH
    }
    let start = at;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        // The lowest bit set is exact; those above it may be the borrow of a subtraction.
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let quote = zero(word ^ (ONES * b'"' as u64));
        let backslash = zero(word ^ (ONES * b'\\' as u64));
        let found = control | quote | backslash;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
        if at - start == 16 {
            at = plain_blocks(bytes, at);
        }
    }
    while let Some(&byte) = bytes.get(at) {
        if is_special(byte) {
            break;
        }
        at += 1;
    }
    at
}

/// As [`plain`] in blocks of 32 bytes, which the compiler makes wide instructions of: where the
/// first block that isn't plain begins.
fn plain_blocks(bytes: &[u8], mut at: usize) -> usize {
    let (blocks, _) = bytes.get(at..).unwrap_or_default().as_chunks::<32>();
    for block in blocks {
        if block
            .iter()
            .fold(false, |any, &byte| any | is_special(byte))
        {
            break;
        }
        at += 32;
    }
    at
}

const fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// The text of a string, given with its quotes. A lone surrogate in it is U+FFFD. `None` if it is
/// no string.
pub(crate) fn unescape(quoted: &str) -> Option<Cow<'_, str>> {
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    let text = match repair(quoted) {
        Some(repaired) => serde_json::from_str(&repaired),
        None => serde_json::from_str(quoted),
    };
    text.ok().map(Cow::Owned)
}

/// The same JSON with U+FFFD where a string holds a lone surrogate. `None` if there is none.
///
/// JavaScript's strings are UTF-16, and `slice` cuts them anywhere, so that half of a pair may be
/// left; `JSON.stringify` writes it as an escape (`"\ud83d"`). It is JSON by its grammar, but no
/// Unicode. U+FFFD is what browsers make of it when they encode it as UTF-8.
pub(super) fn repair(json: &str) -> Option<String> {
    let mut lone = lone_surrogate(json, 0)?;
    let mut repaired = String::with_capacity(json.len());
    let mut copied = 0;
    loop {
        repaired.push_str(json.get(copied..lone)?);
        repaired.push_str("\\ufffd");
        copied = lone + ESCAPE;
        match lone_surrogate(json, copied) {
            Some(next) => lone = next,
            None => break,
        }
    }
    repaired.push_str(json.get(copied..)?);
    Some(repaired)
}

/// Whether a string in this JSON holds a lone surrogate.
pub(super) fn has_lone_surrogate(json: &str) -> bool {
    lone_surrogate(json, 0).is_some()
}

/// The length of an escape like `\ud83d`.
const ESCAPE: usize = 6;

/// Where the escape of the first lone surrogate at or after `at` begins. Valid JSON has backslashes
/// in strings alone.
fn lone_surrogate(json: &str, mut at: usize) -> Option<usize> {
    let bytes = json.as_bytes();
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == b'\\')?;
        at += match unit(bytes, at) {
            // Any other escape: the character after the backslash belongs to it.
            None => 2,
            Some(0xd800..=0xdbff) => match unit(bytes, at + ESCAPE) {
                Some(0xdc00..=0xdfff) => 2 * ESCAPE,
                _ => return Some(at),
            },
            Some(0xdc00..=0xdfff) => return Some(at),
            Some(_) => ESCAPE,
        };
    }
}

/// The code unit of the escape at `at`, if it is one like `\ud83d`.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let hex = bytes.get(at..at + ESCAPE)?.strip_prefix(b"\\u")?;
    hex.iter().try_fold(0, |unit, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(unit << 4 | digit as u16)
    })
}
