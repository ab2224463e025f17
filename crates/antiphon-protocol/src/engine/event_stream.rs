//! Streaming: packets as events of one HTTP response that stays open (`text/event-stream`, WHATWG
//! HTML §9.2), of revision 4.
//!
//! ```text
//! id: 3          the number of the packet that follows
//!
//! data: 4hello   a packet, as in a payload of long-polling
//!
//! event: escaped a packet with line breaks: `%`, CR and LF are percent-encoded
//! data: 4two%0Alines
//!
//! :              a comment, which keeps proxies from taking the response for dead
//!
//! ```

use super::{EncodedPacket, Revision};

/// An event that says nothing, and keeps the response alive.
pub const COMMENT: &[u8] = b":\n\n";

/// Appends the event that says which number the next packet has.
pub fn append_offset(offset: u64, stream: &mut Vec<u8>) {
    stream.extend_from_slice(format!("id: {offset}\n\n").as_bytes());
}

/// Appends a packet, which is encoded in revision 4, as an event. A binary message becomes base64.
pub fn append_packet(packet: &EncodedPacket, stream: &mut Vec<u8>) {
    let payload = packet.payload();
    if packet.is_binary() {
        stream.extend_from_slice(b"data: ");
        packet.append_base64(Revision::V4, stream);
    } else if payload.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        stream.extend_from_slice(b"event: escaped\ndata: ");
        for byte in payload {
            match byte {
                b'%' => stream.extend_from_slice(b"%25"),
                b'\r' => stream.extend_from_slice(b"%0D"),
                b'\n' => stream.extend_from_slice(b"%0A"),
                byte => stream.push(*byte),
            }
        }
    } else {
        stream.extend_from_slice(b"data: ");
        stream.extend_from_slice(payload);
    }
    stream.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::{Message, Packet, PacketType};

    fn event(packet: &EncodedPacket) -> String {
        let mut stream = Vec::new();
        append_packet(packet, &mut stream);
        String::from_utf8(stream).unwrap()
    }

    fn message(text: &str) -> EncodedPacket {
        EncodedPacket::text(PacketType::Message, text)
    }

    #[test]
    fn a_packet_is_an_event() {
        assert_eq!(event(&message("100% é")), "data: 4100% é\n\n");
        let binary = EncodedPacket::binary(&[1, 2, 3], Revision::V4);
        assert_eq!(event(&binary), "data: bAQID\n\n");
        let mut stream = Vec::new();
        append_offset(7, &mut stream);
        assert_eq!(stream, b"id: 7\n\n");
    }

    #[test]
    fn line_breaks_are_escaped_and_told_so() {
        let packet = message("a\r\nb%0A");
        assert_eq!(event(&packet), "event: escaped\ndata: 4a%0D%0Ab%250A\n\n");
    }

    proptest! {
        /// Read back by the rules of WHATWG HTML §9.2.6, where CR, LF and CRLF end a line.
        #[test]
        fn every_text_is_read_back(text in "[a%\\r\\n: é\u{feff}]{0,20}") {
            let event = event(&message(&text));
            let mut lines = event.split(['\r', '\n']);
            let mut line = lines.next().unwrap();
            let escaped = line == "event: escaped";
            if escaped {
                line = lines.next().unwrap();
            }
            let data = line.strip_prefix("data: ").unwrap();
            prop_assert_eq!(lines.collect::<Vec<_>>(), ["", ""]);
            let packet = match escaped {
                true => data.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%"),
                false => data.to_owned(),
            };
            let read = Packet::from_text(&packet, Revision::V4);
            prop_assert_eq!(read, Ok(Packet::Message(Message::Text(&text))));
        }
    }
}
