//! A packet that is ready for the wire.
//!
//! A packet is encoded once, however many sessions it goes to: the bytes hold the WebSocket frame
//! of a server (header and payload), and the payload alone is what HTTP long-polling carries.
//! Clones share the bytes.

use std::{cell::Cell, iter, num::NonZeroU8, sync::Arc};

use base64::Engine as _;
use bytes::{Buf as _, Bytes};

use super::{
    Form, PacketType, Revision,
    packet::{BASE64, MESSAGE_BYTE},
};
#[cfg(feature = "deflate")]
use crate::websocket::{Opcode, deflate::append_frame_at_level};

/// Room that a [`PacketWriter`] leaves for the longest header of an unmasked frame (RFC 6455 §5.2).
const LONGEST_HEADER: usize = 10;

/// The thread keeps a buffer of at most so many bytes; a packet that has outgrown it takes it
/// along. What is in a kept one is copied to memory of its exact size: that is one allocation,
/// where a buffer with spare room would be two.
const COPIED: usize = 4 << 10;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

const FIN_TEXT: u8 = 0x81;
const FIN_BINARY: u8 = 0x82;

/// One packet, encoded for every session of its revision. Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPacket {
    frame: Bytes,
    header: NonZeroU8,
}

/// A message that is ready for the wire: a packet, and attachments that must follow it with nothing
/// between. It is encoded for [`Revision::V4`] without options; [`in_form`](Self::in_form) gives
/// the others. Clones share the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedMessage {
    first: EncodedPacket,
    attachments: Option<Arc<[EncodedPacket]>>,
}

/// A message in the form of one or several sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encoded {
    /// Packets, which any transport carries.
    Message(EncodedMessage),
    /// Frames of a WebSocket, which is the only transport that carries them.
    Frames(Bytes),
}

impl EncodedMessage {
    /// A message with its attachments.
    #[must_use]
    pub fn new(first: EncodedPacket, attachments: Vec<EncodedPacket>) -> Self {
        Self {
            first,
            attachments: (!attachments.is_empty()).then(|| attachments.into()),
        }
    }

    /// The packet that comes first.
    #[must_use]
    pub const fn first(&self) -> &EncodedPacket {
        &self.first
    }

    /// The attachments behind it.
    #[must_use]
    pub fn attachments(&self) -> &[EncodedPacket] {
        self.attachments.as_deref().unwrap_or_default()
    }

    /// The packets in the order of the wire.
    pub fn packets(&self) -> impl Iterator<Item = &EncodedPacket> + Clone {
        iter::once(&self.first).chain(self.attachments())
    }

    /// The packet that comes first, and the attachments if there are any.
    pub(super) fn into_parts(self) -> (EncodedPacket, Option<Arc<[EncodedPacket]>>) {
        (self.first, self.attachments)
    }

    /// The length of all frames together, in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.packets().map(|packet| packet.frame().len()).sum()
    }

    /// The message for sessions of this form, but for its parser, which is the business of whoever
    /// wrote it.
    #[must_use]
    pub fn in_form(&self, form: Form) -> Encoded {
        let is_plain = !form.revision.dialect().has_type_byte && !form.base64;
        let message = match is_plain || !self.packets().any(EncodedPacket::is_binary) {
            true => self.clone(),
            false => {
                let attachments = self.attachments().iter().map(|one| one.in_form(form));
                Self::new(self.first.in_form(form), attachments.collect())
            }
        };
        match message.compressed(form) {
            Some(frames) => Encoded::Frames(frames),
            None => Encoded::Message(message),
        }
    }

    /// The frames of the message, if any of them gets shorter by being compressed.
    #[cfg(feature = "deflate")]
    fn compressed(&self, form: Form) -> Option<Bytes> {
        let compression = form.compression?;
        if !self
            .packets()
            .any(|packet| form.compresses(packet.payload().len()))
        {
            return None;
        }
        let mut frames = Vec::new();
        let mut is_shorter = false;
        for packet in self.packets() {
            let opcode = match packet.is_binary() {
                true => Opcode::Binary,
                false => Opcode::Text,
            };
            let (data, how) = (packet.payload(), (compression.window, compression.level));
            if form.compresses(data.len())
                && append_frame_at_level(opcode, data, how, None, &mut frames)
            {
                is_shorter = true;
            } else {
                frames.extend_from_slice(packet.frame());
            }
        }
        is_shorter.then(|| frames.into())
    }

    #[cfg(not(feature = "deflate"))]
    const fn compressed(&self, _: Form) -> Option<Bytes> {
        None
    }
}

