//! From MessagePack to a packet of JSON and attachments.
//!
//! The fields of a packet come in any order, so each is transcoded where it stands, and what the
//! type demands of them is checked in the end. Arrays and maps are entered by recursion, never
//! deeper than [`Limits::depth`]; fields that nobody asks for are skipped without.

use std::borrow::Cow;
use std::mem;

use bytes::Bytes;

use crate::BinaryMessage;

use super::reader::{Reader, Value, invalid};
use super::{kind, time};
use crate::socket::error::DecodeError;
use crate::socket::json::{self, List, Span};
use crate::socket::packet::{self, Body, Layout, Packet};
use crate::socket::{Assembled, Limits, OwnedArgs, placeholder};

/// Room for so many bytes of JSON is made at once. A long message may be an attachment, for the most
/// part.
const SHORT: usize = 1_024;

/// Memory that packets are [decoded](decode) into. Kept, it is used again for the next one.
///
/// What it holds is the last packet: JSON, and copies of the attachments.
#[derive(Debug, Default)]
pub struct Buffer {
    text: String,
    attachments: Vec<Bytes>,
}

/// Reads a binary message as a packet, by the rules of the [module](super).
///
/// The packet borrows from the buffer, not from the message: its parts and the arguments, which are
/// JSON, have been written there. Attachments have memory of their own.
///
/// # Errors
///
/// If the message is not MessagePack from its beginning to its end, not a packet, or beyond a
/// limit. As for texts, the connection is to be closed then.
pub fn decode<'b>(
    message: &[u8],
    limits: &Limits,
    buffer: &'b mut Buffer,
) -> Result<Packet<'b>, DecodeError> {
    let mut layout = parse(message, &Bytes::new(), limits, buffer)?;
    let unescaped = layout.unescaped.take().map(Cow::Owned);
    Ok(layout.packet(&buffer.text, &buffer.attachments, unescaped))
}

impl OwnedArgs {
    /// One argument, from MessagePack with binary values where they belong.
    pub(crate) fn from_msgpack(value: &[u8], limits: &Limits) -> Result<Self, DecodeError> {
        let value = self::value(value, limits)?;
        Ok(Self::written(&value.text, value.attachments))
    }
}

/// As [`decode`], into memory of the packet's own. An attachment that is most of the message shares
/// its bytes.
pub(super) fn assemble(message: &Bytes, limits: &Limits) -> Result<Assembled, DecodeError> {
    let mut buffer = Buffer::default();
    let layout = parse(message, message, limits, &mut buffer)?;
    Ok(Assembled::new(buffer.text, layout, buffer.attachments))
}

/// What was transcoded without a packet around it: JSON, and the attachments that it names.
pub(crate) struct Transcoded {
    pub(crate) text: String,
    pub(crate) attachments: Vec<Bytes>,
}

/// Transcodes one array, which the message begins with: its values with commas between them, and
/// where they stand.
pub(crate) fn list(message: &[u8], limits: &Limits) -> Result<(Transcoded, List), DecodeError> {
    transcode(message, limits, |transcoder, depth| {
        match transcoder.reader.value()? {
            Value::Array(count) => transcoder.list(count, depth),
            _ => Err(invalid(0, "no array, where a list of arguments belongs")),
        }
    })
}

/// Transcodes one value, which the message begins with.
pub(crate) fn value(message: &[u8], limits: &Limits) -> Result<Transcoded, DecodeError> {
    let (value, ()) = transcode(message, limits, |transcoder, depth| transcoder.value(depth))?;
    Ok(value)
}

fn transcode<T>(
    message: &[u8],
    limits: &Limits,
    run: impl FnOnce(&mut Transcoder<'_, '_>, usize) -> Result<T, DecodeError>,
) -> Result<(Transcoded, T), DecodeError> {
    let mut attachments = Vec::new();
    let unshared = Bytes::new();
    let mut transcoder = Transcoder {
        reader: Reader::new(message),
        shared: &unshared,
        limits,
        text: Vec::with_capacity(message.len().min(SHORT)),
        attachments: &mut attachments,
        values: 0,
    };
    let depth = transcoder.depth();
    let ran = run(&mut transcoder, depth)?;
    // Can't fail: it has been written as text.
    let text = String::from_utf8(transcoder.text).map_err(|_| invalid(0, "no text"))?;
    if !attachments.is_empty() {
        // All placeholders of ours are there: any other is one too many.
        placeholder::check(&text, attachments.len())?;
    }
    Ok((Transcoded { text, attachments }, ran))
}

