//! Parsers of one's own: what they are given, and that what they give is proven.

use std::borrow::Cow;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;

use crate::engine::{Encoded, EncodedMessage, Form, Forms as _, Message, Revision};
use crate::socket::{
    Assembled, DecodeError, Decoded, EncodeError, Fanout, Limits, Messages, Msgpack, Packet,
    PacketDecoder, PacketKind, PacketParser, Parser, ParserDecoder, RawPacket, ack, connect,
    connect_error, disconnect, event,
};

/// Writes the fields of a packet as lines, and each attachment as a message behind them.
struct Lines;

impl PacketParser for Lines {
    fn encode(&self, packet: &RawPacket<'_>, messages: &mut Messages) -> Result<(), EncodeError> {
        let RawPacket {
            kind,
            namespace,
            id,
            data,
            attachments,
        } = packet;
        if data
            .as_deref()
            .is_some_and(|data| data.contains("unspeakable"))
        {
            return Err(EncodeError::custom("unspeakable"));
        }
        let id = id.map(|id| id.to_string()).unwrap_or_default();
        let (kind, count) = (kind.number(), attachments.len());
        let data = data.as_deref().unwrap_or_default();
        messages.text(&format!("{kind}\n{namespace}\n{id}\n{count}\n{data}"));
        for attachment in &**attachments {
            messages.binary(attachment);
        }
        Ok(())
    }

    fn decoder(&self) -> Box<dyn PacketDecoder> {
        Box::new(LinesDecoder::default())
    }
}

#[derive(Default)]
struct LinesDecoder {
    waiting: Option<(RawPacket<'static>, usize)>,
}

impl PacketDecoder for LinesDecoder {
    fn text<'m>(&mut self, text: &'m str, _: &Limits) -> Result<Option<Decoded<'m>>, DecodeError> {
        let lines: Vec<&str> = text.splitn(5, '\n').collect();
        let &[kind, namespace, id, count, data] = &lines[..] else {
            return Err(DecodeError::custom("not five lines"));
        };
        let kind = PacketKind::from_number(kind.parse().map_err(DecodeError::custom)?)?;
        let packet = RawPacket {
            id: id.parse().ok(),
            data: (!data.is_empty()).then_some(Cow::Borrowed(data)),
            ..RawPacket::new(kind, namespace)
        };
        match count.parse().map_err(DecodeError::custom)? {
            0 => Ok(Some(packet.into())),
            count => {
                let packet = RawPacket {
                    data: Some(Cow::Owned(data.to_owned())),
                    ..RawPacket {
                        id: packet.id,
                        ..RawPacket::new(kind, namespace.to_owned())
                    }
                };
                self.waiting = Some((packet, count));
                Ok(None)
            }
        }
    }

    fn binary(&mut self, data: Bytes, _: &Limits) -> Result<Option<Decoded<'static>>, DecodeError> {
        let Some((packet, count)) = &mut self.waiting else {
            return Err(DecodeError::custom("of no packet"));
        };
        packet.attachments.to_mut().push(data);
        if packet.attachments.len() < *count {
            return Ok(None);
        }
        Ok(self.waiting.take().map(|(packet, _)| packet.into()))
    }
}

fn decoder(parser: &dyn PacketParser) -> ParserDecoder {
    ParserDecoder::new(parser, Revision::V4, Limits::default())
}

/// What leaves for a message, as it comes to the other side.
fn written(parser: &Parser, message: EncodedMessage) -> EncodedMessage {
    let mut form = Form::of(Revision::V4);
    form.is_transcoded = true;
    match Fanout::of(message, parser).encoded(form).clone() {
        Encoded::Message(message) => message,
        Encoded::Frames(_) => panic!("nothing was written"),
    }
}

/// The packet that the other side reads.
fn read(parser: &Parser, message: &EncodedMessage) -> Assembled {
    let mut decoder = decoder(parser.packets().unwrap());
    let mut packets = message.packets().filter_map(|packet| {
        let payload = packet.payload();
        let message = match packet.is_binary() {
            true => Message::Binary(payload.into()),
            false => Message::Text(std::str::from_utf8(&payload[1..]).unwrap()),
        };
        decoder.decode(message).unwrap()
    });
    let packet = packets.next().expect("a packet");
    assert!(packets.next().is_none());
    packet
}

fn raw(kind: PacketKind, data: &str) -> RawPacket<'_> {
    RawPacket {
        data: Some(data.into()),
        ..RawPacket::new(kind, "/")
    }
}

