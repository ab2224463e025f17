//! Arguments, read as types of all sorts. Without placeholders they must be read alike with and
//! without attachments, which go different ways; and what is written must be read as it was.
#![no_main]

use std::collections::BTreeMap;
use std::fmt::Debug;

use antiphon_protocol::engine::Revision;
use antiphon_protocol::socket::{Args, Decoder, Limits, OwnedArgs, Packet, from_json};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Unit,
    One(Option<Bytes>),
    Two(i8, String),
    Fields { a: Bytes, b: Option<Box<Self>> },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    id: u8,
    #[serde(flatten)]
    rest: BTreeMap<String, Untagged>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Data(Bytes),
    Many(Vec<Self>),
}

fuzz_target!(|data: &[u8]| {
    let Ok(args) = std::str::from_utf8(data) else {
        return;
    };
    let text = format!("2[\"e\",{args}]");
    let mut decoder = Decoder::new(Revision::V4, Limits::default());
    let Ok(Some(Packet::Event { args: plain, .. })) = decoder.text(&text) else {
        return;
    };
    let text = format!("52-[\"e\",{args}]");
    if !matches!(decoder.text(&text), Ok(None)) {
        // Only a placeholder can be wrong with it.
        assert!(names_placeholder(plain));
        return;
    }
    decoder
        .binary(Bytes::from_static(b"first"))
        .expect("outstanding");
    let last = decoder
        .binary(Bytes::from_static(b"\xff"))
        .expect("outstanding");
    let assembled = last.expect("complete");
    let Packet::Event { args: binary, .. } = assembled.packet() else {
        panic!("an event");
    };
    let alike = !names_placeholder(plain);
    check::<Value>(plain, binary, alike);
    check::<(Value, Option<Value>)>(plain, binary, alike);
    check::<Bytes>(plain, binary, alike);
    check::<(String, Option<f32>, Vec<u8>)>(plain, binary, alike);
    check::<Kind>(plain, binary, alike);
    check::<Vec<Kind>>(plain, binary, alike);
    check::<Flat>(plain, binary, alike);
    check::<Option<Vec<Untagged>>>(plain, binary, alike);
    check::<BTreeMap<i16, BTreeMap<u8, (u8, u8)>>>(plain, binary, alike);
    check::<(i128, char, ())>(plain, binary, alike);
});

/// Whether an object has the key of placeholders, however it is written.
fn names_placeholder(args: Args<'_>) -> bool {
    fn found(value: &Value) -> bool {
        match value {
            Value::Array(list) => list.iter().any(found),
            Value::Object(map) => map
                .iter()
                .any(|(key, value)| key == "_placeholder" || found(value)),
            _ => false,
        }
    }
    let list = format!("[{}]", args.json());
    from_json::<Value>(&list).is_ok_and(|list| found(&list))
}

fn check<T: DeserializeOwned + Serialize + Debug + PartialEq>(
    plain: Args<'_>,
    binary: Args<'_>,
    alike: bool,
) {
    let plain = plain.deserialize::<T>();
    let binary = binary.deserialize::<T>();
    if alike {
        assert_eq!(plain.as_ref().ok(), binary.as_ref().ok());
        if let (Err(plain), Err(binary)) = (&plain, &binary) {
            assert_eq!(plain.path(), binary.path());
        }
    }
    for result in [plain, binary] {
        match result {
            Ok(value) => {
                let Ok(written) = OwnedArgs::new(&value) else {
                    continue;
                };
                // `serde_json` reads long fractions with an error in the last digit.
                let json = written.as_args().json();
                if json.contains(['.', '+']) || json.contains("e-") {
                    continue;
                }
                // There are more types than JSON has; what was read and written once is stable.
                if let Ok(read) = written.as_args().deserialize::<T>() {
                    assert_eq!(OwnedArgs::new(&read).ok(), Some(written));
                }
            }
            Err(error) => assert!(error.to_string().len() < 2000),
        }
    }
}