/// Transcodes the message into the buffer, and says where the parts of the packet stand.
/// `shared` is the message, if attachments may share its bytes.
fn parse(
    message: &[u8],
    shared: &Bytes,
    limits: &Limits,
    buffer: &mut Buffer,
) -> Result<Layout, DecodeError> {
    if message.is_empty() {
        return Err(DecodeError::Empty);
    }
    let mut text = mem::take(&mut buffer.text).into_bytes();
    text.clear();
    // The JSON of a short message is mostly as long as it is.
    text.reserve(message.len().min(SHORT));
    buffer.attachments.clear();
    let mut transcoder = Transcoder {
        reader: Reader::new(message),
        shared,
        limits,
        text,
        attachments: &mut buffer.attachments,
        values: 0,
    };
    let fields = transcoder.fields()?;
    // Can't fail: it has been written as text.
    buffer.text = String::from_utf8(transcoder.text).map_err(|_| invalid(0, "no text"))?;
    fields.layout(&buffer.text, buffer.attachments.len(), limits)
}

/// The fields of a packet. What is written as text is a part of that.
#[derive(Default)]
struct Fields {
    kind: Option<u8>,
    namespace: Option<Span>,
    id: Option<Option<u64>>,
    data: Option<Data>,
}

/// The field `data`.
#[derive(Clone, Copy)]
enum Data {
    Absent,
    Array(List),
    Object(Span),
    Text(Span),
    /// What no packet carries.
    Other,
}

impl Fields {
    /// Checks what the type demands.
    fn layout(
        self,
        text: &str,
        attachments: usize,
        limits: &Limits,
    ) -> Result<Layout, DecodeError> {
        let Some(kind) = self.kind else {
            return Err(field("type"));
        };
        let Some(namespace) = self.namespace else {
            return Err(field("nsp"));
        };
        let id = self.id.flatten();
        let data = self.data.unwrap_or(Data::Absent);
        let mut unescaped = None;
        let body = match kind {
            kind::CONNECT => Body::Connect {
                query: None,
                auth: match data {
                    Data::Absent => None,
                    Data::Object(auth) => Some(auth),
                    _ => return Err(payload("CONNECT", "no payload, or an object")),
                },
            },
            kind::DISCONNECT => match data {
                Data::Absent => Body::Disconnect,
                _ => return Err(payload("DISCONNECT", "no payload")),
            },
            kind::EVENT => {
                let Data::Array(list) = data else {
                    return Err(payload("EVENT", "an array"));
                };
                let first = list.first.ok_or(DecodeError::MissingEventName)?;
                let (name, escaped) = packet::event_name(text, first, limits)?;
                unescaped = escaped;
                Body::Event {
                    id,
                    name,
                    args: list.rest,
                }
            }
            kind::ACK => {
                let Data::Array(list) = data else {
                    return Err(payload("ACK", "an array"));
                };
                Body::Ack {
                    id: id.ok_or(DecodeError::MissingAckId)?,
                    args: list.all,
                }
            }
            _ => match data {
                Data::Object(data) | Data::Text(data) => Body::ConnectError { data },
                _ => return Err(payload("CONNECT_ERROR", "an object or a string")),
            },
        };
        if attachments > 0 {
            match body {
                // All placeholders of ours are there: any other is one too many.
                Body::Event { args, .. } | Body::Ack { args, .. } => {
                    placeholder::check(args.of(text), attachments)?;
                }
                Body::Connect { .. } => return Err(payload("CONNECT", "no binary values")),
                _ => return Err(payload("CONNECT_ERROR", "no binary values")),
            }
        }
        Ok(Layout {
            namespace: Some(namespace),
            body,
            attachments,
            unescaped,
        })
    }
}

const fn payload(packet: &'static str, expected: &'static str) -> DecodeError {
    DecodeError::InvalidPayload { packet, expected }
}

/// The field is missing, or holds something else.
const fn field(field: &'static str) -> DecodeError {
    let expected = match field.as_bytes() {
        b"type" => "an integer from 0 to 4",
        b"nsp" => "a string that begins with / and holds no comma",
        _ => "an integer that is not negative",
    };
    DecodeError::InvalidField { field, expected }
}