/// Gives one packet for each text, whatever that says.
struct Says(RawPacket<'static>);

impl PacketParser for Says {
    fn encode(&self, _: &RawPacket<'_>, _: &mut Messages) -> Result<(), EncodeError> {
        Ok(())
    }

    fn decoder(&self) -> Box<dyn PacketDecoder> {
        Box::new(Self(self.0.clone()))
    }
}

impl PacketDecoder for Says {
    fn text<'m>(&mut self, text: &'m str, _: &Limits) -> Result<Option<Decoded<'m>>, DecodeError> {
        match text {
            "more" => Ok(None),
            _ => Ok(Some(self.0.clone().into())),
        }
    }
}

/// What becomes of a packet that a parser claims to have read.
fn proven(packet: RawPacket<'_>) -> Result<Assembled, DecodeError> {
    let owned = RawPacket {
        kind: packet.kind,
        namespace: packet.namespace.into_owned().into(),
        id: packet.id,
        data: packet.data.map(|data| data.into_owned().into()),
        attachments: packet.attachments.into_owned().into(),
    };
    decoder(&Says(owned))
        .decode(Message::Text(""))
        .map(Option::unwrap)
}

fn refused(packet: RawPacket<'_>) -> DecodeError {
    proven(packet).expect_err("it breaks a rule")
}