impl From<EncodedPacket> for EncodedMessage {
    fn from(packet: EncodedPacket) -> Self {
        Self {
            first: packet,
            attachments: None,
        }
    }
}

impl From<EncodedPacket> for Encoded {
    fn from(packet: EncodedPacket) -> Self {
        Self::Message(packet.into())
    }
}

impl Encoded {
    /// The length of all frames together, in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        match self {
            Self::Message(message) => message.len_bytes(),
            Self::Frames(frames) => frames.len(),
        }
    }

    /// Its frames, each packet's or all of them in one.
    pub(super) fn buffers(&self) -> impl Iterator<Item = &Bytes> {
        let (message, frames) = match self {
            Self::Message(message) => (Some(message), None),
            Self::Frames(frames) => (None, Some(frames)),
        };
        let packets = message.into_iter().flat_map(EncodedMessage::packets);
        packets.map(EncodedPacket::frame).chain(frames)
    }

    /// How many entries of a queue it takes: each packet is one.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Message(message) => 1 + message.attachments().len(),
            Self::Frames(_) => 1,
        }
    }

    /// Appends its frames.
    pub(super) fn append_to(&self, frames: &mut Vec<u8>) {
        match self {
            Self::Message(message) => {
                for packet in message.packets() {
                    frames.extend_from_slice(packet.frame());
                }
            }
            Self::Frames(all) => frames.extend_from_slice(all),
        }
    }
}

impl EncodedPacket {
    /// A text packet: a digit and its data.
    #[must_use]
    pub fn text(kind: PacketType, data: &str) -> Self {
        let mut writer = PacketWriter::default();
        writer.begin_text(kind, data.len());
        writer.buffer().extend_from_slice(data.as_bytes());
        writer.finish()
    }

    /// A binary message. Revision 3 puts the type in front as a raw byte, revision 4 puts nothing.
    #[must_use]
    pub fn binary(data: &[u8], revision: Revision) -> Self {
        let mut writer = PacketWriter::default();
        writer.begin(FIN_BINARY, data.len() + 1);
        if revision.dialect().has_type_byte {
            writer.buffer.push(MESSAGE_BYTE);
        }
        writer.buffer.extend_from_slice(data);
        writer.finish()
    }

    /// The whole WebSocket frame: unmasked, as a server sends it.
    #[must_use]
    pub const fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The packet itself: the payload of the frame.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.frame[usize::from(self.header.get())..]
    }

    /// The [`payload`](Self::payload), sharing the bytes.
    pub(crate) fn shared_payload(&self) -> Bytes {
        self.frame.slice(usize::from(self.header.get())..)
    }

    /// Whether this is a binary message.
    #[must_use]
    pub fn is_binary(&self) -> bool {
        self.frame.first() == Some(&FIN_BINARY)
    }

    /// This packet of [`Revision::V4`] for sessions of this form. A text is the same in all of
    /// them, and a binary message gets its type byte for revision 3. A client that asked for
    /// `b64=1` gets a text of `b` (revision 4) or `b4` (revision 3) and base64 in its place.
    #[must_use]
    pub fn in_form(&self, form: Form) -> Self {
        match form {
            _ if !self.is_binary() => self.clone(),
            Form { base64: true, .. } => {
                let mut writer = PacketWriter::default();
                writer.begin(FIN_TEXT, self.base64_length());
                append_base64(self.payload(), form.revision, &mut writer.buffer);
                writer.finish()
            }
            Form { revision, .. } if revision.dialect().has_type_byte => {
                Self::binary(self.payload(), revision)
            }
            Form { .. } => self.clone(),
        }
    }

    /// The most bytes that [`append_base64`](Self::append_base64) writes.
    pub(super) fn base64_length(&self) -> usize {
        2 + self.payload().len().div_ceil(3) * 4
    }

    /// Appends this binary message, which is encoded in `revision`, as a text packet.
    pub(super) fn append_base64(&self, revision: Revision, buffer: &mut Vec<u8>) {
        let type_byte = usize::from(revision.dialect().has_type_byte);
        let data = self.payload().get(type_byte..).unwrap_or_default();
        append_base64(data, revision, buffer);
    }
}