/// Writes what it reads as JSON.
struct Transcoder<'m, 'l> {
    reader: Reader<'m>,
    /// The message, if attachments may share its bytes; empty if not.
    shared: &'l Bytes,
    limits: &'l Limits,
    text: Vec<u8>,
    attachments: &'l mut Vec<Bytes>,
    /// Values that have been written.
    values: usize,
}

impl Transcoder<'_, '_> {
    /// Reads the packet, from the beginning of the message to its end.
    fn fields(&mut self) -> Result<Fields, DecodeError> {
        let Value::Map(count) = self.reader.value()? else {
            return Err(invalid(0, "a packet is a map"));
        };
        let mut fields = Fields::default();
        for _ in 0..count {
            let at = self.reader.at();
            let Value::Text(key) = self.reader.value()? else {
                return Err(invalid(at, "the name of a field is a string"));
            };
            let is_first = match key {
                b"type" => fields.kind.replace(self.kind()?).is_none(),
                b"nsp" => fields.namespace.replace(self.namespace()?).is_none(),
                b"id" => fields.id.replace(self.id()?).is_none(),
                b"data" => fields.data.replace(self.data()?).is_none(),
                _ => self.reader.skip().map(|()| true)?,
            };
            if !is_first {
                return Err(invalid(at, "a field that comes twice"));
            }
        }
        match self.reader.is_at_end() {
            true => Ok(fields),
            false => Err(invalid(self.reader.at(), "bytes after the packet")),
        }
    }

    fn kind(&mut self) -> Result<u8, DecodeError> {
        match self.reader.value()? {
            Value::Unsigned(kind) if kind <= u64::from(kind::CONNECT_ERROR) => Ok(kind as u8),
            _ => Err(field("type")),
        }
    }

    fn namespace(&mut self) -> Result<Span, DecodeError> {
        let Value::Text(namespace) = self.reader.value()? else {
            return Err(field("nsp"));
        };
        let limit = self.limits.namespace;
        if namespace.len() > limit {
            return Err(DecodeError::NamespaceTooLong { limit });
        }
        // As in the text of the standard parser, which could not say it otherwise.
        if !namespace.starts_with(b"/") || namespace.contains(&b',') {
            return Err(field("nsp"));
        }
        let start = self.text.len();
        let namespace = lossy(namespace);
        self.text.extend_from_slice(namespace.as_bytes());
        Ok(self.since(start))
    }

    fn id(&mut self) -> Result<Option<u64>, DecodeError> {
        let id = match self.reader.value()? {
            Value::Nil | Value::Undefined => return Ok(None),
            Value::Unsigned(id) => id,
            _ => return Err(field("id")),
        };
        let limit = usize::from(self.limits.ack_digits);
        if id.checked_ilog10().unwrap_or(0) as usize >= limit {
            return Err(DecodeError::AckIdTooLong { limit });
        }
        Ok(Some(id))
    }

    fn data(&mut self) -> Result<Data, DecodeError> {
        let start = self.text.len();
        let depth = self.depth();
        Ok(match self.reader.value()? {
            Value::Nil | Value::Undefined => Data::Absent,
            Value::Array(count) => Data::Array(self.list(count, depth)?),
            value @ Value::Map(_) => {
                self.write(value, depth)?;
                Data::Object(self.since(start))
            }
            value @ Value::Text(_) => {
                self.write(value, depth)?;
                Data::Text(self.since(start))
            }
            _ => Data::Other,
        })
    }

    /// Writes so many values with commas between them, and says where they stand. The list is no
    /// value of its own.
    fn list(&mut self, count: u32, depth: usize) -> Result<List, DecodeError> {
        let inner = self.inner(depth)?;
        let start = self.text.len();
        let mut list = List {
            first: None,
            rest: Span { start, end: start },
            all: Span { start, end: start },
        };
        for index in 0..count {
            if index > 0 {
                self.text.push(b',');
            }
            let start = self.text.len();
            self.value(inner)?;
            let element = self.since(start);
            match index {
                0 => {
                    list.first = Some(element);
                    list.rest.start = element.end;
                }
                1 => list.rest.start = element.start,
                _ => {}
            }
            list.rest.end = element.end;
            list.all.end = element.end;
        }
        Ok(list)
    }