#[test]
fn every_packet_comes_as_it_left() {
    for parser in [Parser::from(Lines), Parser::Msgpack, Parser::from(Msgpack)] {
        for namespace in ["/", "/chat"] {
            let joined = read(&parser, &written(&parser, connect(namespace, Some("abc"))));
            let auth = Some(r#"{"sid":"abc"}"#);
            assert_eq!(
                joined.packet(),
                Packet::Connect {
                    namespace,
                    query: None,
                    auth
                }
            );
            let asked = read(&parser, &written(&parser, connect(namespace, None)));
            assert_eq!(
                asked.packet(),
                Packet::Connect {
                    namespace,
                    query: None,
                    auth: None
                }
            );
            let left = read(&parser, &written(&parser, disconnect(namespace)));
            assert_eq!(left.packet(), Packet::Disconnect { namespace });
            let refused = connect_error(namespace, Revision::V4, "no", Some(&7)).unwrap();
            let refused = read(&parser, &written(&parser, refused));
            let data = r#"{"message":"no","data":7}"#;
            assert_eq!(refused.packet(), Packet::ConnectError { namespace, data });
            let bytes = Bytes::from_static(b"ab");
            for id in [None, Some(0), Some(71)] {
                let sent = event(namespace, id, "a \"b\"", &(1, bytes.clone())).unwrap();
                let sent = read(&parser, &written(&parser, sent));
                let Packet::Event {
                    namespace: to,
                    id: with,
                    name,
                    args,
                } = sent.packet()
                else {
                    panic!("an event")
                };
                assert_eq!((to, with, &*name), (namespace, id, "a \"b\""));
                assert_eq!(
                    args.deserialize::<(u8, Bytes)>().unwrap(),
                    (1, bytes.clone())
                );
            }
            let answer = read(
                &parser,
                &written(&parser, ack(namespace, 12, &bytes).unwrap()),
            );
            let Packet::Ack {
                namespace: to,
                id,
                args,
            } = answer.packet()
            else {
                panic!("an ack")
            };
            assert_eq!((to, id), (namespace, 12));
            assert_eq!(args.deserialize::<Bytes>().unwrap(), bytes);
        }
    }
}

#[test]
fn a_parser_is_asked_once_for_all_receivers() {
    let parser = Parser::from(Lines);
    let mut message = Fanout::of(event("/", Some(3), "x", &1).unwrap(), &parser);
    let mut form = Form::of(Revision::V4);
    assert!(
        message.frame(form).is_none(),
        "it has memory of its own already"
    );
    form.is_transcoded = true;
    let first = message.encoded(form).clone();
    let Encoded::Message(packets) = &first else {
        panic!("packets")
    };
    assert_eq!(packets.first().payload(), b"42\n/\n3\n0\n[\"x\",1]");
    assert_eq!(message.encoded(form), &first);
    assert!(!message.is_unwritten());
}

#[test]
fn what_a_parser_cannot_write_is_nothing() {
    let parser = Parser::from(Lines);
    let mut form = Form::of(Revision::V4);
    form.is_transcoded = true;
    let mut message = Fanout::of(event("/", None, "unspeakable", &()).unwrap(), &parser);
    assert_eq!(message.encoded(form).len_bytes(), 0);
    assert!(message.is_unwritten());
    // So is a packet for which it has written no message.
    let silent = Parser::from(Says(RawPacket::new(PacketKind::Connect, "/")));
    let mut message = Fanout::of(event("/", None, "x", &()).unwrap(), &silent);
    assert_eq!(message.encoded(form).len_bytes(), 0);
    assert!(message.is_unwritten());
}

#[test]
fn what_a_parser_gives_is_proven_as_a_text_would_be() {
    use PacketKind::{Ack, Connect, ConnectError, Disconnect, Event};
    let placeholder = r#"["a",{"_placeholder":true,"num":0}]"#;
    let with = |mut packet: RawPacket<'static>, count| {
        packet.attachments = vec![Bytes::new(); count].into();
        packet
    };
    for (kind, data) in [
        (Connect, "[]"),
        (Connect, "1"),
        (Disconnect, "{}"),
        (Event, "{}"),
        (Event, "1[\"a\"]"),
        (Event, ""),
        (ConnectError, "[]"),
        (ConnectError, "12"),
    ] {
        let error = refused(raw(kind, data));
        assert!(
            matches!(error, DecodeError::InvalidPayload { .. }),
            "{kind:?} {data}: {error}"
        );
    }
    for data in ["[\"a\"", "[\"a\",]", "[\"a\"][]", "[\"a\"] x"] {
        let error = refused(raw(Event, data));
        assert!(
            matches!(error, DecodeError::InvalidJson { .. }),
            "{data}: {error}"
        );
    }
    assert_eq!(refused(raw(Ack, "[]")), DecodeError::MissingAckId);
    assert_eq!(refused(raw(Event, "[]")), DecodeError::MissingEventName);
    assert_eq!(refused(raw(Event, "[null]")), DecodeError::InvalidEventName);
    assert_eq!(
        refused(raw(Event, "[\"connect\"]")),
        DecodeError::ReservedEvent("connect")
    );
    let long = format!("[\"{}\"]", "n".repeat(1_025));
    assert_eq!(
        refused(raw(Event, &long)),
        DecodeError::EventNameTooLong { limit: 1_024 }
    );
    let deep = format!("[\"a\",{}{}]", "[".repeat(100), "]".repeat(100));
    assert_eq!(
        refused(raw(Event, &deep)),
        DecodeError::TooDeep { limit: 100 }
    );
    let many = format!("[\"a\"{}]", ",0".repeat(100_000));
    assert_eq!(
        refused(raw(Event, &many)),
        DecodeError::TooManyValues { limit: 100_000 }
    );
    let id = RawPacket {
        id: Some(1 << 60),
        ..raw(Event, "[\"a\"]")
    };
    assert_eq!(refused(id), DecodeError::AckIdTooLong { limit: 15 });
    for namespace in ["chat", "/a,b"] {
        let error = refused(RawPacket::new(Connect, namespace));
        assert!(
            matches!(error, DecodeError::InvalidField { field: "nsp", .. }),
            "{error}"
        );
    }
    let long = RawPacket::new(Connect, format!("/{}", "n".repeat(256)));
    assert_eq!(refused(long), DecodeError::NamespaceTooLong { limit: 256 });
    assert_eq!(
        refused(with(raw(Event, placeholder), 11)),
        DecodeError::TooManyAttachments { limit: 10 }
    );
    let twice = r#"["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#;
    assert_eq!(
        refused(with(raw(Event, twice), 1)),
        DecodeError::RepeatedPlaceholder { num: 0 }
    );
    let beyond = r#"["a",{"_placeholder":true,"num":1}]"#;
    assert_eq!(
        refused(with(raw(Event, beyond), 1)),
        DecodeError::IllegalPlaceholder { attachments: 1 }
    );
    let binary = refused(with(raw(Connect, "{}"), 1));
    assert!(matches!(
        binary,
        DecodeError::InvalidPayload {
            packet: "CONNECT",
            ..
        }
    ));

    let event = proven(with(raw(Event, placeholder), 1)).unwrap();
    assert!(matches!(
        event.packet(),
        Packet::Event {
            namespace: "/",
            id: None,
            ..
        }
    ));
    let spaced = proven(raw(Event, " [\"a\" , 1 ]\n")).unwrap();
    assert!(matches!(spaced.packet(), Packet::Event { args, .. } if args.json().trim() == "1"));
    let root = proven(RawPacket::new(Disconnect, "")).unwrap();
    assert_eq!(root.packet(), Packet::Disconnect { namespace: "/" });
}

#[test]
fn numbers_of_types_are_those_of_node() {
    for number in 0..=4 {
        assert_eq!(
            PacketKind::from_number(number).map(PacketKind::number),
            Ok(number)
        );
    }
    assert_eq!(PacketKind::from_number(5), Ok(PacketKind::Event));
    assert_eq!(PacketKind::from_number(6), Ok(PacketKind::Ack));
    assert_eq!(PacketKind::from_number(7), Err(DecodeError::UnknownKind(7)));
}

