use std::borrow::Cow;

use bytes::Bytes;

use super::super::{Args, DecodeError, Decoder, Limits, Packet, RESERVED_EVENTS};
use super::{assemble, decode, decode_v3, decoder, refuse};
use crate::engine::Revision;

fn event<'a>(namespace: &'a str, id: Option<u64>, name: &'a str, json: &'a str) -> Packet<'a> {
    Packet::Event {
        namespace,
        id,
        name: Cow::Borrowed(name),
        args: Args::new(json, &[]),
    }
}

const fn connect<'a>(namespace: &'a str, auth: Option<&'a str>) -> Packet<'a> {
    Packet::Connect {
        namespace,
        query: None,
        auth,
    }
}

#[test]
fn a_connect_has_an_object_or_no_payload() {
    for (text, packet) in [
        ("0", connect("/", None)),
        (r#"0{"token":"x"}"#, connect("/", Some(r#"{"token":"x"}"#))),
        ("0/admin", connect("/admin", None)),
        ("0/admin,", connect("/admin", None)),
        (
            r#"0/admin,{"sid":"oSO0OpakMV_3jnilAAAA"}"#,
            connect("/admin", Some(r#"{"sid":"oSO0OpakMV_3jnilAAAA"}"#)),
        ),
        ("0{} ", connect("/", Some("{}"))),
    ] {
        assert_eq!(decode(text), Ok(packet), "{text}");
    }
    for text in ["0null", "0[]", "0\"a\"", "01", "012{}", "0/a,true", "0 {}"] {
        let error = refuse(text);
        assert!(
            matches!(
                error,
                DecodeError::InvalidPayload {
                    packet: "CONNECT",
                    ..
                }
            ),
            "{text}: {error}"
        );
    }
}

#[test]
fn a_disconnect_has_no_payload() {
    for (text, namespace) in [("1", "/"), ("1/admin,", "/admin"), ("1/admin", "/admin")] {
        assert_eq!(decode(text), Ok(Packet::Disconnect { namespace }), "{text}");
    }
    for text in ["1{}", "1/admin,{}", "112", "1null", "1 "] {
        let error = refuse(text);
        assert!(
            matches!(
                error,
                DecodeError::InvalidPayload {
                    packet: "DISCONNECT",
                    ..
                }
            ),
            "{text}: {error}"
        );
    }
}

#[test]
fn an_event_has_a_name_and_arguments() {
    for (text, packet) in [
        (r#"2["hi",1]"#, event("/", None, "hi", "1")),
        (r#"2["ev"]"#, event("/", None, "ev", "")),
        (r#"212["ev"]"#, event("/", Some(12), "ev", "")),
        (
            r#"2/admin,456["p",{}]"#,
            event("/admin", Some(456), "p", "{}"),
        ),
        (r#"2/a,["p",1,2 ]"#, event("/a", None, "p", "1,2")),
        (r#"2[ "p" , 1 , 2 ] "#, event("/", None, "p", "1 , 2")),
        (r#"2["",null]"#, event("/", None, "", "null")),
        (r#"2["é",["ü"]]"#, event("/", None, "é", r#"["ü"]"#)),
        ("20[\"p\"]", event("/", Some(0), "p", "")),
    ] {
        assert_eq!(decode(text), Ok(packet), "{text}");
    }
}

#[test]
fn a_numeric_name_is_its_text() {
    for (text, name) in [
        ("2[5,1]", "5"),
        ("2[-1]", "-1"),
        ("2[1.5]", "1.5"),
        ("2[1e+21]", "1e+21"),
    ] {
        let Ok(Packet::Event { name: found, .. }) = decode(text) else {
            panic!("{text}");
        };
        assert_eq!(found, name);
    }
}

#[test]
fn only_a_name_with_escapes_is_copied() {
    let Ok(Packet::Event { name, .. }) = decode(r#"2["echo",{"n":1}]"#) else {
        panic!();
    };
    assert!(matches!(name, Cow::Borrowed("echo")));
    let Ok(Packet::Event { name, .. }) = decode(r#"2["a\n\u00e9"]"#) else {
        panic!();
    };
    assert_eq!(name, Cow::<str>::Owned("a\né".to_owned()));
}

#[test]
fn an_event_without_a_proper_name_is_refused() {
    assert_eq!(refuse("2[]"), DecodeError::MissingEventName);
    assert_eq!(refuse("2[ ]"), DecodeError::MissingEventName);
    for text in ["2[null]", "2[true,1]", "2[{}]", "2[[\"a\"]]"] {
        assert_eq!(refuse(text), DecodeError::InvalidEventName, "{text}");
    }
    for name in RESERVED_EVENTS {
        let text = format!("2[{name:?},1]");
        assert_eq!(refuse(&text), DecodeError::ReservedEvent(name));
    }
    // However it is written.
    assert_eq!(
        refuse(r#"2["\u0063onnect"]"#),
        DecodeError::ReservedEvent("connect")
    );
    assert!(decode(r#"2["Connect"]"#).is_ok());
}

#[test]
fn an_ack_has_an_id_and_an_array() {
    for (text, namespace, id, json) in [
        ("3/admin,456[]", "/admin", 456, ""),
        ("30[1,\"a\"]", "/", 0, "1,\"a\""),
        ("312[null]", "/", 12, "null"),
        ("3007[]", "/", 7, ""),
    ] {
        let args = Args::new(json, &[]);
        let packet = Packet::Ack {
            namespace,
            id,
            args,
        };
        assert_eq!(decode(text), Ok(packet), "{text}");
    }
    assert_eq!(refuse("3[1]"), DecodeError::MissingAckId);
    assert_eq!(refuse("3/a,[1]"), DecodeError::MissingAckId);
    for text in ["31", "31{}", "31\"a\"", "31null"] {
        let error = refuse(text);
        assert!(
            matches!(error, DecodeError::InvalidPayload { packet: "ACK", .. }),
            "{text}: {error}"
        );
    }
}

#[test]
fn a_connect_error_has_an_object_or_a_string() {
    for (text, namespace, data) in [
        (
            r#"4/admin,{"message":"Not authorized","data":{"code":"E1"}}"#,
            "/admin",
            r#"{"message":"Not authorized","data":{"code":"E1"}}"#,
        ),
        (r#"4"no""#, "/", r#""no""#),
    ] {
        let packet = Packet::ConnectError { namespace, data };
        assert_eq!(decode(text), Ok(packet.clone()), "{text}");
        assert_eq!(decode_v3(text), Ok(packet), "{text}");
    }
    for text in ["4", "4/admin,", "4null", "4[]", "41"] {
        let error = refuse(text);
        assert!(
            matches!(
                error,
                DecodeError::InvalidPayload {
                    packet: "CONNECT_ERROR",
                    ..
                }
            ),
            "{text}: {error}"
        );
    }
}

#[test]
fn an_error_of_revision_4_has_any_json() {
    for data in ["null", "[1]", "true", "12"] {
        let text = format!("4/admin,{data}");
        let packet = Packet::ConnectError {
            namespace: "/admin",
            data,
        };
        assert_eq!(decode_v3(&text), Ok(packet));
    }
    assert!(decode_v3("4/admin,").is_err());
    assert!(decode_v3("4/admin,{").is_err());
}

#[test]
fn a_namespace_of_revision_4_may_carry_a_query() {
    let packet = Packet::Connect {
        namespace: "/admin",
        query: Some("token=1&a=?"),
        auth: None,
    };
    assert_eq!(decode_v3("0/admin?token=1&a=?,"), Ok(packet.clone()));
    assert_eq!(decode_v3("0/admin?token=1&a=?"), Ok(packet));
    // As in Node, it is no part of the name in any packet.
    assert_eq!(
        decode_v3(r#"2/admin?token=1,["a"]"#),
        Ok(event("/admin", None, "a", ""))
    );
    // Revision 5 has credentials for that.
    assert_eq!(
        decode("0/admin?token=1,"),
        Ok(connect("/admin?token=1", None))
    );
}

#[test]
fn the_comma_may_be_missing_only_where_nothing_follows() {
    // Without the comma all of it is the namespace, and the event has no payload.
    let error = refuse(r#"2/admin["x"]"#);
    assert!(matches!(
        error,
        DecodeError::InvalidPayload {
            packet: "EVENT",
            ..
        }
    ));
}

#[test]
fn a_type_is_a_digit_from_0_to_6() {
    assert_eq!(refuse(""), DecodeError::Empty);
    assert_eq!(refuse("7"), DecodeError::UnknownType('7'));
    assert_eq!(refuse("é"), DecodeError::UnknownType('é'));
    assert_eq!(refuse("[]"), DecodeError::UnknownType('['));
}

#[test]
fn a_payload_is_json_to_its_end() {
    for text in [
        "2",
        "2[",
        "2[\"a\"",
        "2[\"a\",]",
        "2[\"a\",,1]",
        "2[\"a\" 1]",
        "2[\"a\"]]",
        "2[\"a\"]x",
        "2[\"a\",{]",
        "2[\"a\",{}",
        "2[\"a\",{\"b\"}]",
        "2[\"a\",{\"b\":}]",
        "2[\"a\",{\"b\":1,}]",
        "2[\"a\",{b:1}]",
        "2[\"a\",01]",
        "2[\"a\",1.]",
        "2[\"a\",-]",
        "2[\"a\",1e]",
        "2[\"a\",nul]",
        "2[\"a\",NaN]",
        "2[\"a\",'b']",
        "2[\"a\n\"]",
        "2[\"\\x\"]",
        "2[\"a\",\"\\u12g4\"]",
        "2[\"a\",[}]",
        "2[\"a\",{]]",
        "2 [\"a\"]",
        "2x[\"a\"]",
        "2,[\"a\"]",
        "2-1[\"a\"]",
        "0{",
        "0{}{}",
        "0{\"a\"}",
        "31[",
        "4\"a",
        "4{}x",
    ] {
        let error = refuse(text);
        assert!(
            matches!(
                error,
                DecodeError::InvalidJson { .. } | DecodeError::InvalidPayload { .. }
            ),
            "{text}: {error}"
        );
    }
    assert_eq!(refuse("2[\"a\"]x"), DecodeError::InvalidJson { offset: 6 });
}

#[test]
fn nesting_is_bounded() {
    let nested = |levels: usize| {
        let inner = levels - 1;
        format!("2[\"a\",{}{}]", "[".repeat(inner), "]".repeat(inner))
    };
    assert!(decode(&nested(100)).is_ok());
    assert_eq!(refuse(&nested(101)), DecodeError::TooDeep { limit: 100 });
    assert_eq!(
        refuse(&format!("2[\"a\",{}", "[".repeat(1_000_000))),
        DecodeError::TooDeep { limit: 100 }
    );
    assert_eq!(
        refuse(&format!("0{}", "{\"a\":".repeat(1_000_000))),
        DecodeError::TooDeep { limit: 100 }
    );
    // What is as deep as can be configured still is read without overflowing anything.
    let limits = Limits {
        depth: u8::MAX,
        ..Limits::default()
    };
    let mut decoder = Decoder::new(Revision::V4, limits);
    let deepest = nested(127);
    let Ok(Some(Packet::Event { args, .. })) = decoder.text(&deepest) else {
        panic!();
    };
    assert!(args.deserialize::<serde_json::Value>().is_ok());
    assert!(decoder.text(&nested(128)).is_err());
}

#[test]
fn each_limit_is_kept() {
    let namespace = |length: usize| format!("0/{},", "n".repeat(length - 1));
    assert!(decode(&namespace(256)).is_ok());
    assert!(decode(namespace(256).trim_end_matches(',')).is_ok());
    let too_long = DecodeError::NamespaceTooLong { limit: 256 };
    assert_eq!(refuse(&namespace(257)), too_long);
    assert_eq!(refuse(namespace(257).trim_end_matches(',')), too_long);

    let name = |length: usize| format!("2[\"{}\"]", "e".repeat(length));
    assert!(decode(&name(1024)).is_ok());
    assert_eq!(
        refuse(&name(1025)),
        DecodeError::EventNameTooLong { limit: 1024 }
    );

    assert!(decode("3999999999999999[]").is_ok());
    assert_eq!(
        refuse("31234567890123456[]"),
        DecodeError::AckIdTooLong { limit: 15 }
    );
    let mut patient = Decoder::new(
        Revision::V4,
        Limits {
            ack_digits: 100,
            ..Limits::default()
        },
    );
    assert!(patient.text("399999999999999999999999[]").is_err());
}

#[test]
fn attachments_follow_their_packet() {
    let assembled = assemble(r#"51-["x",{"_placeholder":true,"num":0}]"#, &[b"abc"]);
    let Packet::Event { name, args, .. } = assembled.packet() else {
        panic!();
    };
    assert_eq!(name, "x");
    assert_eq!(args.json(), r#"{"_placeholder":true,"num":0}"#);
    assert_eq!(args.attachments(), ["abc"]);

    let assembled = assemble(
        r#"62-/admin,456[{"num":1,"_placeholder":true},{"_placeholder":true,"num":0}]"#,
        &[b"a", b"b"],
    );
    let Packet::Ack {
        namespace,
        id,
        args,
    } = assembled.packet()
    else {
        panic!();
    };
    assert_eq!((namespace, id), ("/admin", 456));
    assert_eq!(args.attachments(), ["a", "b"]);
}

#[test]
fn an_escaped_name_survives_the_wait_for_attachments() {
    let assembled = assemble(r#"51-["a\"b",{"_placeholder":true,"num":0}]"#, &[b""]);
    let Packet::Event { name, .. } = assembled.packet() else {
        panic!();
    };
    assert_eq!(name, "a\"b");
}

#[test]
fn a_binary_packet_says_how_many_attachments_it_has() {
    for text in [
        "5",
        "5[\"a\"]",
        "5-[\"a\"]",
        "51[\"a\"]",
        "5a-[\"a\"]",
        "51",
        "5 1-[\"a\"]",
    ] {
        assert_eq!(refuse(text), DecodeError::InvalidAttachmentCount, "{text}");
    }
    assert_eq!(refuse("50-[\"a\"]"), DecodeError::NoAttachments);
    assert_eq!(refuse("600-1[]"), DecodeError::NoAttachments);
    let too_many = DecodeError::TooManyAttachments { limit: 10 };
    assert_eq!(refuse("511-[\"a\"]"), too_many);
    assert_eq!(refuse("599999999999999999999999-[\"a\"]"), too_many);
    assert_eq!(decoder(Revision::V4).text("510-[\"a\"]"), Ok(None));
}

#[test]
fn a_placeholder_names_an_attachment_of_its_packet() {
    for placeholder in [
        r#"{"_placeholder":true,"num":1}"#,
        r#"{"_placeholder":true,"num":-1}"#,
        r#"{"_placeholder":true,"num":0.5}"#,
        r#"{"_placeholder":true,"num":"0"}"#,
        r#"{"_placeholder":true,"num":"splice"}"#,
        r#"{"_placeholder":true,"num":null}"#,
        r#"{"_placeholder":true,"num":[0]}"#,
        r#"{"_placeholder":true}"#,
        r#"{ "num" : 1 , "_placeholder" : true }"#,
        r#"{"\u005fplaceholder":true,"num":7}"#,
        r#"{"a":[{"b":{"_placeholder":true,"num":9}}]}"#,
        r#"{"_placeholder":true,"num":99999999999999999999999}"#,
    ] {
        let text = format!("51-[\"a\",{placeholder}]");
        assert_eq!(
            refuse(&text),
            DecodeError::IllegalPlaceholder { attachments: 1 },
            "{text}"
        );
        // Without attachments it is an object like any other.
        assert!(decode(&format!("2[\"a\",{placeholder}]")).is_ok());
    }
    for ordinary in [
        r#"{"_placeholder":false,"num":7}"#,
        r#"{"_placeholder":1,"num":7}"#,
        r#"{"num":{"_placeholder":true,"num":0}}"#,
        r#"{"num":7}"#,
        r#""{\"_placeholder\":true,\"num\":7}""#,
        r#"{"_placeholder":true,"num":0,"more":[{}]}"#,
        "{}",
    ] {
        let text = format!("51-[\"a\",{ordinary}]");
        assert_eq!(decoder(Revision::V4).text(&text), Ok(None), "{text}");
    }
}

#[test]
fn an_attachment_is_named_once() {
    for (attachments, args, repeated) in [
        (1, "$0,$0", 0),
        (1, "[$0,[1,{\"a\":$0}]]", 0),
        (2, "$0,$1,$1", 1),
        (2, "$1,{\"a\":[],\"b\":$0},\"x\",$0", 0),
        (1, "$0,{\"num\":0,\"\\u005fplaceholder\":true}", 0),
        (100, "$70,$71,$70", 70),
    ] {
        let mut text = args.to_owned();
        for num in (0..attachments).rev() {
            let placeholder = format!("{{\"_placeholder\":true,\"num\":{num}}}");
            text = text.replace(&format!("${num}"), &placeholder);
        }
        let limits = Limits {
            attachments: 100,
            ..Limits::default()
        };
        for head in [
            format!("5{attachments}-[\"e\","),
            format!("6{attachments}-7["),
        ] {
            let mut decoder = Decoder::new(Revision::V4, limits);
            assert_eq!(
                decoder.text(&format!("{head}{text}]")),
                Err(DecodeError::RepeatedPlaceholder { num: repeated }),
                "{args}"
            );
        }
    }
    // In another order, or not at all, they may be named.
    for args in [
        "",
        ",{\"_placeholder\":true,\"num\":1},{\"_placeholder\":true,\"num\":0}",
    ] {
        assert_eq!(
            decoder(Revision::V4).text(&format!("52-[\"e\"{args}]")),
            Ok(None)
        );
    }
}

#[test]
fn values_are_bounded() {
    let limit = 100_000;
    let too_many = DecodeError::TooManyValues { limit };
    // The name is a value, too.
    for (value, values) in [
        ("0,", 1),
        ("[],", 1),
        ("{},", 1),
        ("{\"\":0},", 2),
        ("[[0]],", 3),
    ] {
        let list = |count: usize| {
            let inner = value.repeat(count / values) + &"1,".repeat(count % values);
            format!("[\"e\",{}]", inner.trim_end_matches(','))
        };
        for (kind, id) in [("2", ""), ("3", "1"), ("51-", ""), ("61-", "1")] {
            let head = format!("{kind}{id}");
            let mut decoder = decoder(Revision::V4);
            assert!(
                decoder.text(&(head.clone() + &list(limit - 1))).is_ok(),
                "{value}"
            );
            let mut decoder = super::decoder(Revision::V4);
            assert_eq!(
                decoder.text(&(head + &list(limit))),
                Err(too_many.clone()),
                "{value}"
            );
        }
    }
    let object = |count: usize| format!("0{{\"a\":[{}0]}}", "0,".repeat(count - 3));
    assert!(decode(&object(limit)).is_ok());
    assert_eq!(refuse(&object(limit + 1)), too_many);
}

#[test]
fn a_packet_that_waits_says_for_whom() {
    let mut decoder = decoder(Revision::V4);
    assert_eq!(decoder.outstanding_namespace(), None);
    decoder.text("51-/admin,[\"a\"]").unwrap();
    assert_eq!(decoder.outstanding_namespace(), Some("/admin"));
    decoder.binary(Bytes::new()).unwrap();
    assert_eq!(decoder.outstanding_namespace(), None);
    decoder.text("61-7[]").unwrap();
    assert_eq!(decoder.outstanding_namespace(), Some("/"));
}

#[test]
fn a_text_must_not_interrupt_attachments() {
    let mut decoder = decoder(Revision::V4);
    decoder.text("52-[\"a\"]").unwrap();
    decoder.binary(Bytes::new()).unwrap();
    assert_eq!(
        decoder.text("2[\"b\"]"),
        Err(DecodeError::UnexpectedText { outstanding: 1 })
    );
}

#[test]
fn a_binary_message_needs_a_packet() {
    let mut decoder = decoder(Revision::V4);
    let unexpected = DecodeError::UnexpectedBinary;
    assert_eq!(decoder.binary(Bytes::new()).err(), Some(unexpected.clone()));
    decoder.text("51-[\"a\"]").unwrap();
    assert!(decoder.binary(Bytes::new()).unwrap().is_some());
    assert_eq!(decoder.binary(Bytes::new()).err(), Some(unexpected));
    assert!(decoder.text("2[\"b\"]").unwrap().is_some());
}

#[test]
fn an_idle_decoder_is_small() {
    assert!(size_of::<Decoder>() <= 56, "{}", size_of::<Decoder>());
}
