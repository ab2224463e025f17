//! Packets for the wire: `<type>[<attachments>-][<namespace>,][<ack id>][<JSON>]`, and the binary
//! messages that follow.
//!
//! A namespace begins with `/` and holds no comma, which is for the caller to see to. The empty
//! one is `/`.

use std::io::Write as _;
use std::str;

use serde::Serialize;

use super::args::{Args, Opening, Output, OwnedArgs};
use super::error::EncodeError;
use super::{MAX_ATTACHMENTS, Outgoing, placeholder, reserved};
use crate::engine::{EncodedMessage, EncodedPacket, PacketType, PacketWriter, Revision};

const CONNECT: u8 = b'0';
const DISCONNECT: u8 = b'1';
const EVENT: u8 = b'2';
const ACK: u8 = b'3';
const CONNECT_ERROR: u8 = b'4';

/// From the type of a plain packet to that of the packet with attachments.
const TO_BINARY: u8 = b'5' - EVENT;

/// An event with its arguments, by the rules of the [module](super#arguments-and-types).
///
/// With an `id` the receiver is asked for an ack.
///
/// # Errors
///
/// If the name is reserved, the arguments can't be written as JSON, or hold more than
/// [`MAX_ATTACHMENTS`] binary values.
pub fn event<T: Serialize + ?Sized>(
    namespace: &str,
    id: Option<u64>,
    name: &str,
    args: &T,
) -> Result<EncodedMessage, EncodeError> {
    let mut draft = Draft::default();
    draft.event(namespace, id, name, args)?;
    Ok(draft.finish())
}

/// An event with arguments as they came from a peer: nothing is parsed.
///
/// # Errors
///
/// If the name is reserved, or the arguments have more than [`MAX_ATTACHMENTS`] attachments.
pub fn event_from(
    namespace: &str,
    id: Option<u64>,
    name: &str,
    args: Args<'_>,
) -> Result<EncodedMessage, EncodeError> {
    let mut draft = Draft::default();
    draft.event_from(namespace, id, name, args)?;
    Ok(draft.finish())
}

/// An ack whose arguments are the reply, by the rules of the [module](super#arguments-and-types).
///
/// If the reply is a [`Result`], `Ok(value)` gives the arguments of the value, and `Err(error)`
/// gives one argument, `{"error": error}`.
///
/// # Errors
///
/// If the reply can't be written as JSON, or holds more than [`MAX_ATTACHMENTS`] binary values.
pub fn ack<T: Serialize + ?Sized>(
    namespace: &str,
    id: u64,
    reply: &T,
) -> Result<EncodedMessage, EncodeError> {
    let mut draft = Draft::default();
    draft.ack(namespace, id, reply)?;
    Ok(draft.finish())
}

/// An ack with arguments as they came from a peer: nothing is parsed.
///
/// # Errors
///
/// If the arguments have more than [`MAX_ATTACHMENTS`] attachments.
pub fn ack_from(namespace: &str, id: u64, args: Args<'_>) -> Result<EncodedMessage, EncodeError> {
    let mut draft = Draft::default();
    draft.ack_from(namespace, id, args)?;
    Ok(draft.finish())
}

/// An ack with one argument, `{"error": error}`.
///
/// # Errors
///
/// If the error can't be written as JSON, or holds more than [`MAX_ATTACHMENTS`] binary values.
pub fn ack_error<T: Serialize + ?Sized>(
    namespace: &str,
    id: u64,
    error: &T,
) -> Result<EncodedMessage, EncodeError> {
    ack(namespace, id, &Err::<(), _>(error))
}