#[test]
fn a_packet_has_no_more_parts_than_attachments_and_one() {
    let parser = Says(raw(PacketKind::Event, "[\"a\"]").clone());
    let mut decoder = decoder(&parser);
    for _ in 0..10 {
        assert!(decoder.decode(Message::Text("more")).unwrap().is_none());
        assert!(decoder.is_incomplete());
    }
    assert!(decoder.decode(Message::Text("")).unwrap().is_some());
    assert!(!decoder.is_incomplete());
    for _ in 0..10 {
        assert!(decoder.decode(Message::Text("more")).unwrap().is_none());
    }
    let error = decoder.decode(Message::Text("more")).unwrap_err();
    assert_eq!(error, DecodeError::TooManyAttachments { limit: 10 });
    // It has let go of what it had, and takes nothing any more.
    assert!(decoder.decode(Message::Text("")).unwrap().is_none());
}

#[test]
fn a_kind_of_message_that_a_parser_has_no_method_for_is_refused() {
    let parser = Says(RawPacket::new(PacketKind::Disconnect, "/"));
    let binary = decoder(&parser).decode(Message::Binary(b"x"[..].into()));
    assert_eq!(binary.unwrap_err(), DecodeError::BinaryMessage);
    let text = decoder(&Msgpack).decode(Message::Text("2[\"a\"]"));
    assert_eq!(text.unwrap_err(), DecodeError::TextMessage);
}

#[test]
fn a_payload_is_read_and_written_with_bytes_where_they_belong() {
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Part {
        name: String,
        data: Bytes,
    }
    let part = || Part {
        name: "a".into(),
        data: Bytes::from_static(b"ab"),
    };
    let packet = RawPacket::new(PacketKind::Event, "/")
        .with_data(&("x", part()), &Limits::default())
        .unwrap();
    let json = r#"["x",{"name":"a","data":{"_placeholder":true,"num":0}}]"#;
    assert_eq!(packet.data.as_deref(), Some(json));
    assert_eq!(packet.attachments[..], [&b"ab"[..]]);
    assert_eq!(packet.read_data().unwrap(), Some(("x".to_owned(), part())));
    let nothing = RawPacket::new(PacketKind::Connect, "/");
    assert_eq!(nothing.read_data::<Value>().unwrap(), None);
    assert!(packet.read_data::<u8>().is_err());
}

#[test]
fn no_more_attachments_are_made_than_a_packet_may_have() {
    let packet = || RawPacket::new(PacketKind::Event, "/");
    let limits = Limits::new().attachments(2);
    let many = |count| ("x", vec![Bytes::from_static(b"ab"); count]);
    let two = packet().with_data(&many(2), &limits).unwrap();
    assert_eq!(two.attachments.len(), 2);
    let three = packet().with_data(&many(1_000_000), &limits);
    assert_eq!(three, Err(DecodeError::TooManyAttachments { limit: 2 }));
    // What can't be JSON is another error.
    let map = std::collections::BTreeMap::from([((1, 2), 3)]);
    let error = packet().with_data(&map, &limits).unwrap_err();
    assert!(matches!(error, DecodeError::Custom(_)), "{error}");
}

proptest! {
    /// Whatever a parser makes of a message, it is refused or means what the same packet means in
    /// a text.
    #[test]
    fn what_is_proven_has_valid_json(
        kind in 0_u8..5,
        namespace in "/?[a-z,0-9]{0,4}",
        id in proptest::option::of(any::<u64>()),
        data in proptest::option::of(r#"[\[\]{}",:a0-9 ]{0,12}"#),
        count in 0_usize..3,
    ) {
        let packet = RawPacket {
            id,
            data: data.clone().map(Into::into),
            attachments: vec![Bytes::new(); count].into(),
            ..RawPacket::new(PacketKind::from_number(kind).unwrap(), namespace.clone())
        };
        if let Ok(proven) = proven(packet) {
            let packet = proven.packet();
            let named = if namespace.is_empty() { "/" } else { &namespace };
            prop_assert_eq!(packet.namespace(), named);
            let json = data.as_deref().unwrap_or_default();
            let whole: Option<Value> = serde_json::from_str(json).ok();
            match packet {
                Packet::Event { id: read, args, .. } => {
                    prop_assert_eq!(read, id);
                    let list = whole.and_then(|it| it.as_array().map(Vec::len));
                    let args: Vec<Value> = serde_json::from_str(&format!("[{}]", args.json())).unwrap();
                    prop_assert_eq!(list, Some(args.len() + 1));
                }
                Packet::Ack { id: read, args, .. } => {
                    prop_assert_eq!(Some(read), id);
                    let args: Value = serde_json::from_str(&format!("[{}]", args.json())).unwrap();
                    prop_assert_eq!(whole, Some(args));
                }
                Packet::Connect { auth, .. } => prop_assert_eq!(auth.is_some(), whole.is_some()),
                Packet::Disconnect { .. } => prop_assert!(json.trim().is_empty()),
                Packet::ConnectError { .. } => prop_assert!(whole.is_some()),
            }
        }
    }
}