/// Appends a binary message as the text packet that `revision` has for it.
fn append_base64(data: &[u8], revision: Revision, buffer: &mut Vec<u8>) {
    buffer.push(b'b');
    if revision.dialect().has_type_byte {
        buffer.push(PacketType::Message.digit());
    }
    let start = buffer.len();
    buffer.resize(start + data.len().div_ceil(3) * 4, 0);
    let written = BASE64.encode_slice(data, &mut buffer[start..]);
    debug_assert!(written.is_ok(), "the room is what padded base64 takes");
}

/// Writes one packet after another in place, behind the room for the frame header.
#[derive(Debug)]
pub(crate) struct PacketWriter {
    buffer: Vec<u8>,
    opcode: u8,
}

impl Default for PacketWriter {
    /// A writer of an empty packet.
    fn default() -> Self {
        Self {
            // Empty where another is being written, and where the thread ends.
            buffer: BUFFER.try_with(Cell::take).unwrap_or_default(),
            opcode: FIN_TEXT,
        }
    }
}

impl PacketWriter {
    /// Begins a text packet of this type; `capacity` is the expected length of its data in bytes.
    /// What was written before is forgotten.
    pub(crate) fn begin_text(&mut self, kind: PacketType, capacity: usize) {
        self.begin(FIN_TEXT, capacity + 1);
        self.buffer.push(kind.digit());
    }

    fn begin(&mut self, opcode: u8, capacity: usize) {
        self.opcode = opcode;
        self.buffer.clear();
        self.buffer.reserve(LONGEST_HEADER + capacity);
        self.buffer.resize(LONGEST_HEADER, 0);
    }

    /// Forgets what was written.
    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
    }

    /// The buffer of a packet that has been begun, to append to. What stands in it already must
    /// stay. A text packet takes UTF-8.
    pub(crate) const fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// The whole frame, to be copied to where it leaves. Returns `None` if it
    /// has outgrown the thread's buffer.
    pub(crate) fn frame(&mut self) -> Option<&[u8]> {
        if self.buffer.capacity() > COPIED {
            return None;
        }
        let start = self.write_header();
        Some(&self.buffer[start..])
    }

    /// Gives the packet memory of its own. Nothing is left in here.
    pub(crate) fn finish(&mut self) -> EncodedPacket {
        let start = self.write_header();
        let frame = if self.buffer.capacity() <= COPIED {
            let frame = Bytes::copy_from_slice(&self.buffer[start..]);
            self.buffer.clear();
            frame
        } else {
            let mut frame = Bytes::from(std::mem::take(&mut self.buffer));
            frame.advance(start);
            frame
        };
        let header = NonZeroU8::new((LONGEST_HEADER - start) as u8);
        EncodedPacket {
            frame,
            // The shortest header has two bytes.
            header: header.unwrap_or(NonZeroU8::MIN),
        }
    }

    /// Fills in the frame header (RFC 6455 §5.2). Where it starts.
    fn write_header(&mut self) -> usize {
        if self.buffer.is_empty() {
            self.begin(self.opcode, 0);
        }
        let length = self.buffer.len() - LONGEST_HEADER;
        let header = match length {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => LONGEST_HEADER,
        };
        let start = LONGEST_HEADER - header;
        self.buffer[start] = self.opcode;
        match header {
            2 => self.buffer[start + 1] = length as u8,
            4 => {
                self.buffer[start + 1] = 126;
                self.buffer[start + 2..LONGEST_HEADER]
                    .copy_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                self.buffer[start + 1] = 127;
                self.buffer[start + 2..LONGEST_HEADER]
                    .copy_from_slice(&(length as u64).to_be_bytes());
            }
        }
        start
    }
}

