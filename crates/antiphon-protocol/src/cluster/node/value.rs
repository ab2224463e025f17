//! Reads what a server of Node has written, JSON or MessagePack, by the same names.
//!
//! A [`Value`] is the bytes of one value. What is inside is looked for when it is asked for, by
//! skipping what stands before it: nothing is allocated, and arguments aren't read before it is
//! known that they matter. A message has few levels around its arguments, so each byte is skipped a
//! few times at the most. Arrays and objects are never entered by recursion.

use std::borrow::Cow;
use std::str;
use std::sync::Arc;

use super::{Interest, MOST_ENTRIES, MOST_ID, Malformed, Sockets};
use crate::socket::msgpack::reader::{Reader, Value as Token};
use crate::socket::{DecodeError, Limits, Outgoing, OwnedArgs, json};

/// One value of JSON or MessagePack. JSON is known to be valid once something around it was read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    /// Without whitespace around it.
    Json(&'a str),
    Msgpack(&'a [u8]),
}

impl<'a> Value<'a> {
    /// What a payload holds: JSON if it begins with a brace, as Node tells them apart.
    pub(super) fn of_payload(payload: &'a [u8]) -> Result<Self, Malformed> {
        match payload.first() {
            Some(b'{') => Self::of_json(payload),
            _ => Self::of_msgpack(payload),
        }
    }

    /// The value that this JSON is.
    pub(super) fn of_json(text: &'a [u8]) -> Result<Self, Malformed> {
        let text = simdutf8::compat::from_utf8(text).map_err(|error| Malformed::Json {
            offset: error.valid_up_to(),
        })?;
        let bytes = text.as_bytes();
        let start = json::whitespace(bytes, 0);
        let end = skip(text, start)?;
        match json::whitespace(bytes, end) {
            at if at == bytes.len() => Ok(Self::Json(&text[start..end])),
            offset => Err(Malformed::Json { offset }),
        }
    }

    /// The value that these bytes are.
    pub(super) fn of_msgpack(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        reader.skip()?;
        match reader.is_at_end() {
            true => Ok(Self::Msgpack(bytes)),
            false => Err(Malformed::Value(DecodeError::InvalidMsgpack {
                offset: reader.at(),
                reason: "bytes after the message",
            })),
        }
    }

    /// Whether it is an array.
    pub(super) fn is_array(self) -> bool {
        match self {
            Self::Json(text) => text.starts_with('['),
            Self::Msgpack(_) => matches!(self.token(), Some(Token::Array(_))),
        }
    }

    /// Whether it is an object.
    pub(super) fn is_object(self) -> bool {
        match self {
            Self::Json(text) => text.starts_with('{'),
            Self::Msgpack(_) => matches!(self.token(), Some(Token::Map(_))),
        }
    }

    /// Whether it is null, or what stands for `undefined`.
    fn is_nil(self) -> bool {
        match self {
            Self::Json(text) => text == "null",
            Self::Msgpack(_) => matches!(self.token(), Some(Token::Nil | Token::Undefined)),
        }
    }

    /// The fields of these names, in their order. `field` is the name of this value. Of a field
    /// that comes twice the last counts, as in JavaScript.
    pub(super) fn fields<const N: usize>(
        self,
        field: &'static str,
        names: [&str; N],
    ) -> Result<[Option<Self>; N], Malformed> {
        let mut found = [None; N];
        let mut take = |key: &str, value| {
            let names = names.iter().zip(&mut found);
            for (_, place) in names.filter(|(name, _)| **name == key) {
                *place = Some(value);
            }
        };
        let expected = "an object";
        match self {
            Self::Json(text) => each(text, b'{', &mut |key, value| {
                if let Some(key) = json::unescape(key) {
                    take(&key, Self::Json(value));
                }
                Ok(())
            })?
            .ok_or(Malformed::Field { field, expected })?,
            Self::Msgpack(bytes) => {
                let mut reader = Reader::new(bytes);
                let Token::Map(count) = reader.value()? else {
                    return Err(Malformed::Field { field, expected });
                };
                for _ in 0..count {
                    let key = next(&mut reader, bytes)?;
                    let value = next(&mut reader, bytes)?;
                    if let Some(key) = Self::Msgpack(key).text() {
                        take(&key, Self::Msgpack(value));
                    }
                }
            }
        }
        Ok(found)
    }

    /// Gives each element to `take`.
    fn each_element(
        self,
        field: &'static str,
        take: &mut dyn FnMut(Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let expected = "an array";
        match self {
            Self::Json(text) => each(text, b'[', &mut |_, value| take(Self::Json(value)))?
                .ok_or(Malformed::Field { field, expected }),
            Self::Msgpack(bytes) => {
                let mut reader = Reader::new(bytes);
                let Token::Array(count) = reader.value()? else {
                    return Err(Malformed::Field { field, expected });
                };
                for _ in 0..count {
                    take(Self::Msgpack(next(&mut reader, bytes)?))?;
                }
                Ok(())
            }
        }
    }

    /// What `read` makes of each element.
    pub(super) fn elements<T>(
        self,
        field: &'static str,
        read: impl Fn(Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let mut elements = Vec::new();
        let limit = MOST_ENTRIES;
        self.each_element(field, &mut |element| {
            if elements.len() == limit {
                return Err(Malformed::TooMany { field, limit });
            }
            elements.push(read(element)?);
            Ok(())
        })?;
        Ok(elements)
    }

    /// The first elements. `None` for those that there are not.
    pub(super) fn first<const N: usize>(
        self,
        field: &'static str,
    ) -> Result<[Option<Self>; N], Malformed> {
        let mut first = [None; N];
        let mut places = first.iter_mut();
        self.each_element(field, &mut |element| {
            if let Some(place) = places.next() {
                *place = Some(element);
            }
            Ok(())
        })?;
        Ok(first)
    }

    /// The text that it is.
    pub(super) fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Json(text) => json::unescape(text),
            Self::Msgpack(_) => match self.token()? {
                Token::Text(text) => Some(String::from_utf8_lossy(text)),
                _ => None,
            },
        }
    }

    /// The number that it is.
    pub(super) fn number(self) -> Option<f64> {
        match self {
            Self::Json(text) => text.parse().ok(),
            Self::Msgpack(_) => match self.token()? {
                Token::Unsigned(number) => Some(number as f64),
                Token::Negative(number) => Some(number as f64),
                Token::Float(number) => Some(number),
                _ => None,
            },
        }
    }

    /// The whole number that it is, if it isn't negative.
    pub(super) fn integer(self) -> Option<u64> {
        match self {
            Self::Json(text) => text.parse().ok(),
            Self::Msgpack(_) => match self.token()? {
                Token::Unsigned(number) => Some(number),
                _ => None,
            },
        }
    }

    /// Whether it is what JavaScript takes for true, of the values that servers write.
    pub(super) fn is_true(self) -> bool {
        match self {
            Self::Json(text) => text == "true",
            Self::Msgpack(_) => matches!(self.token(), Some(Token::Bool(true))),
        }
    }

    /// The name of a room. In Node it may be a number, which is its text here.
    pub(super) fn room(self) -> Option<Cow<'a, str>> {
        if let Some(text) = self.text() {
            return Some(text);
        }
        match self {
            Self::Json(text) => self.number().map(|_| Cow::Borrowed(text)),
            Self::Msgpack(_) => Some(Cow::Owned(match self.token()? {
                Token::Unsigned(number) => number.to_string(),
                Token::Negative(number) => number.to_string(),
                Token::Float(number) => number.to_string(),
                _ => return None,
            })),
        }
    }

    /// A list of rooms.
    pub(super) fn rooms(self, field: &'static str) -> Result<Vec<Arc<str>>, Malformed> {
        let expected = "names of rooms";
        self.elements(field, |room| {
            let room = room.room().ok_or(Malformed::Field { field, expected })?;
            Ok(room.into())
        })
    }

    /// Whether one of these rooms is wanted.
    fn any_room(self, field: &'static str, interest: &dyn Interest) -> Result<bool, Malformed> {
        let (mut any, mut none) = (false, true);
        self.each_element(field, &mut |room| {
            none = false;
            any = any || room.room().is_some_and(|room| interest.has_room(&room));
            Ok(())
        })?;
        Ok(any || none)
    }

    /// The event that an array is, name and arguments.
    pub(super) fn event(self, limits: &Limits) -> Result<Outgoing, Malformed> {
        Ok(match self {
            Self::Json(text) => Outgoing::from_json(text, limits)?,
            Self::Msgpack(bytes) => Outgoing::from_msgpack(bytes, limits)?,
        })
    }

    /// The one argument that it is.
    pub(super) fn argument(self, limits: &Limits) -> Result<OwnedArgs, Malformed> {
        Ok(match self {
            Self::Json(text) => OwnedArgs::from_json(text, limits)?,
            Self::Msgpack(bytes) => OwnedArgs::from_msgpack(bytes, limits)?,
        })
    }

    fn token(self) -> Option<Token<'a>> {
        match self {
            Self::Json(_) => None,
            Self::Msgpack(bytes) => Reader::new(bytes).value().ok(),
        }
    }
}

