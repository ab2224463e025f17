//! The same value decodes the same with and without attachments, whatever the type.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};
use serde_json::Value;

use super::super::Packet;
use super::{assemble, decode};

/// Reads arguments both ways, which must agree. Whether they fit.
fn fits<T: DeserializeOwned + Debug + PartialEq>(args: &str) -> bool {
    let text = format!("2[\"e\",{args}]");
    let Ok(Packet::Event { args: plain, .. }) = decode(&text) else {
        panic!("{text}");
    };
    let assembled = assemble(&format!("51-[\"e\",{args}]"), &[b"x"]);
    let Packet::Event { args: binary, .. } = assembled.packet() else {
        panic!("{text}");
    };
    let (plain, binary) = (plain.deserialize::<T>(), binary.deserialize::<T>());
    assert_eq!(plain.as_ref().ok(), binary.as_ref().ok(), "{args}");
    if let (Err(plain), Err(binary)) = (&plain, &binary) {
        assert_eq!(plain.path(), binary.path(), "{args}");
    }
    plain.is_ok()
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
enum Name {
    A,
    B,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct New<T>(T);

const KEYS: [&str; 24] = [
    "1",
    " 1",
    "1 ",
    "+1",
    "01",
    "-1",
    "- 1",
    "1.0",
    "1e0",
    "0x1",
    "",
    " ",
    "\\u0031",
    "\\t1",
    "256",
    "70000",
    "99999999999999999999",
    "true",
    " true",
    "false",
    "null",
    "A",
    "\\u0041",
    "b",
];

#[test]
fn keys_of_maps() {
    for key in KEYS {
        let map = format!(r#"{{"{key}":{{}}}}"#);
        type Of<K> = BTreeMap<K, Value>;
        fits::<Of<i8>>(&map);
        fits::<Of<i16>>(&map);
        fits::<Of<i64>>(&map);
        fits::<Of<i128>>(&map);
        fits::<Of<u8>>(&map);
        fits::<Of<u16>>(&map);
        fits::<Of<u64>>(&map);
        fits::<Of<u128>>(&map);
        fits::<Of<bool>>(&map);
        fits::<Of<char>>(&map);
        assert!(fits::<Of<String>>(&map));
        fits::<Of<Cow<'static, str>>>(&map);
        fits::<Of<Name>>(&map);
        fits::<Of<Option<u8>>>(&map);
        fits::<Of<New<i16>>>(&map);
        fits::<Of<New<Option<New<bool>>>>>(&map);
        fits::<Of<()>>(&map);
        fits::<Of<(u8, u8)>>(&map);
        fits::<Vec<(f32,)>>(&map);
        fits::<Value>(&map);
    }
    assert!(fits::<BTreeMap<i16, Value>>(r#"{"1":{}}"#));
    assert!(!fits::<BTreeMap<i16, Value>>(r#"{" 1":{}}"#));
}

/// `serde_json` panics over these without attachments: see `Key`.
#[test]
fn keys_that_are_no_booleans_beside_attachments() {
    let text = "51-[\"e\",{\"\u{e9}\":1}]";
    let assembled = assemble(text, &[b"x"]);
    let Packet::Event { args, .. } = assembled.packet() else {
        panic!();
    };
    let read = args.deserialize::<BTreeMap<bool, u8>>();
    assert!(read.is_err(), "{read:?}");
}

#[test]
fn names_of_variants() {
    #[derive(Debug, PartialEq, Deserialize)]
    enum Kind {
        A(u8),
        B { b: Option<u8> },
        C,
    }
    for name in KEYS {
        for inner in ["1", "null", "{}", "[]", "{\"b\":1}", "\"\""] {
            let value = format!(r#"{{"{name}":{inner}}}"#);
            fits::<Kind>(&value);
            fits::<Result<u8, Name>>(&value);
        }
    }
    assert!(fits::<Kind>(r#"{"A":1}"#));
    assert!(fits::<Kind>(r#"{"\u0041":1}"#));
    assert!(!fits::<Kind>(r#"{"A":1,"B":{}}"#));
}

#[test]
fn types_that_read_nothing() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Fixed(#[serde(deserialize_with = "seven")] u8);
    fn seven<'de, D: Deserializer<'de>>(_: D) -> Result<u8, D::Error> {
        Ok(7)
    }
    assert!(fits::<(Fixed, u8)>("\"a\",1"));
    fits::<Vec<Fixed>>("[1,2]");
    fits::<BTreeMap<String, Fixed>>(r#"{"a":1,"b":2}"#);
    fits::<Option<Fixed>>("1");
}

#[test]
fn scalars_and_lists() {
    for json in [
        "1",
        "-1",
        "1.5",
        "1e400",
        "-0",
        "true",
        "null",
        r#""1""#,
        r#""\u0041""#,
        "[]",
        "[1]",
        "[1,2]",
        "[[1],[2]]",
        "{}",
        r#"{"a":1}"#,
        r#"{"a":1,"a":2}"#,
        r#"["A",{"A":1}]"#,
        "[null,[null]]",
        "340282366920938463463374607431768211455",
    ] {
        fits::<Value>(json);
        fits::<u8>(json);
        fits::<i128>(json);
        fits::<f64>(json);
        fits::<()>(json);
        fits::<((),)>(json);
        fits::<Vec<u8>>(json);
        fits::<Option<Option<u8>>>(json);
        fits::<((u8,),)>(json);
        fits::<BTreeMap<String, u8>>(json);
        fits::<bytes::Bytes>(json);
        fits::<Vec<Value>>(json);
        fits::<Vec<Name>>(json);
    }
}

#[test]
fn depth() {
    for levels in [98, 99] {
        let nested = "[".repeat(levels) + &"]".repeat(levels);
        assert!(fits::<Value>(&nested), "{levels}");
    }
}