impl Drop for PacketWriter {
    fn drop(&mut self) {
        if self.buffer.capacity() <= COPIED {
            self.buffer.clear();
            // Where the thread ends, nobody wants it any more.
            let _ = BUFFER.try_with(|buffer| buffer.set(std::mem::take(&mut self.buffer)));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        BinaryMessage,
        engine::{Message, Packet},
        websocket::{Decoder, Event, Role},
    };

    const BOTH: [Revision; 2] = [Revision::V3, Revision::V4];

    #[test]
    fn a_text_packet_is_a_digit_and_its_data() {
        let packet = EncodedPacket::text(PacketType::Message, "hello");
        assert_eq!(packet.payload(), b"4hello");
        assert_eq!(&packet.frame()[..], b"\x81\x064hello");
        assert!(!packet.is_binary());
    }

    #[test]
    fn a_binary_message_has_a_type_byte_in_revision_3_only() {
        let packet = EncodedPacket::binary(&[1, 2], Revision::V4);
        assert_eq!(&packet.frame()[..], [0x82, 2, 1, 2]);
        assert_eq!(packet.payload(), [1, 2]);
        let packet = EncodedPacket::binary(&[1, 2], Revision::V3);
        assert_eq!(&packet.frame()[..], [0x82, 3, 4, 1, 2]);
        assert!(packet.is_binary());
    }

    #[test]
    fn a_frame_has_the_shortest_header() {
        for (length, header) in [(125, 2), (126, 4), (0xffff, 4), (0x1_0000, 10)] {
            let packet = EncodedPacket::binary(&vec![7; length], Revision::V4);
            assert_eq!(packet.frame().len(), header + length);
            assert_eq!(packet.payload(), vec![7; length]);
        }
    }

    fn form(revision: Revision, base64: bool) -> Form {
        Form {
            base64,
            ..Form::of(revision)
        }
    }

    #[test]
    fn base64_stands_in_for_a_binary_message() {
        let packet = EncodedPacket::binary(&[1, 2, 3, 4], Revision::V4);
        let text = packet.in_form(form(Revision::V4, true));
        assert_eq!(text.payload(), b"bAQIDBA==");
        assert!(!text.is_binary());
        let text = packet.in_form(form(Revision::V3, true));
        assert_eq!(text.payload(), b"b4AQIDBA==");
    }

    #[test]
    fn text_is_the_same_in_every_form() {
        let packet = EncodedPacket::text(PacketType::Message, "hello");
        for revision in BOTH {
            for base64 in [false, true] {
                assert_eq!(packet.in_form(form(revision, base64)), packet);
            }
        }
    }

    #[test]
    fn a_binary_message_goes_from_revision_4_to_3() {
        let packet = EncodedPacket::binary(&[1, 2], Revision::V4);
        assert_eq!(packet.in_form(Form::of(Revision::V4)), packet);
        assert_eq!(
            packet.in_form(Form::of(Revision::V3)),
            EncodedPacket::binary(&[1, 2], Revision::V3)
        );
    }

    proptest! {
        #[test]
        fn a_text_message_is_read_back_from_its_frame(text: String) {
            let packet = EncodedPacket::text(PacketType::Message, &text);
            let mut frame = packet.frame().to_vec();
            let decoded = Decoder::new(Role::Client, frame.len()).decode(&mut frame).unwrap();
            prop_assert_eq!(decoded.consumed, packet.frame().len());
            let Some(Event::Text(payload)) = decoded.event else {
                panic!("expected a text message");
            };
            for revision in BOTH {
                let read = Packet::from_text(&payload, revision);
                prop_assert_eq!(read, Ok(Packet::Message(Message::Text(&text))));
            }
        }

        #[test]
        fn a_binary_message_is_read_back_in_every_form(data: Vec<u8>) {
            let message = Packet::Message(Message::Binary(BinaryMessage::Lent(&data)));
            for revision in BOTH {
                let packet = EncodedPacket::binary(&data, revision);
                let read = Packet::from_binary(packet.payload(), revision);
                prop_assert_eq!(read.as_ref(), Ok(&message));
                let packet = EncodedPacket::binary(&data, Revision::V4).in_form(form(revision, true));
                let text = std::str::from_utf8(packet.payload()).unwrap();
                let read = Packet::from_text(text, revision);
                prop_assert_eq!(read.as_ref(), Ok(&message));
            }
        }
    }
}
