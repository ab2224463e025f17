//! Half of a surrogate pair in a string, as JavaScript's `slice` leaves it of an emoji: JSON by its
//! grammar, but no Unicode. A type gets U+FFFD for it; what is handed on stays as it came.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::{Args, OwnedArgs, Packet, event_from, from_json};
use super::{assemble, decode, decode_v3, wire};

/// Reads arguments, with and without attachments.
fn read<T: DeserializeOwned + Debug + PartialEq>(args: &str) -> T {
    let text = format!("2[\"e\",{args}]");
    let Ok(Packet::Event { args: plain, .. }) = decode(&text) else {
        panic!("{text}");
    };
    let plain = plain.deserialize::<T>();
    let assembled = assemble(&format!("51-[\"e\",{args}]"), &[b"x"]);
    let Packet::Event { args, .. } = assembled.packet() else {
        panic!("{text}");
    };
    assert_eq!(args.deserialize::<T>(), plain);
    plain.unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[derive(Debug, PartialEq, Deserialize)]
enum Kind {
    Unit,
    Text(String),
    Fields { text: Option<Box<str>> },
}

#[derive(Debug, PartialEq, Deserialize)]
struct Note {
    text: String,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Text(String),
}

#[test]
fn a_lone_surrogate_is_a_replacement_character() {
    for (json, text) in [
        (r#""\ud83d""#, "\u{fffd}"),
        (r#""\uDE00""#, "\u{fffd}"),
        (r#""a\ud83db""#, "a\u{fffd}b"),
        (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
        (r#""\ud83d\ude00\ude00""#, "\u{1f600}\u{fffd}"),
        (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
        (r#""\ud83d\n""#, "\u{fffd}\n"),
        (r#""\ud83d\\ude00""#, "\u{fffd}\\ude00"),
        (r#""\ud83d\u0041""#, "\u{fffd}A"),
        (r#""\ud83d\"""#, "\u{fffd}\""),
        // These are no surrogates, or whole pairs.
        (r#""\ud83d\ude00""#, "\u{1f600}"),
        (r#""\\ud83d""#, "\\ud83d"),
        (r#""\u005cud83d""#, "\\ud83d"),
        (r#""\ue000\ud7ff\ufffd""#, "\u{e000}\u{d7ff}\u{fffd}"),
    ] {
        assert_eq!(read::<String>(json), text, "{json}");
        assert_eq!(from_json::<String>(json).unwrap(), text, "{json}");
    }
}

#[test]
fn it_is_replaced_whatever_type_is_asked_for() {
    assert_eq!(read::<char>(r#""\ud83d""#), '\u{fffd}');
    assert_eq!(read::<Box<str>>(r#""a\ud83d""#).as_ref(), "a\u{fffd}");
    assert_eq!(read::<Cow<'_, str>>(r#""\ud83d""#), "\u{fffd}");
    assert_eq!(
        read::<Option<String>>(r#""\ud83d""#),
        Some("\u{fffd}".into())
    );
    assert_eq!(
        read::<(String, u8, Vec<String>)>(r#""\ud83d",1,["a","\udead"]"#),
        ("\u{fffd}".into(), 1, vec!["a".into(), "\u{fffd}".into()])
    );
    // The rest of a value isn't spoiled by it, wherever it stands.
    assert_eq!(
        read::<Value>(r#"{"a":[1,{"\ud83d":"x\ud83d"},null],"b":1.5}"#),
        json!({"a": [1, {"\u{fffd}": "x\u{fffd}"}, null], "b": 1.5})
    );
    assert_eq!(
        read::<HashMap<String, u8>>(r#"{"\ud83d":1}"#),
        HashMap::from([("\u{fffd}".into(), 1)])
    );
    assert_eq!(
        read::<BTreeMap<i16, String>>(r#"{"1":"\ud83d"}"#),
        BTreeMap::from([(1, "\u{fffd}".into())])
    );
    assert_eq!(
        read::<Note>(r#"{"text":"\ud83d","more":{"deep":["\ud83d"]}}"#),
        Note {
            text: "\u{fffd}".into(),
            rest: BTreeMap::from([("more".into(), json!({"deep": ["\u{fffd}"]}))]),
        }
    );
    assert_eq!(
        read::<Vec<Kind>>(r#"["Unit",{"Text":"\ud83d"},{"Fields":{"text":"\ud83d"}}]"#),
        [
            Kind::Unit,
            Kind::Text("\u{fffd}".into()),
            Kind::Fields {
                text: Some("\u{fffd}".into())
            }
        ]
    );
    assert_eq!(
        read::<Vec<Untagged>>(r#"[1,"\ud83d"]"#),
        [Untagged::Number(1), Untagged::Text("\u{fffd}".into())]
    );
    // Nobody asked for it: fields and arguments that are ignored.
    assert_eq!(read::<(u8,)>(r#"1,"\ud83d""#), (1,));
    let auth: Value = from_json(r#" {"token":"\ud83d","\ud83d":[]} "#).unwrap();
    assert_eq!(auth, json!({"token": "\u{fffd}", "\u{fffd}": []}));
}

#[test]
fn it_is_replaced_beside_attachments() {
    let assembled = assemble(
        r#"61-7[{"\ud83d":{"_placeholder":true,"num":0},"text":"\ud83d"}]"#,
        &[b"\xff"],
    );
    let Packet::Ack { args, .. } = assembled.packet() else {
        panic!();
    };
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum Part {
        Text(String),
        Data(Bytes),
    }
    let read: BTreeMap<String, Part> = args.deserialize().unwrap();
    let expected = [
        ("text".to_owned(), Part::Text("\u{fffd}".into())),
        (
            "\u{fffd}".to_owned(),
            Part::Data(Bytes::from_static(b"\xff")),
        ),
    ];
    assert_eq!(read, BTreeMap::from(expected));
}

#[test]
fn an_event_may_have_it_in_its_name() {
    let text = r#"2["half \ud83d",1]"#;
    for packet in [decode(text), decode_v3(text)] {
        let Ok(Packet::Event { name, args, .. }) = packet else {
            panic!("{packet:?}");
        };
        assert_eq!(name, "half \u{fffd}");
        assert_eq!(args.json(), "1");
    }
    let assembled = assemble(r#"51-["\ude00",{"_placeholder":true,"num":0}]"#, &[b""]);
    let Packet::Event { name, .. } = assembled.packet() else {
        panic!();
    };
    assert_eq!(name, "\u{fffd}");
}

#[test]
fn what_is_handed_on_stays_as_it_came() {
    let text = r#"2["e",{"a":"\ud83d"}]"#;
    let Ok(Packet::Event { args, .. }) = decode(text) else {
        panic!();
    };
    assert_eq!(args.json(), r#"{"a":"\ud83d"}"#);
    let message = event_from("/", None, "e", args).unwrap();
    assert_eq!(wire(&message), text);
    let raw: (Box<RawValue>,) = args.deserialize().unwrap();
    assert_eq!(raw.0.get(), r#"{"a":"\ud83d"}"#);
    // Inside of a type, too, that is read once more for another text.
    let Ok(Packet::Event { args, .. }) = decode(r#"2["e","\ud83d",["\ud83d"]]"#) else {
        panic!();
    };
    let (text, raw): (String, Vec<Box<RawValue>>) = args.deserialize().unwrap();
    assert_eq!((text.as_str(), raw[0].get()), ("\u{fffd}", r#""\ud83d""#));
    let owned: OwnedArgs = args.to_owned();
    assert_eq!(owned.as_args().json(), args.json());
}

#[test]
fn errors_beside_it_say_where_they_are() {
    let fails = |args: Args<'_>| args.deserialize::<(String, BTreeMap<String, u8>)>().err();
    let Ok(Packet::Event { args, .. }) = decode(r#"2["e","\ud83d",{"a":"x"}]"#) else {
        panic!();
    };
    let error = fails(args).expect("doesn't fit");
    assert_eq!(error.path(), "[1].a");
    assert!(error.to_string().contains("expected u8"), "{error}");
    for json in [
        "",
        "\"\\ud83d",
        "[\"\\ud83d\"",
        "\"\\ud83d\" 1",
        "{\"\\ud83d\"}",
    ] {
        assert!(from_json::<Value>(json).is_err(), "{json}");
    }
}
