//! Packets that a parser of the application's claims to have read, as a peer pleases. None may panic,
//! and what is proven must hold JSON within the limits and say what was claimed.
//!
//! An input is a byte (type, attachments, whether there is an id), a namespace and a zero, and the
//! payload.
#![no_main]

use antiphon_protocol::engine::{Message, Revision};
use antiphon_protocol::socket::{
    DecodeError, Decoded, EncodeError, Limits, Messages, Packet, PacketDecoder, PacketKind,
    PacketParser, ParserDecoder, RESERVED_EVENTS, RawPacket,
};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

const LIMITS: Limits = Limits::new()
    .attachments(2)
    .depth(4)
    .values(20)
    .namespace(8)
    .event_name(8);

/// The space of JSON.
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

#[derive(Clone)]
struct Claims(RawPacket<'static>);

impl PacketParser for Claims {
    fn encode(&self, _: &RawPacket<'_>, _: &mut Messages) -> Result<(), EncodeError> {
        Ok(())
    }

    fn decoder(&self) -> Box<dyn PacketDecoder> {
        Box::new(self.clone())
    }
}

impl PacketDecoder for Claims {
    fn text<'m>(&mut self, _: &'m str, _: &Limits) -> Result<Option<Decoded<'m>>, DecodeError> {
        Ok(Some(self.0.clone().into()))
    }
}

fuzz_target!(|input: (u8, &str)| {
    let (head, text) = input;
    let (namespace, data) = text.split_once('\0').unwrap_or((text, ""));
    let Ok(kind) = PacketKind::from_number(head & 7) else {
        return;
    };
    let count = usize::from(head >> 4 & 3);
    let mut packet = RawPacket::new(kind, namespace.to_owned());
    packet.id = (head & 8 != 0).then_some(7);
    packet.data = (!data.is_empty()).then(|| data.to_owned().into());
    packet.attachments = vec![Bytes::new(); count].into();
    let id = packet.id;
    for revision in [Revision::V3, Revision::V4] {
        let mut decoder = ParserDecoder::new(&Claims(packet.clone()), revision, LIMITS);
        let Ok(Some(proven)) = decoder.decode(Message::Text("")) else {
            continue;
        };
        let packet = proven.packet();
        assert!(
            packet.namespace().starts_with('/') && packet.namespace().len() <= LIMITS.namespace
        );
        let claimed = || texts(data);
        let values = |json: &str| texts(&format!("[{json}]"));
        match packet {
            Packet::Event {
                id: read,
                name,
                args,
                ..
            } => {
                assert!(kind == PacketKind::Event && read == id);
                assert!(name.len() <= LIMITS.event_name && !RESERVED_EVENTS.contains(&&*name));
                assert_eq!(args.attachments().len(), count);
                assert_eq!(claimed()[1..], values(args.json())[..]);
            }
            Packet::Ack { id: read, args, .. } => {
                assert!(kind == PacketKind::Ack && Some(read) == id);
                assert_eq!(args.attachments().len(), count);
                assert_eq!(claimed(), values(args.json()));
            }
            Packet::Connect { auth, .. } => {
                assert_eq!((kind, count), (PacketKind::Connect, 0));
                assert_eq!(auth.unwrap_or_default(), data.trim_matches(SPACE));
            }
            Packet::Disconnect { .. } => assert_eq!((kind, count), (PacketKind::Disconnect, 0)),
            Packet::ConnectError { data: read, .. } => {
                assert_eq!((kind, count), (PacketKind::ConnectError, 0));
                assert_eq!(read, data.trim_matches(SPACE));
                assert_eq!(values(read).len(), 1);
            }
        }
    }
});

/// The values of a list of JSON, as they are written.
fn texts(list: &str) -> Vec<String> {
    let values: Vec<&RawValue> = serde_json::from_str(list).expect("JSON");
    values.iter().map(|value| value.get().to_owned()).collect()
}