    const fn since(&self, start: usize) -> Span {
        Span {
            start,
            end: self.text.len(),
        }
    }

    /// Levels that a whole payload may have.
    fn depth(&self) -> usize {
        usize::from(self.limits.depth).min(json::MOST_LEVELS)
    }

    /// How many levels there may be inside of an array or a map, where this many may begin.
    const fn inner(&self, levels: usize) -> Result<usize, DecodeError> {
        match levels.checked_sub(1) {
            Some(inner) => Ok(inner),
            None => Err(DecodeError::TooDeep {
                limit: self.limits.depth as usize,
            }),
        }
    }

    /// Writes the value that comes next.
    fn value(&mut self, levels: usize) -> Result<(), DecodeError> {
        let value = self.reader.value()?;
        self.write(value, levels)
    }

    fn write(&mut self, value: Value<'_>, levels: usize) -> Result<(), DecodeError> {
        self.values += 1;
        if self.values > self.limits.values {
            return Err(DecodeError::TooManyValues {
                limit: self.limits.values,
            });
        }
        match value {
            Value::Nil | Value::Undefined => self.text.extend_from_slice(b"null"),
            Value::Bool(value) => self.text.extend_from_slice(boolean(value)),
            Value::Unsigned(value) => self.number(value),
            Value::Negative(value) => self.number(value),
            Value::Float(value) => self.number(value),
            Value::Text(text) => self.string(text),
            Value::Binary(bytes) => self.attachment(bytes)?,
            Value::Time(millis) => time::write(millis, &mut self.text),
            Value::Array(count) => {
                self.text.push(b'[');
                self.list(count, levels)?;
                self.text.push(b']');
            }
            Value::Map(count) => self.object(count, levels)?,
        }
        Ok(())
    }

    fn object(&mut self, count: u32, levels: usize) -> Result<(), DecodeError> {
        let inner = self.inner(levels)?;
        self.text.push(b'{');
        let first = self.text.len();
        for _ in 0..count {
            let entry = self.text.len();
            if entry > first {
                self.text.push(b',');
            }
            self.key()?;
            self.text.push(b':');
            match self.reader.value()? {
                // `JSON.stringify` leaves it out, so that it means the same with both parsers.
                Value::Undefined => self.text.truncate(entry),
                value => self.write(value, inner)?,
            }
        }
        self.text.push(b'}');
        Ok(())
    }

    fn key(&mut self) -> Result<(), DecodeError> {
        let at = self.reader.at();
        let key = self.reader.value()?;
        if let Value::Text(text) = key {
            self.string(text);
            return Ok(());
        }
        self.text.push(b'"');
        match key {
            Value::Bool(value) => self.text.extend_from_slice(boolean(value)),
            Value::Unsigned(value) => self.number(value),
            Value::Negative(value) => self.number(value),
            _ => return Err(invalid(at, "a key that is no string, integer or boolean")),
        }
        self.text.push(b'"');
        Ok(())
    }

    /// Writes a number as `serde_json` does, which has `null` for what is none.
    fn number<N: serde::Serialize>(&mut self, number: N) {
        // A vector takes whatever is written to it.
        let _ = serde_json::to_writer(&mut self.text, &number);
    }

    fn string(&mut self, text: &[u8]) {
        let text = lossy(text);
        if json::is_plain(&text) {
            self.text.push(b'"');
            self.text.extend_from_slice(text.as_bytes());
            self.text.push(b'"');
        } else {
            // A string has no way to fail, nor has the vector.
            let _ = serde_json::to_writer(&mut self.text, &*text);
        }
    }

    fn attachment(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let num = self.attachments.len();
        let limit = self.limits.attachments;
        if num >= limit {
            return Err(DecodeError::TooManyAttachments { limit });
        }
        let bytes = BinaryMessage::Lent(bytes).shared(self.shared);
        self.attachments.push(bytes.into());
        // A vector takes whatever is written to it.
        let _ = placeholder::write(num, &mut self.text);
        Ok(())
    }
}

/// The text, with U+FFFD for what is no UTF-8. Nearly all texts are, which is quickly proven.
fn lossy(text: &[u8]) -> Cow<'_, str> {
    match simdutf8::basic::from_utf8(text) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(text),
    }
}

const fn boolean(value: bool) -> &'static [u8] {
    if value { b"true" } else { b"false" }
}
