//! From a packet of JSON and attachments to MessagePack.
//!
//! The JSON is read once, from left to right and without recursion. How many values an array or a
//! map holds is known when it ends: up to 15 fit into the byte that has been left for it. For more,
//! bytes are put behind that at the very end, so that what has been written moves once, whatever
//! the nesting.

use super::kind;
use crate::socket::args::Args;
use crate::socket::error::EncodeError;
use crate::socket::packet::Packet;
use crate::socket::parser::RawPacket;
use crate::socket::placeholder::{self, Placeholder};
use crate::socket::{json, reserved};

/// Appends a packet as a binary message, by the rules of the [module](super).
///
/// It holds nothing that the stock parser refuses: no field without a value, for example. Only a
/// CONNECT_ERROR may carry any JSON, which clients of revision 5 are never sent. The query
/// of a CONNECT is left out, since only revision 4 has it. An empty namespace is `/`. There may be
/// any number of attachments.
///
/// # Errors
///
/// If the event's name is reserved, a payload isn't JSON of the kind that the packet carries, or an
/// object passes for a placeholder of an attachment that there is not. Nothing is appended then.
pub fn encode(packet: &Packet<'_>, message: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = message.len();
    let written = write(packet, message);
    if written.is_err() {
        message.truncate(start);
    }
    written
}

fn write(packet: &Packet<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match *packet {
        Packet::Connect {
            namespace, auth, ..
        } => {
            begin(out, kind::CONNECT, namespace, None, auth.is_some())?;
            if let Some(auth) = auth {
                let it = || invalid("CONNECT", "no payload, or an object");
                Transcoder::new(auth, out).payload(|first| first == b'{', it)?;
            }
            Ok(())
        }
        Packet::Disconnect { namespace } => begin(out, kind::DISCONNECT, namespace, None, false),
        Packet::Event {
            namespace,
            id,
            ref name,
            args,
        } => {
            if let Some(name) = reserved(name) {
                return Err(EncodeError::ReservedEvent(name));
            }
            begin(out, kind::EVENT, namespace, id, true)?;
            list(Some(name), args, out)
        }
        Packet::Ack {
            namespace,
            id,
            args,
        } => {
            begin(out, kind::ACK, namespace, Some(id), true)?;
            list(None, args, out)
        }
        Packet::ConnectError { namespace, data } => {
            begin(out, kind::CONNECT_ERROR, namespace, None, true)?;
            // Revision 3 carries whatever data the application gives.
            Transcoder::new(data, out).payload(|_| true, || invalid("CONNECT_ERROR", "JSON"))
        }
    }
}

/// Appends a packet of which nothing is to be checked but that its payload is JSON.
pub(super) fn raw(packet: &RawPacket<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let kind = packet.kind.number();
    begin(
        out,
        kind,
        &packet.namespace,
        packet.id,
        packet.data.is_some(),
    )?;
    let Some(data) = &packet.data else {
        return Ok(());
    };
    let transcoder = Transcoder {
        attachments: &packet.attachments,
        ..Transcoder::new(data, out)
    };
    transcoder.payload(|_| true, malformed)
}

const fn invalid(packet: &'static str, expected: &'static str) -> EncodeError {
    EncodeError::InvalidPayload { packet, expected }
}

/// Only what a caller has put into a packet can be no JSON: what was decoded or serialized is.
#[cold]
const fn malformed() -> EncodeError {
    invalid("the packet", "JSON")
}

/// Writes all fields but `data`, and its name if it is to follow.
fn begin(
    out: &mut Vec<u8>,
    kind: u8,
    namespace: &str,
    id: Option<u64>,
    data: bool,
) -> Result<(), EncodeError> {
    out.push(0x82 + u8::from(id.is_some()) + u8::from(data));
    out.extend_from_slice(b"\xa4type");
    out.push(kind);
    out.extend_from_slice(b"\xa3nsp");
    text(if namespace.is_empty() { "/" } else { namespace }, out)?;
    if let Some(id) = id {
        out.extend_from_slice(b"\xa2id");
        unsigned(id, out);
    }
    if data {
        out.extend_from_slice(b"\xa4data");
    }
    Ok(())
}

/// Writes the arguments as an array, the name of an event before them.
pub(crate) fn list(
    name: Option<&str>,
    args: Args<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let mut list = OpenList::new(false, out);
    if let Some(name) = name {
        list.count += 1;
        text(name, out)?;
    }
    let bytes = args.json().as_bytes();
    let mut transcoder = Transcoder {
        attachments: args.attachments(),
        ..Transcoder::new(args.json(), out)
    };
    let mut at = json::whitespace(bytes, 0);
    while at < bytes.len() {
        list.count += 1;
        at = json::whitespace(bytes, transcoder.value(at)?);
        at = match bytes.get(at) {
            Some(b',') => json::whitespace(bytes, at + 1),
            Some(_) => return Err(malformed()),
            None => break,
        };
    }
    transcoder.close(list)?;
    transcoder.finish();
    Ok(())
}

