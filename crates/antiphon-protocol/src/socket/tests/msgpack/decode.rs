//! What is read, and what is refused.

use super::super::super::{DecodeError, Limits, Packet, msgpack};
use super::{text, value};

fn refused(message: &[u8]) -> String {
    text(message).expect_err("is taken").to_string()
}

/// A packet of the fields that are given, written one after the other.
fn packet(count: u8, fields: &[u8]) -> Vec<u8> {
    [&[0x80 | count], fields].concat()
}

#[test]
fn numbers() {
    for (message, expected) in [
        (&b"\x00"[..], "0"),
        (b"\x7f", "127"),
        (b"\xff", "-1"),
        (b"\xe0", "-32"),
        (b"\xcc\xff", "255"),
        (b"\xcd\xff\xff", "65535"),
        (b"\xce\xff\xff\xff\xff", "4294967295"),
        (
            b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
            "18446744073709551615",
        ),
        (b"\xd0\x80", "-128"),
        (b"\xd1\x80\x00", "-32768"),
        (b"\xd2\x80\x00\x00\x00", "-2147483648"),
        (
            b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
            "-9223372036854775808",
        ),
        // Longer than need be.
        (b"\xcf\x00\x00\x00\x00\x00\x00\x00\x01", "1"),
        (b"\xd3\x00\x00\x00\x00\x00\x00\x00\x01", "1"),
        (b"\xd0\x7f", "127"),
        (b"\xca\x3f\x80\x00\x00", "1.0"),
        // A float of 32 bits is a number as it stands, as in JavaScript.
        (b"\xca\x3d\xcc\xcc\xcd", "0.10000000149011612"),
        (b"\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a", "0.1"),
        (b"\xcb\x80\x00\x00\x00\x00\x00\x00\x00", "-0.0"),
        // NaN and the infinities.
        (b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", "null"),
        (b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", "null"),
        (b"\xca\xff\x80\x00\x00", "null"),
    ] {
        assert_eq!(value(message).as_deref(), Ok(expected), "{message:x?}");
    }
}

#[test]
fn literals_and_texts() {
    for (message, expected) in [
        (&b"\xc0"[..], "null"),
        (b"\xc2", "false"),
        (b"\xc3", "true"),
        (b"\xa0", r#""""#),
        (b"\xd9\x01a", r#""a""#),
        (b"\xda\x00\x01a", r#""a""#),
        (b"\xdb\x00\x00\x00\x01a", r#""a""#),
        (b"\xa4\"\\\n\x01", r#""\"\\\n\u0001""#),
        (b"\xa2\xc3\xa9", r#""é""#),
        (b"\xa2\xff\xfe", "\"\u{fffd}\u{fffd}\""),
        (b"\xa2\xffa", "\"\u{fffd}a\""),
        // Half of a surrogate pair, as if it were a character.
        (b"\xa3\xed\xa0\xbd", "\"\u{fffd}\u{fffd}\u{fffd}\""),
    ] {
        assert_eq!(value(message).as_deref(), Ok(expected), "{message:x?}");
    }
}

#[test]
fn lists_and_maps() {
    for (message, expected) in [
        (&b"\x90"[..], "[]"),
        (b"\x80", "{}"),
        (b"\xdc\x00\x00", "[]"),
        (b"\xdf\x00\x00\x00\x00", "{}"),
        (b"\x92\x01\x91\x02", "[1,[2]]"),
        (b"\xdd\x00\x00\x00\x02\x01\x02", "[1,2]"),
        (b"\x82\xa1a\x01\xa1b\x80", r#"{"a":1,"b":{}}"#),
        (b"\xde\x00\x01\xa1a\x90", r#"{"a":[]}"#),
        // Twice the same key, as it may stand in a text.
        (b"\x82\xa1a\x01\xa1a\x02", r#"{"a":1,"a":2}"#),
        // Keys that are no strings are their text, as in JavaScript.
        (
            b"\x84\x01\x01\xff\x02\xc3\x03\xc2\x04",
            r#"{"1":1,"-1":2,"true":3,"false":4}"#,
        ),
        (b"\x81\xa1\"\x01", r#"{"\"":1}"#),
    ] {
        assert_eq!(value(message).as_deref(), Ok(expected), "{message:x?}");
    }
}

#[test]
fn keys_that_have_no_text() {
    for key in [
        &b"\xc0"[..],
        b"\xca\x3f\x80\x00\x00",
        b"\x90",
        b"\x80",
        b"\xc4\x01a",
        b"\xd4\x00\x00",
        b"\xd6\xff\x00\x00\x00\x00",
    ] {
        let map = [b"\x81", key, b"\x01"].concat();
        assert_eq!(
            value(&map),
            Err(DecodeError::InvalidMsgpack {
                offset: 22,
                reason: "a key that is no string, integer or boolean",
            }),
            "{key:x?}",
        );
    }
}

#[test]
fn undefined_is_null_and_no_entry() {
    assert_eq!(value(b"\x92\xd4\x00\x00\x01").as_deref(), Ok("[null,1]"));
    let undefined = b"\xd4\x00\x00";
    let a = [b"\xa1a", &undefined[..]].concat();
    let map = [b"\x84", &a[..], b"\xa1b\x01", &a, b"\xa1c\x02"].concat();
    assert_eq!(value(&map).as_deref(), Ok(r#"{"b":1,"c":2}"#));
    let map = [b"\x81", &a[..]].concat();
    assert_eq!(value(&map).as_deref(), Ok("{}"));
}

#[test]
fn binary_values_are_attachments() {
    let one = r#"{"_placeholder":true,"num":0}"#;
    for message in [
        &b"\xc4\x02ab"[..],
        b"\xc5\x00\x02ab",
        b"\xc6\x00\x00\x00\x02ab",
        // An `ArrayBuffer` in Node.
        b"\xc7\x02\x00ab",
        b"\xc8\x00\x02\x00ab",
        b"\xc9\x00\x00\x00\x02\x00ab",
    ] {
        assert_eq!(value(message), Ok(format!("{one} 6162")), "{message:x?}");
    }
    assert_eq!(value(b"\xc4\x00"), Ok(format!("{one} ")));
}

#[test]
fn times() {
    for (message, expected) in [
        (
            &b"\xd7\x00\x00\x00\x00\x00\x00\x00\x00\x01"[..],
            r#""1970-01-01T00:00:00.001Z""#,
        ),
        (b"\xd7\x00\x7f\xff\xff\xff\xff\xff\xff\xff", "null"),
        (b"\xd6\xff\x00\x00\x00\x01", r#""1970-01-01T00:00:01.000Z""#),
        (
            b"\xd7\xff\xee\x6b\x27\xfc\x00\x00\x00\x01",
            r#""1970-01-01T00:00:01.999Z""#,
        ),
        (
            b"\xc7\x0c\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff",
            r#""1969-12-31T23:59:59.000Z""#,
        ),
    ] {
        assert_eq!(value(message).as_deref(), Ok(expected), "{message:x?}");
    }
}

#[test]
fn unknown_extensions_are_refused() {
    for message in [
        &b"\xd4\x01\x00"[..],
        // `notepack.io` has no meaning for these: it has for another length, or another type.
        b"\xd5\x00\x00\x00",
        b"\xd6\x00\x00\x00\x00\x00",
        b"\xd8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\xd4\xff\x00",
        b"\xc7\x00\xff",
        b"\xc7\x03\x05abc",
        // A timestamp with more nanoseconds than a second has.
        b"\xd7\xff\xff\xff\xff\xff\x00\x00\x00\x01",
    ] {
        let error = value(message).unwrap_err().to_string();
        assert_eq!(
            error,
            "invalid MessagePack at byte 21: an extension that is unknown"
        );
    }
}

#[test]
fn the_fields_stand_in_any_order() {
    let (kind, namespace, id) = (
        &b"\xa4type\x02"[..],
        &b"\xa3nsp\xa2/a"[..],
        &b"\xa2id\x07"[..],
    );
    let data = &b"\xa4data\x92\xa1e\x01"[..];
    for fields in [
        [kind, namespace, id, data],
        [data, id, namespace, kind],
        [namespace, data, kind, id],
    ] {
        let message = packet(4, &fields.concat());
        assert_eq!(text(&message).as_deref(), Ok(r#"2/a,7["e",1]"#));
    }
}

#[test]
fn unknown_fields_are_skipped() {
    let deep = b"\x82\xa1a\x92\x01\xc4\x01x\xa1b\xcf\x00\x00\x00\x00\x00\x00\x00\x00";
    let message = packet(
        3,
        &[b"\xa4type\x01\xa7options", &deep[..], b"\xa3nsp\xa1/"].concat(),
    );
    assert_eq!(text(&message).as_deref(), Ok("1"));
    let message = packet(3, b"\xa4type\x01\xa3nsp\xa1/\xa1x\xc1");
    assert_eq!(
        refused(&message),
        "invalid MessagePack at byte 15: there is no type 0xc1"
    );
}

#[test]
fn a_field_comes_once() {
    for field in [
        &b"\xa4type\x02"[..],
        b"\xa3nsp\xa1/",
        b"\xa2id\x01",
        b"\xa4data\x91\xa1e",
    ] {
        let fields = [
            b"\xa4type\x02\xa3nsp\xa1/\xa2id\x01\xa4data\x91\xa1e",
            field,
        ]
        .concat();
        let message = packet(5, &fields);
        assert_eq!(
            text(&message),
            Err(DecodeError::InvalidMsgpack {
                offset: 25,
                reason: "a field that comes twice",
            }),
        );
    }
    // Neither nil is none.
    let message = packet(4, b"\xa4type\x01\xa3nsp\xa1/\xa4data\xc0\xa4data\xc0");
    assert!(text(&message).is_err());
}

#[test]
fn fields_of_the_wrong_kind() {
    let kind = "invalid field \"type\" of the packet: expected an integer from 0 to 4";
    for value in [
        &b"\x05"[..],
        b"\xff",
        b"\xc0",
        b"\xa12",
        b"\xcb\x40\x00\x00\x00\x00\x00\x00\x00",
    ] {
        let fields = [b"\xa3nsp\xa1/\xa4data\x91\xa1e\xa4type", value].concat();
        assert_eq!(refused(&packet(3, &fields)), kind, "{value:x?}");
    }
    assert_eq!(refused(&packet(2, b"\xa3nsp\xa1/\xa4data\x91\xa1e")), kind);
    let namespace = "invalid field \"nsp\" of the packet: expected a string that begins with / and holds no comma";
    for value in [
        &b"\x05"[..],
        b"\xc0",
        b"\xc4\x01/",
        b"\xa0",
        b"\xa1a",
        b"\xa4/a,b",
    ] {
        let fields = [b"\xa4type\x01\xa3nsp", value].concat();
        assert_eq!(refused(&packet(2, &fields)), namespace, "{value:x?}");
    }
    assert_eq!(refused(&packet(1, b"\xa4type\x01")), namespace);
    assert_eq!(refused(b"\x80"), kind);
    let id = "invalid field \"id\" of the packet: expected an integer that is not negative";
    for value in [&b"\xff"[..], b"\xa11", b"\xc2", b"\xca\x3f\x80\x00\x00"] {
        let fields = [b"\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xa1e\xa2id", value].concat();
        assert_eq!(refused(&packet(4, &fields)), id, "{value:x?}");
    }
}

#[test]
fn an_id_that_is_nil_or_undefined_is_none() {
    for value in [&b"\xc0"[..], b"\xd4\x00\x00"] {
        let fields = [b"\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xa1e\xa2id", value].concat();
        assert_eq!(text(&packet(4, &fields)).as_deref(), Ok(r#"2["e"]"#));
        let fields = [b"\xa4type\x03\xa3nsp\xa1/\xa4data\x91\xa1e\xa2id", value].concat();
        assert_eq!(text(&packet(4, &fields)), Err(DecodeError::MissingAckId));
    }
    let fields = b"\xa4type\x03\xa3nsp\xa1/\xa4data\x90";
    assert_eq!(text(&packet(3, fields)), Err(DecodeError::MissingAckId));
}

#[test]
fn the_data_of_each_type() {
    // Absent, nil, undefined; an object, a list, a string; others.
    let values: [&[u8]; 10] = [
        b"",
        b"\xa4data\xc0",
        b"\xa4data\xd4\x00\x00",
        b"\xa4data\x80",
        b"\xa4data\x91\xa1e",
        b"\xa4data\xa1s",
        b"\xa4data\x01",
        b"\xa4data\xc3",
        b"\xa4data\xc4\x01a",
        b"\xa4data\xd7\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    ];
    let expected: [[Option<&str>; 6]; 5] = [
        [Some("0"), Some("0"), Some("0"), Some("0{}"), None, None],
        [Some("1"), Some("1"), Some("1"), None, None, None],
        [None, None, None, None, Some(r#"21["e"]"#), None],
        [None, None, None, None, Some(r#"31["e"]"#), None],
        [None, None, None, Some("4{}"), None, Some(r#"4"s""#)],
    ];
    for (kind, expected) in (0..).zip(expected) {
        for (index, value) in values.into_iter().enumerate() {
            let fields = [b"\xa3nsp\xa1/\xa2id\x01\xa4type", &[kind][..], value].concat();
            let found = text(&packet(if value.is_empty() { 3 } else { 4 }, &fields));
            match expected.get(index).copied().flatten() {
                Some(text) => assert_eq!(found.as_deref(), Ok(text)),
                None => assert!(
                    matches!(found, Err(DecodeError::InvalidPayload { .. })),
                    "{kind} {value:x?}: {found:?}",
                ),
            }
        }
    }
}

#[test]
fn names_of_events() {
    let event = |list: &[u8]| {
        text(&packet(
            3,
            &[b"\xa4type\x02\xa3nsp\xa1/\xa4data", list].concat(),
        ))
    };
    assert_eq!(event(b"\x90"), Err(DecodeError::MissingEventName));
    for name in [
        &b"\xc0"[..],
        b"\xc3",
        b"\x90",
        b"\x80",
        b"\xc4\x00",
        b"\xcb\x7f\xf8\0\0\0\0\0\0",
    ] {
        let list = [b"\x91", name].concat();
        assert_eq!(
            event(&list),
            Err(DecodeError::InvalidEventName),
            "{name:x?}"
        );
    }
    assert_eq!(
        event(b"\x91\xa7connect"),
        Err(DecodeError::ReservedEvent("connect"))
    );
    // A number is its text.
    assert_eq!(event(b"\x92\x07\x01").as_deref(), Ok(r#"2["7",1]"#));
    assert_eq!(event(b"\x91\xff").as_deref(), Ok(r#"2["-1"]"#));
    let message = packet(3, b"\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa3a\"\n\x01");
    let mut buffer = msgpack::Buffer::default();
    let found = msgpack::decode(&message, &Limits::default(), &mut buffer);
    let Ok(Packet::Event { name, args, .. }) = found else {
        panic!("{found:?}");
    };
    assert_eq!((&*name, args.json()), ("a\"\n", "1"));
}

/// An application's own object must never stand for somebody's attachment.
#[test]
fn forged_placeholders() {
    let forged = b"\x82\xac_placeholder\xc3\xa3num\x00";
    // Without attachments it is an object as any other.
    assert_eq!(
        value(forged).as_deref(),
        Ok(r#"{"_placeholder":true,"num":0}"#)
    );
    let message = packet(
        3,
        &[b"\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1e", &forged[..]].concat(),
    );
    let mut buffer = msgpack::Buffer::default();
    let found = msgpack::decode(&message, &Limits::default(), &mut buffer);
    let Ok(Packet::Event { args, .. }) = found else {
        panic!("{found:?}");
    };
    assert!(args.attachments().is_empty());
    assert!(args.deserialize::<serde_json::Value>().unwrap().is_object());
    assert!(args.deserialize::<bytes::Bytes>().is_err());
    // Beside one it could be taken for that, so it is refused, before and behind it.
    let reversed = b"\x82\xa3num\x00\xac_placeholder\xc3";
    let other = b"\x82\xac_placeholder\xc3\xa3num\x01";
    let half = b"\x81\xac_placeholder\xc3";
    for forged in [&forged[..], reversed, other, half] {
        for list in [[b"\xc4\x01x", forged], [forged, b"\xc4\x01x"]] {
            let error = value(&[b"\x92", list[0], list[1]].concat()).unwrap_err();
            assert!(
                matches!(
                    error,
                    DecodeError::IllegalPlaceholder { attachments: 1 }
                        | DecodeError::RepeatedPlaceholder { num: 0 }
                ),
                "{error}",
            );
        }
    }
    // What only resembles one is no harm; nor is a text.
    for harmless in [
        &b"\x82\xac_placeholder\xc2\xa3num\x00"[..],
        b"\x82\xac_placeholder\xa4true\xa3num\x00",
        b"\xbd{\"_placeholder\":true,\"num\":0}",
        b"\x81\xbd{\"_placeholder\":true,\"num\":0}\x01",
    ] {
        assert!(value(&[b"\x92\xc4\x01x", harmless].concat()).is_ok());
    }
}

#[test]
fn payloads_carry_no_binary_values() {
    for (kind, name) in [(0, "CONNECT"), (4, "CONNECT_ERROR")] {
        let fields = [
            b"\xa4data\x81\xa1a\xc4\x01x\xa3nsp\xa1/\xa4type",
            &[kind][..],
        ]
        .concat();
        assert_eq!(
            text(&packet(3, &fields)),
            Err(DecodeError::InvalidPayload {
                packet: name,
                expected: "no binary values",
            }),
        );
    }
}

#[test]
fn what_is_no_packet() {
    assert_eq!(text(b""), Err(DecodeError::Empty));
    for message in [&b"\x90"[..], b"\x01", b"\xc0", b"\xa12", b"\xc1"] {
        assert!(matches!(
            text(message),
            Err(DecodeError::InvalidMsgpack { offset: 0, .. })
        ));
    }
    // The name of a field that is no string.
    assert!(text(b"\x83\x01\x02\xa4type\x01\xa3nsp\xa1/").is_err());
}

#[test]
fn a_message_is_one_packet_from_end_to_end() {
    let whole = packet(4, b"\xa4type\x02\xa3nsp\xa1/\xa2id\xcd\x01\x00\xa4data\x93\xa1e\xc4\x01x\xd7\x00\0\0\0\0\0\0\0\0");
    assert!(text(&whole).is_ok());
    for end in 1..whole.len() {
        assert!(
            matches!(text(&whole[..end]), Err(DecodeError::InvalidMsgpack { .. })),
            "{end}",
        );
    }
    let longer = [&whole[..], b"\xc0"].concat();
    assert_eq!(
        text(&longer),
        Err(DecodeError::InvalidMsgpack {
            offset: whole.len(),
            reason: "bytes after the packet",
        }),
    );
}

#[test]
fn a_buffer_is_used_again() {
    let mut buffer = msgpack::Buffer::default();
    let limits = Limits::default();
    let long = packet(
        3,
        b"\xa4type\x02\xa3nsp\xa1/\xa4data\x93\xa1e\xc4\x01x\xc4\x01y",
    );
    assert!(msgpack::decode(&long, &limits, &mut buffer).is_ok());
    assert!(msgpack::decode(b"\x81", &limits, &mut buffer).is_err());
    let short = packet(3, b"\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1e\x01");
    let found = msgpack::decode(&short, &limits, &mut buffer);
    let Ok(Packet::Event { args, .. }) = found else {
        panic!("{found:?}");
    };
    assert_eq!((args.json(), args.attachments().len()), ("1", 0));
}