/// A field that may be missing or null.
pub(super) fn some(field: Option<Value<'_>>) -> Option<Value<'_>> {
    field.filter(|value| !value.is_nil())
}

/// A field that must be there.
pub(super) const fn need<'a>(
    value: Option<Value<'a>>,
    field: &'static str,
    expected: &'static str,
) -> Result<Value<'a>, Malformed> {
    match value {
        Some(value) => Ok(value),
        None => Err(Malformed::Field { field, expected }),
    }
}

/// The name of a server, a request or a socket.
pub(super) fn id(value: Value<'_>, field: &'static str) -> Result<Arc<str>, Malformed> {
    checked_id(value.text(), field)
}

/// [`id`] of a text.
pub(super) fn checked_id(
    text: Option<Cow<'_, str>>,
    field: &'static str,
) -> Result<Arc<str>, Malformed> {
    let id = text.filter(|id| id.len() <= MOST_ID);
    let expected = "a string of up to 128 bytes";
    id.map(Into::into)
        .ok_or(Malformed::Field { field, expected })
}

/// [`id`] of a field that may be missing.
pub(super) fn optional_id(
    value: Option<Value<'_>>,
    field: &'static str,
) -> Result<Option<Arc<str>>, Malformed> {
    some(value).map(|value| id(value, field)).transpose()
}