/// Writes the first of the arguments as a value. There must be one.
pub(crate) fn first(args: Args<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut transcoder = Transcoder {
        attachments: args.attachments(),
        ..Transcoder::new(args.json(), out)
    };
    transcoder.value(json::whitespace(args.json().as_bytes(), 0))?;
    transcoder.finish();
    Ok(())
}

/// An array or a map whose values are being written.
#[derive(Clone, Copy)]
struct OpenList {
    /// Where the byte stands that says how many there are.
    head: usize,
    count: usize,
    is_map: bool,
}

impl OpenList {
    fn new(is_map: bool, out: &mut Vec<u8>) -> Self {
        let head = out.len();
        out.push(0);
        Self {
            head,
            count: 0,
            is_map,
        }
    }
}

/// A count that does not fit into its byte, and belongs behind it.
#[derive(Clone, Copy)]
struct Count {
    after: usize,
    count: u32,
}

impl Count {
    const fn size(self) -> usize {
        if self.count <= u16::MAX as u32 { 2 } else { 4 }
    }
}

/// Puts counts in their places: what stands behind each moves, once for all of them.
fn insert(counts: &mut [Count], out: &mut Vec<u8>) {
    let mut end = out.len();
    let mut shift: usize = counts.iter().map(|count| count.size()).sum();
    out.resize(end + shift, 0);
    counts.sort_unstable_by_key(|count| count.after);
    for count in counts.iter().rev() {
        out.copy_within(count.after..end, count.after + shift);
        end = count.after;
        shift -= count.size();
        let bytes = count.count.to_be_bytes();
        let (_, bytes) = bytes.split_at(bytes.len() - count.size());
        out[end + shift..][..bytes.len()].copy_from_slice(bytes);
    }
}

/// Reads values of JSON and writes them.
struct Transcoder<'p> {
    json: &'p str,
    attachments: &'p [bytes::Bytes],
    out: &'p mut Vec<u8>,
    /// What the value that is being read stands in, the innermost last.
    open: Vec<OpenList>,
    /// Those that are for the end.
    counts: Vec<Count>,
}

impl<'p> Transcoder<'p> {
    const fn new(json: &'p str, out: &'p mut Vec<u8>) -> Self {
        Self {
            json,
            attachments: &[],
            out,
            open: Vec::new(),
            counts: Vec::new(),
        }
    }

    /// Writes the value that the text is, if its first byte is one that the packet carries.
    fn payload(
        mut self,
        carries: impl FnOnce(u8) -> bool,
        error: impl FnOnce() -> EncodeError,
    ) -> Result<(), EncodeError> {
        let bytes = self.json.as_bytes();
        let start = json::whitespace(bytes, 0);
        if !bytes.get(start).copied().is_some_and(carries) {
            return Err(error());
        }
        let end = self.value(start)?;
        if json::whitespace(bytes, end) < bytes.len() {
            return Err(malformed());
        }
        self.finish();
        Ok(())
    }

