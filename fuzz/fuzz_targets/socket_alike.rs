//! The same values, with and without attachments, as types of all sorts. Both go ways of their own,
//! and must come to the same.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use antiphon_fuzz::Json;
use antiphon_protocol::engine::Revision;
use antiphon_protocol::socket::{Args, Decoder, Limits, Packet, from_json};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
enum Name {
    #[serde(rename = "")]
    Empty,
    A,
    Unit,
}

#[derive(Debug, PartialEq, Deserialize)]
enum Kind {
    Unit,
    One(Option<Box<Self>>),
    Two(i8, String),
    Fields { a: Option<u8>, b: Option<Value> },
}

#[derive(Debug, PartialEq, Deserialize)]
struct Flat {
    a: Option<Value>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Text(String),
    Many(Vec<Self>),
    Keys(BTreeMap<i8, Value>),
    Any(Value),
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "a")]
enum Tagged {
    A {
        b: u8,
    },
    #[serde(rename = "1")]
    One,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct New<T>(T);

type Map<K> = BTreeMap<K, Value>;

fuzz_target!(|data: &[u8]| {
    let values = Json::new(data).values();
    let plain_text = format!("2[\"e\",{values}]");
    let mut decoder = Decoder::new(Revision::V4, Limits::default());
    let plain = decoder.text(&plain_text);
    let Ok(Some(Packet::Event { args: plain, .. })) = plain else {
        panic!("{plain:?}: {plain_text}");
    };
    let text = format!("51-[\"e\",{values}]");
    let mut decoder = Decoder::new(Revision::V4, Limits::default());
    assert_eq!(decoder.text(&text), Ok(None));
    let assembled = decoder.binary(Bytes::from_static(b"x"));
    let assembled = assembled.expect("outstanding").expect("complete");
    let Packet::Event { args: binary, .. } = assembled.packet() else {
        panic!("an event");
    };
    check::<Value>(plain, binary);
    check::<(Value, Option<Value>, Option<Value>)>(plain, binary);
    check::<Map<String>>(plain, binary);
    check::<Map<i8>>(plain, binary);
    check::<Map<i16>>(plain, binary);
    check::<Map<u64>>(plain, binary);
    check::<Map<i128>>(plain, binary);
    // For keys that begin with other characters `serde_json` 1.0.154 panics while it writes its error.
    if values.is_ascii() {
        check::<Map<bool>>(plain, binary);
        check::<BTreeMap<u8, BTreeMap<bool, (u8, Option<u8>)>>>(plain, binary);
    }
    check::<Map<char>>(plain, binary);
    check::<Map<Name>>(plain, binary);
    check::<Map<Option<u8>>>(plain, binary);
    check::<Map<New<Option<New<i16>>>>>(plain, binary);
    check::<Map<()>>(plain, binary);
    check::<Kind>(plain, binary);
    check::<Vec<Kind>>(plain, binary);
    check::<Result<Name, String>>(plain, binary);
    check::<Flat>(plain, binary);
    check::<Vec<Untagged>>(plain, binary);
    check::<Tagged>(plain, binary);
    check::<BTreeSet<String>>(plain, binary);
    check::<(String, Option<f64>, Vec<u8>)>(plain, binary);
    check::<(char, i128, ())>(plain, binary);
    check::<Option<Option<Bytes>>>(plain, binary);
    check::<((), (u8, New<f32>))>(plain, binary);
    // A value by itself, as `auth` is one.
    if let Ok(value) = from_json::<Value>(&values) {
        assert_eq!(plain.deserialize(), Ok(value));
    }
});

fn check<T: DeserializeOwned + Debug + PartialEq>(plain: Args<'_>, binary: Args<'_>) {
    let plain = plain.deserialize::<T>();
    let binary = binary.deserialize::<T>();
    assert_eq!(plain.as_ref().ok(), binary.as_ref().ok());
    if let (Err(plain), Err(binary)) = (&plain, &binary) {
        assert_eq!(plain.path(), binary.path());
    }
}
