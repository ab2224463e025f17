//! What is written. The stock parser 3.0.2 in Node 20 has been seen to read all packets of
//! `every_kind_of_packet` as they are meant.

use super::super::super::{Args, EncodeError, Packet, msgpack};
use super::{message, text};

/// The bytes of the one argument of an event.
fn value(json: &str) -> Vec<u8> {
    let message = message(&format!("2[\"e\",{json}]"), &[]).unwrap();
    let value = message.strip_prefix(b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1e");
    value.expect(json).to_vec()
}

#[test]
fn every_kind_of_packet() {
    for (text, attachments, expected) in [
        ("0", &[] as &[&[u8]], &b"\x82\xa4type\x00\xa3nsp\xa1/"[..]),
        (
            r#"0/chat,{"sid":"abc"}"#,
            &[],
            b"\x83\xa4type\x00\xa3nsp\xa5/chat\xa4data\x81\xa3sid\xa3abc",
        ),
        ("1/chat,", &[], b"\x82\xa4type\x01\xa3nsp\xa5/chat"),
        (
            r#"2["e"]"#,
            &[],
            b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xa1e",
        ),
        (
            r#"2/chat,200["e", 1 , "x" ]"#,
            &[],
            b"\x84\xa4type\x02\xa3nsp\xa5/chat\xa2id\xcc\xc8\xa4data\x93\xa1e\x01\xa1x",
        ),
        (
            r#"52-["e",{"_placeholder":true,"num":1},[{"num":0,"_placeholder":true}]]"#,
            &[&b"ab"[..], b""],
            b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x93\xa1e\xc4\x00\x91\xc4\x02ab",
        ),
        (
            "30[]",
            &[],
            b"\x84\xa4type\x03\xa3nsp\xa1/\xa2id\x00\xa4data\x90",
        ),
        (
            r#"61-1[{"_placeholder":true,"num":0}]"#,
            &[&b"x"[..]],
            b"\x84\xa4type\x03\xa3nsp\xa1/\xa2id\x01\xa4data\x91\xc4\x01x",
        ),
        (
            r#"4{"message":"no"}"#,
            &[],
            b"\x83\xa4type\x04\xa3nsp\xa1/\xa4data\x81\xa7message\xa2no",
        ),
        (
            r#"4"no""#,
            &[],
            b"\x83\xa4type\x04\xa3nsp\xa1/\xa4data\xa2no",
        ),
    ] {
        assert_eq!(message(text, attachments).unwrap(), expected, "{text}");
    }
}

#[test]
fn an_empty_namespace_is_the_main_one() {
    let mut message = Vec::new();
    msgpack::encode(&Packet::Disconnect { namespace: "" }, &mut message).unwrap();
    assert_eq!(message, b"\x82\xa4type\x01\xa3nsp\xa1/");
}

/// Integers take the least room, as those of the stock parser.
#[test]
fn numbers() {
    for (json, expected) in [
        ("0", &b"\x00"[..]),
        ("127", b"\x7f"),
        ("128", b"\xcc\x80"),
        ("255", b"\xcc\xff"),
        ("256", b"\xcd\x01\x00"),
        ("65535", b"\xcd\xff\xff"),
        ("65536", b"\xce\x00\x01\x00\x00"),
        ("4294967295", b"\xce\xff\xff\xff\xff"),
        ("4294967296", b"\xcf\x00\x00\x00\x01\x00\x00\x00\x00"),
        (
            "18446744073709551615",
            b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
        ),
        ("-1", b"\xff"),
        ("-32", b"\xe0"),
        ("-33", b"\xd0\xdf"),
        ("-128", b"\xd0\x80"),
        ("-129", b"\xd1\xff\x7f"),
        ("-32768", b"\xd1\x80\x00"),
        ("-32769", b"\xd2\xff\xff\x7f\xff"),
        ("-2147483648", b"\xd2\x80\x00\x00\x00"),
        ("-2147483649", b"\xd3\xff\xff\xff\xff\x7f\xff\xff\xff"),
        (
            "-9223372036854775808",
            b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
        ),
        // Beyond them, and with a point or an exponent.
        (
            "18446744073709551616",
            b"\xcb\x43\xf0\x00\x00\x00\x00\x00\x00",
        ),
        (
            "-9223372036854775809",
            b"\xcb\xc3\xe0\x00\x00\x00\x00\x00\x00",
        ),
        ("1.0", b"\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00"),
        ("1e2", b"\xcb\x40\x59\x00\x00\x00\x00\x00\x00"),
        ("0.1", b"\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"),
        ("-0", b"\xcb\x80\x00\x00\x00\x00\x00\x00\x00"),
        // As `JSON.parse` reads it.
        ("1e400", b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00"),
    ] {
        assert_eq!(value(json), expected, "{json}");
    }
}

#[test]
fn literals_and_texts() {
    for (json, expected) in [
        ("null", &b"\xc0"[..]),
        ("false", b"\xc2"),
        ("true", b"\xc3"),
        (r#""""#, b"\xa0"),
        (r#""\"\u00e9\n""#, b"\xa4\"\xc3\xa9\n"),
        (r#""\ud83d\ude00""#, b"\xa4\xf0\x9f\x98\x80"),
        // Half of a pair has no UTF-8.
        (r#""a\ud83d""#, b"\xa4a\xef\xbf\xbd"),
    ] {
        assert_eq!(value(json), expected, "{json}");
    }
    for (length, head) in [
        (31, &b"\xbf"[..]),
        (32, b"\xd9\x20"),
        (255, b"\xd9\xff"),
        (256, b"\xda\x01\x00"),
        (65_535, b"\xda\xff\xff"),
        (65_536, b"\xdb\x00\x01\x00\x00"),
    ] {
        let text = "a".repeat(length);
        let found = value(&format!("\"{text}\""));
        assert!(found == [head, text.as_bytes()].concat(), "{length}");
    }
}

#[test]
fn lists_and_maps() {
    for (json, expected) in [
        ("[]", &b"\x90"[..]),
        ("{}", b"\x80"),
        (" [ 1 , [ ] , { } ] ", b"\x93\x01\x90\x80"),
        (
            r#"{ "a" : { "b" : [ ] } , "c" : 1 }"#,
            b"\x82\xa1a\x81\xa1b\x90\xa1c\x01",
        ),
        // Without attachments it is an object as others.
        (
            r#"{"_placeholder":true,"num":0}"#,
            b"\x82\xac_placeholder\xc3\xa3num\x00",
        ),
    ] {
        assert_eq!(value(json), expected, "{json}");
    }
    for (count, list, map) in [
        (15, &b"\x9f"[..], &b"\x8f"[..]),
        (16, b"\xdc\x00\x10", b"\xde\x00\x10"),
        (65_535, b"\xdc\xff\xff", b"\xde\xff\xff"),
        (65_536, b"\xdd\x00\x01\x00\x00", b"\xdf\x00\x01\x00\x00"),
    ] {
        let found = value(&format!("[{}]", vec!["1"; count].join(",")));
        assert!(found == [list, &vec![1; count]].concat(), "{count}");
        let found = value(&format!("{{{}}}", vec!["\"a\":1"; count].join(",")));
        assert!(
            found == [map, &b"\xa1a\x01".repeat(count)].concat(),
            "{count}"
        );
    }
}

/// Counts that need bytes of their own are put in place at the end, each where it belongs.
#[test]
fn long_lists_in_long_lists() {
    let repeat = |value: &str, count| format!("[{}]", vec![value; count].join(","));
    let inner = repeat("1", 16);
    let longest = repeat("2", 65_536);
    let found = value(&format!(
        "[{},{longest},[{inner}],{{\"a\":{inner}}}]",
        repeat(&inner, 17),
    ));
    let inner = [b"\xdc\x00\x10", &[1; 16][..]].concat();
    let expected = [
        &b"\x94\xdc\x00\x11"[..],
        &inner.repeat(17),
        b"\xdd\x00\x01\x00\x00",
        &vec![2; 65_536],
        b"\x91",
        &inner,
        b"\x81\xa1a",
        &inner,
    ];
    assert!(found == expected.concat());
}

#[test]
fn many_arguments() {
    let args = vec!["1"; 20].join(",");
    let message = message(&format!("2[\"e\",{args}]"), &[]).unwrap();
    let head = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\xdc\x00\x15\xa1e";
    assert_eq!(message, [&head[..], &[1; 20]].concat());
}

#[test]
fn any_depth_is_written() {
    let deep = ["[".repeat(1_000_000), "]".repeat(1_000_000)].concat();
    let mut message = Vec::new();
    let args = Args::new(&deep, &[]);
    let packet = Packet::Ack {
        namespace: "/",
        id: 0,
        args,
    };
    msgpack::encode(&packet, &mut message).unwrap();
    assert!(message.ends_with(b"\x91\x91\x91\x90"));
}

#[test]
fn more_attachments_than_a_text_may_have() {
    let data: Vec<_> = vec![bytes::Bytes::from_static(b"x"); 300];
    let json: Vec<_> = (0..300)
        .map(|num| format!(r#"{{"_placeholder":true,"num":{num}}}"#))
        .collect();
    let json = json.join(",");
    let packet = Packet::Ack {
        namespace: "/",
        id: 0,
        args: Args::new(&json, &data),
    };
    let mut message = Vec::new();
    msgpack::encode(&packet, &mut message).unwrap();
    assert!(message.ends_with(&b"\xc4\x01x".repeat(300)));
    let longer = bytes::Bytes::from(vec![7; 70_000]);
    let packet = Packet::Ack {
        namespace: "/",
        id: 0,
        args: Args::new(
            r#"{"_placeholder":true,"num":0}"#,
            std::slice::from_ref(&longer),
        ),
    };
    message.clear();
    msgpack::encode(&packet, &mut message).unwrap();
    let head = b"\x91\xc6\x00\x01\x11\x70";
    assert!(message.ends_with(&[&head[..], &longer].concat()));
}

/// A caller can make a packet of anything. Nothing of it is left in the message then.
#[test]
fn what_is_refused() {
    let connect = |auth| Packet::Connect {
        namespace: "/",
        query: None,
        auth: Some(auth),
    };
    let error = |data| Packet::ConnectError {
        namespace: "/",
        data,
    };
    let event = |name: &'static str| Packet::Event {
        namespace: "/",
        id: None,
        name: name.into(),
        args: Args::empty(),
    };
    let packets = ["[]", "\"a\"", "1", "null", ""].map(connect).into_iter();
    let packets = packets.chain(["", "  "].map(error));
    let malformed = [
        "{",
        "{}{}",
        "{} 1",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{]",
        "{1:2}",
        "{\"a\":[1,]}",
        "{\"a\":[,1]}",
        "{\"a\":[1 2]}",
        "{\"a\" 1}",
        "{\"a\":\"\\x\"}",
        "{\"a\":01}",
        "{\"a\":nul}",
        "{\"a\":[}}",
        "{\"a\":1",
    ];
    for packet in packets
        .chain(malformed.map(connect))
        .chain(malformed.map(error))
    {
        let mut message = b"before".to_vec();
        let found = msgpack::encode(&packet, &mut message);
        assert!(
            matches!(found, Err(EncodeError::InvalidPayload { .. })),
            "{packet:?}: {found:?}",
        );
        assert_eq!(message, b"before");
    }
    let mut message = b"before".to_vec();
    let found = msgpack::encode(&event("disconnect"), &mut message);
    assert!(matches!(
        found,
        Err(EncodeError::ReservedEvent("disconnect"))
    ));
    let data = [bytes::Bytes::new()];
    for json in [
        r#"{"_placeholder":true,"num":1}"#,
        r#"1,[{"_placeholder":true}]"#,
        r#"{"_placeholder":true,"num":-1}"#,
    ] {
        let packet = Packet::Ack {
            namespace: "/",
            id: 0,
            args: Args::new(json, &data),
        };
        let found = msgpack::encode(&packet, &mut message);
        assert!(
            matches!(found, Err(EncodeError::IllegalPlaceholder)),
            "{json}"
        );
    }
    assert_eq!(message, b"before");
}

#[test]
fn what_is_written_is_read() {
    for json in ["{\"a\":[]}", "{}"] {
        let sent = message(&format!("0/a,{json}"), &[]).unwrap();
        assert_eq!(text(&sent), Ok(format!("0/a,{json}")));
    }
}