    /// Writes the value that begins at `at`. Returns where it ends.
    fn value(&mut self, mut at: usize) -> Result<usize, EncodeError> {
        let bytes = self.json.as_bytes();
        loop {
            at = match bytes.get(at) {
                Some(b'{') => match self.attachment(at)? {
                    Some(end) => end,
                    None => self.enter(true, at),
                },
                Some(b'[') => self.enter(false, at),
                Some(b'"') => self.string(at)?,
                _ => self.scalar(at)?,
            };
            // What stands before the next value: closing brackets, a comma, a key.
            loop {
                let Some(open) = self.open.last_mut() else {
                    return Ok(at);
                };
                at = json::whitespace(bytes, at);
                match (bytes.get(at), open.is_map) {
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        at += 1;
                        let open = *open;
                        self.open.pop();
                        self.close(open)?;
                    }
                    (Some(b','), is_map) if open.count > 0 => {
                        open.count += 1;
                        at = json::whitespace(bytes, at + 1);
                        if is_map {
                            at = self.key(at)?;
                        }
                        break;
                    }
                    (Some(_), is_map) if open.count == 0 => {
                        open.count += 1;
                        if is_map {
                            at = self.key(at)?;
                        }
                        break;
                    }
                    _ => return Err(malformed()),
                }
            }
        }
    }

    /// Begins an array or a map. Returns what follows its bracket.
    fn enter(&mut self, is_map: bool, at: usize) -> usize {
        self.open.push(OpenList::new(is_map, self.out));
        at + 1
    }

    /// Says how many values have been written, or keeps it for the end.
    fn close(&mut self, open: OpenList) -> Result<(), EncodeError> {
        let (few, many) = if open.is_map {
            (0x80, 0xde)
        } else {
            (0x90, 0xdc)
        };
        let head = match open.count {
            count @ ..=15 => few | count as u8,
            count => {
                let count = Count {
                    after: open.head + 1,
                    count: length(count)?,
                };
                self.counts.push(count);
                many + u8::from(count.size() > 2)
            }
        };
        if let Some(byte) = self.out.get_mut(open.head) {
            *byte = head;
        }
        Ok(())
    }

    /// Writes what was kept for the end.
    fn finish(mut self) {
        if !self.counts.is_empty() {
            insert(&mut self.counts, self.out);
        }
    }

    /// Writes the attachment whose placeholder begins at `at`, and returns where that ends. `None`
    /// if it is an ordinary object.
    fn attachment(&mut self, at: usize) -> Result<Option<usize>, EncodeError> {
        if self.attachments.is_empty() {
            return Ok(None);
        }
        match placeholder::at(self.json, at, self.attachments.len()) {
            Placeholder::Not => Ok(None),
            Placeholder::Attachment { num, end } => {
                let bytes = self.attachments.get(num);
                binary(bytes.ok_or(EncodeError::IllegalPlaceholder)?, self.out)?;
                Ok(Some(end))
            }
            Placeholder::Illegal => Err(EncodeError::IllegalPlaceholder),
        }
    }

    /// Writes a key. Returns where its value begins.
    fn key(&mut self, at: usize) -> Result<usize, EncodeError> {
        let bytes = self.json.as_bytes();
        if bytes.get(at) != Some(&b'"') {
            return Err(malformed());
        }
        let colon = json::whitespace(bytes, self.string(at)?);
        match bytes.get(colon) {
            Some(b':') => Ok(json::whitespace(bytes, colon + 1)),
            _ => Err(malformed()),
        }
    }

    fn string(&mut self, at: usize) -> Result<usize, EncodeError> {
        let end = json::string(self.json.as_bytes(), at).map_err(|_| malformed())?;
        let token = self.json.get(at..end).ok_or_else(malformed)?;
        text(&json::unescape(token).ok_or_else(malformed)?, self.out)?;
        Ok(end)
    }

    fn scalar(&mut self, at: usize) -> Result<usize, EncodeError> {
        let end = json::scalar(self.json.as_bytes(), at).map_err(|_| malformed())?;
        match self.json.get(at..end).unwrap_or_default() {
            "null" => self.out.push(0xc0),
            "false" => self.out.push(0xc2),
            "true" => self.out.push(0xc3),
            token => number(token, self.out)?,
        }
        Ok(end)
    }
}

fn number(token: &str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    // "-0" is a number with a floating point, to JavaScript and to `serde_json`.
    if let Ok(value) = token.parse() {
        unsigned(value, out);
    } else if let Ok(value @ ..0) = token.parse() {
        negative(value, out);
    } else {
        let value: f64 = token.parse().map_err(|_| malformed())?;
        out.push(0xcb);
        out.extend_from_slice(&value.to_be_bytes());
    }
    Ok(())
}

pub(crate) fn unsigned(value: u64, out: &mut Vec<u8>) {
    if let Ok(value @ ..0x80) = u8::try_from(value) {
        out.push(value);
    } else if let Ok(value) = u8::try_from(value) {
        tagged(0xcc, value.to_be_bytes(), out);
    } else if let Ok(value) = u16::try_from(value) {
        tagged(0xcd, value.to_be_bytes(), out);
    } else if let Ok(value) = u32::try_from(value) {
        tagged(0xce, value.to_be_bytes(), out);
    } else {
        tagged(0xcf, value.to_be_bytes(), out);
    }
}

fn negative(value: i64, out: &mut Vec<u8>) {
    if let Ok(value @ -0x20..) = i8::try_from(value) {
        out.extend_from_slice(&value.to_be_bytes());
    } else if let Ok(value) = i8::try_from(value) {
        tagged(0xd0, value.to_be_bytes(), out);
    } else if let Ok(value) = i16::try_from(value) {
        tagged(0xd1, value.to_be_bytes(), out);
    } else if let Ok(value) = i32::try_from(value) {
        tagged(0xd2, value.to_be_bytes(), out);
    } else {
        tagged(0xd3, value.to_be_bytes(), out);
    }
}

pub(crate) fn text(text: &str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match text.len() {
        short @ ..0x20 => out.push(0xa0 | short as u8),
        long => sized(0xd9, long, out)?,
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn binary(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    sized(0xc4, bytes.len(), out)?;
    out.extend_from_slice(bytes);
    Ok(())
}

/// Writes a length, with the first type of the family that has room for it.
fn sized(first: u8, count: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if let Ok(count) = u8::try_from(count) {
        tagged(first, count.to_be_bytes(), out);
    } else if let Ok(count) = u16::try_from(count) {
        tagged(first + 1, count.to_be_bytes(), out);
    } else {
        tagged(first + 2, length(count)?.to_be_bytes(), out);
    }
    Ok(())
}

fn tagged<const N: usize>(tag: u8, bytes: [u8; N], out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&bytes);
}

fn length(length: usize) -> Result<u32, EncodeError> {
    u32::try_from(length).map_err(|_| invalid("the packet", "texts, lists and data below 4 GiB"))
}
