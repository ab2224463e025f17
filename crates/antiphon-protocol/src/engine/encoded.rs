//! A packet that is ready for the wire.
//!
//! A packet is encoded once, however many sessions it goes to: the bytes hold the WebSocket frame
//! of a server (header and payload), and the payload alone is what HTTP long-polling carries.
//! Clones share the bytes.

use std::cell::Cell;

use base64::Engine as _;
use bytes::{Buf as _, Bytes};

use super::{
    PacketType, Revision,
    packet::{BASE64, MESSAGE_BYTE},
};

/// Room that a [`PacketWriter`] leaves for the longest header of an unmasked frame (RFC 6455 §5.2).
const LONGEST_HEADER: usize = 10;

/// The thread keeps a buffer of at most so many bytes; a packet that has outgrown it takes it along.
/// What is in a kept one is copied to memory of its exact size: that is one allocation, where a buffer
/// with spare room would be two.
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
    header: u8,
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
        if revision == Revision::V3 {
            writer.buffer.push(MESSAGE_BYTE);
        }
        writer.buffer.extend_from_slice(data);
        writer.finish()
    }

    /// WebSocket frames as they are, which queue as one packet. No other transport carries them.
    #[must_use]
    pub const fn raw(frames: Bytes) -> Self {
        Self {
            frame: frames,
            header: 2,
        }
    }

    /// The whole WebSocket frame: unmasked, as a server sends it.
    #[must_use]
    pub const fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The packet itself: the payload of the frame.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.frame[usize::from(self.header)..]
    }

    /// Whether this is a binary message.
    #[must_use]
    pub fn is_binary(&self) -> bool {
        self.frame.first() == Some(&FIN_BINARY)
    }

    /// What a client that asked for `b64=1` gets in place of a binary frame: a text packet of `b`
    /// and base64 (revision 4) or `b4` and base64 (revision 3). `revision` is the one that this
    /// packet is encoded in. A text packet returns a clone.
    #[must_use]
    pub fn to_base64(&self, revision: Revision) -> Self {
        if !self.is_binary() {
            return self.clone();
        }
        let mut writer = PacketWriter::default();
        writer.begin(FIN_TEXT, self.base64_length());
        self.append_base64(revision, &mut writer.buffer);
        writer.finish()
    }

    /// A packet of revision 4 in `revision`: a binary message gets its type byte for revision 3.
    /// All else is the same in both and returns a clone.
    #[must_use]
    pub fn v4_to_revision(&self, revision: Revision) -> Self {
        match revision {
            Revision::V3 if self.is_binary() => Self::binary(self.payload(), Revision::V3),
            Revision::V3 | Revision::V4 => self.clone(),
        }
    }

    /// The most bytes that [`append_base64`](Self::append_base64) writes.
    pub(super) fn base64_length(&self) -> usize {
        2 + self.payload().len().div_ceil(3) * 4
    }

    /// Appends this binary message, which is encoded in `revision`, as a text packet.
    pub(super) fn append_base64(&self, revision: Revision, buffer: &mut Vec<u8>) {
        let data = match revision {
            Revision::V4 => {
                buffer.push(b'b');
                self.payload()
            }
            Revision::V3 => {
                buffer.extend_from_slice(b"b4");
                self.payload().get(1..).unwrap_or_default()
            }
        };
        let start = buffer.len();
        buffer.resize(start + data.len().div_ceil(3) * 4, 0);
        let written = BASE64.encode_slice(data, &mut buffer[start..]);
        debug_assert!(written.is_ok(), "the room is what padded base64 takes");
    }
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

    /// The buffer of a packet that has been begun, to append to. What stands in it already must stay.
    /// A text packet takes UTF-8.
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
        EncodedPacket {
            frame,
            header: (LONGEST_HEADER - start) as u8,
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
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;
    use crate::{
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

    #[test]
    fn base64_stands_in_for_a_binary_frame() {
        let packet = EncodedPacket::binary(&[1, 2, 3, 4], Revision::V4);
        let text = packet.to_base64(Revision::V4);
        assert_eq!(text.payload(), b"bAQIDBA==");
        assert!(!text.is_binary());
        let packet = EncodedPacket::binary(&[1, 2, 3, 4], Revision::V3);
        assert_eq!(packet.to_base64(Revision::V3).payload(), b"b4AQIDBA==");
    }

    #[test]
    fn text_is_the_same_in_every_form() {
        let packet = EncodedPacket::text(PacketType::Message, "hello");
        for revision in BOTH {
            assert_eq!(packet.to_base64(revision), packet);
            assert_eq!(packet.v4_to_revision(revision), packet);
        }
    }

    #[test]
    fn a_binary_message_goes_from_revision_4_to_3() {
        let packet = EncodedPacket::binary(&[1, 2], Revision::V4);
        assert_eq!(packet.v4_to_revision(Revision::V4), packet);
        assert_eq!(
            packet.v4_to_revision(Revision::V3),
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
            let message = Packet::Message(Message::Binary(Cow::Borrowed(&data)));
            for revision in BOTH {
                let packet = EncodedPacket::binary(&data, revision);
                let read = Packet::from_binary(packet.payload(), revision);
                prop_assert_eq!(read.as_ref(), Ok(&message));
                let packet = packet.to_base64(revision);
                let text = std::str::from_utf8(packet.payload()).unwrap();
                let read = Packet::from_text(text, revision);
                prop_assert_eq!(read.as_ref(), Ok(&message));
            }
        }
    }
}