/// A server's answer that the namespace has been joined: with the socket's id in revision 5,
/// without a payload in revision 4. It also is a client's CONNECT without credentials.
#[must_use]
pub fn connect(namespace: &str, sid: Option<&str>) -> EncodedMessage {
    let mut draft = Draft::begun(CONNECT, namespace, sid.map_or(0, |sid| sid.len() + 10));
    if let Some(sid) = sid {
        draft.push(r#"{"sid":"#);
        draft.push_string(sid);
        draft.push("}");
    }
    draft.finish()
}

/// A CONNECT with a payload, which must be written as a JSON object: a client's credentials, or a
/// server's answer with more than the socket's id.
///
/// # Errors
///
/// If the payload can't be written as JSON.
pub fn connect_with<T: Serialize + ?Sized>(
    namespace: &str,
    auth: &T,
) -> Result<EncodedMessage, EncodeError> {
    let mut draft = Draft::begun(CONNECT, namespace, 64);
    serde_json::to_writer(draft.writer.buffer(), auth)?;
    Ok(draft.finish())
}

/// A DISCONNECT: the namespace is left.
#[must_use]
pub fn disconnect(namespace: &str) -> EncodedMessage {
    Draft::begun(DISCONNECT, namespace, 0).finish()
}

/// The namespace can't be joined, for a reason that the application gives.
///
/// Revision 5 carries `{"message":...,"data":...}`, without `data` if there is none. Revision 4
/// carries the data alone if there is any, and the message as a string otherwise.
///
/// # Errors
///
/// If the data can't be written as JSON.
pub fn connect_error<T: Serialize + ?Sized>(
    namespace: &str,
    revision: Revision,
    message: &str,
    data: Option<&T>,
) -> Result<EncodedMessage, EncodeError> {
    let mut draft = Draft::begun(CONNECT_ERROR, namespace, message.len() + 64);
    match (revision.dialect().has_error_objects, data) {
        (false, None) => draft.push_string(message),
        (false, Some(data)) => serde_json::to_writer(draft.writer.buffer(), data)?,
        (true, data) => {
            draft.push(r#"{"message":"#);
            draft.push_string(message);
            if let Some(data) = data {
                draft.push(r#","data":"#);
                serde_json::to_writer(draft.writer.buffer(), data)?;
            }
            draft.push("}");
        }
    }
    Ok(draft.finish())
}

/// There is no such namespace: `{"message":"Invalid namespace"}`, the same in both revisions.
#[must_use]
pub fn invalid_namespace(namespace: &str) -> EncodedMessage {
    let mut draft = Draft::begun(CONNECT_ERROR, namespace, 32);
    draft.push(r#"{"message":"Invalid namespace"}"#);
    draft.finish()
}

/// A message in the making. It stands in the thread's buffer, from where what goes to one session
/// alone can be [copied](Self::frame); [`finish`](Self::finish) gives it memory of its own.
///
/// Each method that writes a message begins anew. After an error nothing is left of it, and an
/// empty draft gives an empty packet, which means nothing to a peer.
///
/// The default takes [`MAX_ATTACHMENTS`] binary values.
#[derive(Debug)]
pub struct Draft {
    /// The message is written as one without attachments, and made a binary one at the end if any
    /// turned up, which is rare.
    writer: PacketWriter,
    /// Where the type stands in the buffer.
    kind: usize,
    /// Where the list of arguments begins in it; how long that is when all is written.
    list: usize,
    /// How long the name is that the list begins with.
    name: usize,
    attachments: Vec<EncodedPacket>,
    max_attachments: usize,
    /// How much of the list is an offset that the log has given it.
    offset: usize,
}

impl Default for Draft {
    #[inline]
    fn default() -> Self {
        Self::new(MAX_ATTACHMENTS)
    }
}

impl Draft {
    /// An empty draft of a message with so many binary values at the most: for receivers that take
    /// other numbers of attachments than stock clients.
    #[inline]
    #[must_use]
    pub fn new(max_attachments: usize) -> Self {
        Self {
            writer: PacketWriter::default(),
            kind: 0,
            list: 0,
            name: 0,
            attachments: Vec::new(),
            max_attachments,
            offset: 0,
        }
    }

    /// Writes an [`event`].
    ///
    /// # Errors
    ///
    /// Those of [`event`], with the bound of this draft.
    pub fn event<T: Serialize + ?Sized>(
        &mut self,
        namespace: &str,
        id: Option<u64>,
        name: &str,
        args: &T,
    ) -> Result<(), EncodeError> {
        self.write(|draft| {
            draft.begin_event(namespace, id, name, 64)?;
            draft.args(|output| output.args(args), Opening::Comma)
        })
    }

    /// Writes an [event with arguments as they came](event_from).
    ///
    /// # Errors
    ///
    /// Those of [`event_from`], with the bound of this draft.
    pub fn event_from(
        &mut self,
        namespace: &str,
        id: Option<u64>,
        name: &str,
        args: Args<'_>,
    ) -> Result<(), EncodeError> {
        self.write(|draft| {
            draft.begin_event(namespace, id, name, args.json().len() + 1)?;
            if !args.json().is_empty() {
                draft.push(",");
            }
            draft.raw_args(args);
            Ok(())
        })
    }

    /// Writes an [`ack`].
    ///
    /// # Errors
    ///
    /// Those of [`ack`], with the bound of this draft.
    pub fn ack<T: Serialize + ?Sized>(
        &mut self,
        namespace: &str,
        id: u64,
        reply: &T,
    ) -> Result<(), EncodeError> {
        self.write(|draft| {
            draft.begin_list(ACK, namespace, Some(id), 64);
            draft.args(|output| output.reply(reply), Opening::Bracket)
        })
    }

    /// Writes an [ack with arguments as they came](ack_from).
    ///
    /// # Errors
    ///
    /// Those of [`ack_from`], with the bound of this draft.
    pub fn ack_from(
        &mut self,
        namespace: &str,
        id: u64,
        args: Args<'_>,
    ) -> Result<(), EncodeError> {
        self.write(|draft| {
            draft.begin_list(ACK, namespace, Some(id), args.json().len());
            draft.raw_args(args);
            Ok(())
        })
    }

    /// Writes an event that was written before.
    ///
    /// # Errors
    /// If it has more attachments than this draft takes.
    pub fn outgoing(
        &mut self,
        namespace: &str,
        id: Option<u64>,
        event: &Outgoing,
    ) -> Result<(), EncodeError> {
        self.write(|draft| {
            let list = event.list();
            draft.begin_list(EVENT, namespace, id, list.len());
            draft.push(list);
            draft.attachments.extend_from_slice(event.packets());
            Ok(())
        })
    }

    /// Writes an event that was written before, with an offset behind its arguments: the place in a
    /// log up to which a client that gets it has had everything (docs/protocol.md 23). Clients of a
    /// revision that doesn't know of it get the event without.
    ///
    /// # Errors
    /// If it has more attachments than this draft takes.
    pub fn logged(
        &mut self,
        namespace: &str,
        event: &Outgoing,
        offset: &str,
    ) -> Result<(), EncodeError> {
        self.write(|draft| {
            let list = event.list();
            draft.begin_list(EVENT, namespace, None, list.len() + offset.len() + 3);
            draft.push(list);
            let before = draft.writer.buffer().len();
            draft.push(",");
            draft.push_string(offset);
            draft.offset = draft.writer.buffer().len() - before;
            draft.attachments.extend_from_slice(event.packets());
            Ok(())
        })
    }

    /// Bytes of the offset at the end of the list.
    pub(super) const fn offset(&self) -> usize {
        self.offset
    }

    /// The WebSocket frame of the message. Returns `None` if it has attachments, or is larger than
    /// the buffer that the thread keeps, of 4 KiB.
    pub fn frame(&mut self) -> Option<&[u8]> {
        match self.attachments.is_empty() {
            true => self.writer.frame(),
            false => None,
        }
    }

    /// Gives the message memory of its own. The draft is empty then.
    ///
    /// It is passed by reference, since moving it costs more than writing a small message.
    #[must_use]
    pub fn finish(&mut self) -> EncodedMessage {
        let attachments = std::mem::take(&mut self.attachments);
        EncodedMessage::new(self.writer.finish(), attachments)
    }

    /// Takes the arguments of the ack that has been written: for one that isn't a client's. The
    /// draft is empty then.
    #[must_use]
    pub fn finish_args(&mut self) -> OwnedArgs {
        let args = self.finish_event();
        // An ack has no name in front of its arguments.
        let attachments = args.attachments().collect();
        OwnedArgs::written(args.list(), attachments)
    }

    /// Takes the event that has been written, as what it was before it was a packet: for outgoing
    /// listeners and other servers. The draft is empty then. An ack or an empty draft gives one
    /// without a name.
    #[must_use]
    pub fn finish_event(&mut self) -> Outgoing {
        let attachments = std::mem::take(&mut self.attachments);
        let packet = self.writer.finish();
        let payload = packet.payload();
        let end = payload.len().saturating_sub(1);
        let list = payload.get(end.saturating_sub(self.list)..end);
        let list = list.unwrap_or_default();
        Outgoing::new(packet.frame().slice_ref(list), self.name, attachments)
    }

    /// Writes a message with arguments, all of it or nothing.
    fn write(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let written = write(self).and_then(|()| self.end());
        if written.is_err() {
            self.writer.clear();
            self.attachments.clear();
        }
        written
    }

    fn begun(kind: u8, namespace: &str, capacity: usize) -> Self {
        let mut draft = Self::default();
        draft.begin(kind, namespace, capacity);
        draft
    }

    /// Begins a message; `capacity` is the expected length of its payload in bytes.
    fn begin(&mut self, kind: u8, namespace: &str, capacity: usize) {
        self.attachments.clear();
        self.offset = 0;
        let capacity = 2 + namespace.len() + capacity;
        self.writer.begin_text(PacketType::Message, capacity);
        let buffer = self.writer.buffer();
        self.kind = buffer.len();
        buffer.push(kind);
        if !matches!(namespace, "" | "/") {
            buffer.extend_from_slice(namespace.as_bytes());
            buffer.push(b',');
        }
    }

    fn begin_event(
        &mut self,
        namespace: &str,
        id: Option<u64>,
        name: &str,
        capacity: usize,
    ) -> Result<(), EncodeError> {
        if let Some(name) = reserved(name) {
            return Err(EncodeError::ReservedEvent(name));
        }
        self.begin_list(EVENT, namespace, id, capacity + name.len());
        self.push_string(name);
        self.name = self.writer.buffer().len() - self.list;
        Ok(())
    }

    /// Begins a message whose payload is a list.
    fn begin_list(&mut self, kind: u8, namespace: &str, id: Option<u64>, capacity: usize) {
        self.begin(kind, namespace, capacity + 24);
        if let Some(id) = id {
            self.push_id(id);
        }
        self.push("[");
        self.list = self.writer.buffer().len();
        self.name = 0;
    }

    fn push(&mut self, text: &str) {
        self.writer.buffer().extend_from_slice(text.as_bytes());
    }

    fn push_id(&mut self, id: u64) {
        // A vector takes whatever is written to it.
        let _ = write!(self.writer.buffer(), "{id}");
    }

    fn push_string(&mut self, text: &str) {
        // A string has no way to fail, nor has the vector.
        let _ = serde_json::to_writer(self.writer.buffer(), text);
    }

    /// Writes the arguments behind their opening.
    fn args(
        &mut self,
        write: impl FnOnce(Output<'_>) -> Result<(), serde_json::Error>,
        opening: Opening,
    ) -> Result<(), EncodeError> {
        let buffer = self.writer.buffer();
        if opening == Opening::Bracket {
            buffer.pop(); // The bracket that has begun the list is written with the arguments.
        }
        let start = buffer.len();
        write(Output::new(buffer, &mut self.attachments, opening))?;
        // Foreign JSON that went along must not pass for a placeholder of ours.
        let count = self.attachments.len();
        if count > 0 {
            let written = str::from_utf8(&self.writer.buffer()[start..]).unwrap_or_default();
            if placeholder::check(written, count).is_err() {
                return Err(EncodeError::IllegalPlaceholder);
            }
        }
        Ok(())
    }

    fn raw_args(&mut self, args: Args<'_>) {
        self.push(args.json());
        let attachments = args.attachments().iter();
        self.attachments
            .extend(attachments.map(|data| EncodedPacket::binary(data, Revision::V4)));
    }

    /// Closes the array of arguments.
    fn end(&mut self) -> Result<(), EncodeError> {
        self.list = self.writer.buffer().len() - self.list;
        self.push("]");
        let count = self.attachments.len();
        if count > self.max_attachments {
            let max = self.max_attachments;
            return Err(EncodeError::TooManyAttachments { count, max });
        }
        if count > 0 {
            let buffer = self.writer.buffer();
            buffer[self.kind] += TO_BINARY;
            let after = self.kind + 1;
            buffer.splice(after..after, format!("{count}-").into_bytes());
        }
        Ok(())
    }
}

/// What a draft has written.
impl Outgoing {
    /// An event with its arguments, by the rules of the [module](super#arguments-and-types).
    ///
    /// ```
    /// use antiphon_protocol::socket::Outgoing;
    ///
    /// let event = Outgoing::event("add", &(1, 2))?;
    /// assert_eq!(event.name(), "add");
    /// assert_eq!(event.json(), "1,2");
    /// # Ok::<(), antiphon_protocol::socket::EncodeError>(())
    /// ```
    ///
    /// # Errors
    /// If the name is reserved, the arguments can't be written as JSON, or hold more than
    /// [`MAX_ATTACHMENTS`](super::MAX_ATTACHMENTS) binary values.
    pub fn event<T: Serialize + ?Sized>(name: &str, args: &T) -> Result<Self, EncodeError> {
        let mut draft = Draft::default();
        draft.event("", None, name, args)?;
        Ok(draft.finish_event())
    }

    /// An event with arguments as they came from a peer: nothing is parsed.
    ///
    /// # Errors
    /// If the name is reserved, or the arguments have more than
    /// [`MAX_ATTACHMENTS`](super::MAX_ATTACHMENTS) attachments.
    pub fn event_from(name: &str, args: Args<'_>) -> Result<Self, EncodeError> {
        let mut draft = Draft::default();
        draft.event_from("", None, name, args)?;
        Ok(draft.finish_event())
    }
}