/// Who a message is for, as it stands in its options.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options<'a> {
    rooms: Option<Value<'a>>,
    except: Option<Value<'a>>,
    pub(super) flags: Option<Value<'a>>,
}

impl<'a> Options<'a> {
    /// The options in the field `opts`. An emitter of PyPI writes lists and flags as empty strings
    /// if there are none, and others as null, or leaves them out.
    pub(super) fn of(opts: Option<Value<'a>>) -> Result<Self, Malformed> {
        let opts = need(opts, "opts", "an object")?;
        let lists = opts.fields("opts", ["rooms", "except", "flags"])?;
        let [rooms, except, flags] =
            lists.map(|it| some(it).filter(|it| !it.text().is_some_and(|text| text.is_empty())));
        Ok(Self {
            rooms,
            except,
            flags,
        })
    }

    /// Whether it may have a receiver here: it has no rooms, or one of them is wanted.
    pub(super) fn wanted(&self, interest: &dyn Interest) -> Result<bool, Malformed> {
        self.rooms
            .map_or(Ok(true), |rooms| rooms.any_room("rooms", interest))
    }

    pub(super) fn target(&self) -> Result<Sockets, Malformed> {
        let list =
            |list: Option<Value<'_>>, field| list.map_or(Ok(Vec::new()), |list| list.rooms(field));
        Ok(Sockets {
            rooms: list(self.rooms, "rooms")?,
            except: list(self.except, "except")?,
        })
    }
}

/// Where the value that begins at `at` ends.
fn skip(text: &str, at: usize) -> Result<usize, Malformed> {
    json::value(text.as_bytes(), at, json::MOST_LEVELS).map_err(|fault| match fault {
        json::Fault::Syntax(offset) => Malformed::Json { offset },
        json::Fault::Depth | json::Fault::Values => Malformed::Value(DecodeError::TooDeep {
            limit: json::MOST_LEVELS,
        }),
    })
}

/// Gives the elements of an array, or the entries of an object, to `take`: the key with its quotes,
/// which is empty in an array, and the value. Returns `None` if the text begins with another
/// bracket.
fn each<'a>(
    text: &'a str,
    bracket: u8,
    take: &mut dyn FnMut(&'a str, &'a str) -> Result<(), Malformed>,
) -> Result<Option<()>, Malformed> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&bracket) {
        return Ok(None);
    }
    let syntax = |offset| Malformed::Json { offset };
    let mut at = json::whitespace(bytes, 1);
    if let Some(b'}' | b']') = bytes.get(at) {
        return Ok(Some(()));
    }
    loop {
        let mut key = "";
        if bracket == b'{' {
            let end = json::string(bytes, at).map_err(|_| syntax(at))?;
            key = text.get(at..end).ok_or(syntax(at))?;
            let colon = json::whitespace(bytes, end);
            at = json::whitespace(bytes, colon + 1);
        }
        let end = skip(text, at)?;
        take(key, text.get(at..end).ok_or(syntax(at))?)?;
        at = json::whitespace(bytes, end);
        match bytes.get(at) {
            Some(b',') => at = json::whitespace(bytes, at + 1),
            _ => return Ok(Some(())),
        }
    }
}

/// The bytes of the value that comes next.
fn next<'a>(reader: &mut Reader<'_>, bytes: &'a [u8]) -> Result<&'a [u8], Malformed> {
    let start = reader.at();
    reader.skip()?;
    Ok(bytes.get(start..reader.at()).unwrap_or_default())
}
