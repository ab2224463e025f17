//! `rmpv`, another implementation of MessagePack, as the judge.

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use rmpv::Value;
use rmpv::decode::read_value;
use rmpv::encode::write_value;
use serde_json::json;

use super::super::super::{Args, Limits, Packet, msgpack};

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "a{0,300}".prop_map(Value::from),
        vec(any::<u8>(), 0..300).prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 20, |inner| {
        let key = prop_oneof![any::<String>(), "-?[0-9]{0,4}"];
        prop_oneof![
            vec(inner.clone(), 0..20).prop_map(Value::Array),
            btree_map(key, inner, 0..20).prop_map(|map| {
                Value::Map(
                    map.into_iter()
                        .map(|(key, value)| (to_key(key), value))
                        .collect(),
                )
            }),
        ]
    })
}

/// A key that is an integer, if that is its text.
fn to_key(text: String) -> Value {
    match text.parse::<i64>() {
        Ok(integer) if integer.to_string() == text => integer.into(),
        _ => text.into(),
    }
}

/// The value as JSON with attachments, by the table in the documentation.
fn to_json(value: &Value, attachments: &mut Vec<Bytes>) -> serde_json::Value {
    match value {
        Value::Nil => json!(null),
        Value::Boolean(value) => json!(value),
        Value::Integer(value) => match value.as_u64() {
            Some(value) => json!(value),
            None => json!(value.as_i64()),
        },
        Value::F32(value) => json!(f64::from(*value)),
        Value::F64(value) => json!(value),
        Value::String(text) => json!(text.as_str()),
        Value::Binary(data) => {
            attachments.push(Bytes::copy_from_slice(data));
            json!({ "_placeholder": true, "num": attachments.len() - 1 })
        }
        Value::Array(list) => list
            .iter()
            .map(|value| to_json(value, attachments))
            .collect(),
        Value::Map(map) => map
            .iter()
            .map(|(key, value)| {
                let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                (key, to_json(value, attachments))
            })
            .collect(),
        Value::Ext(..) => panic!("no extension is made here"),
    }
}

fn write(value: &Value) -> Vec<u8> {
    let mut message = Vec::new();
    write_value(&mut message, value).unwrap();
    message
}

/// An ACK, in which any value may stand.
fn ack(value: Value) -> Value {
    Value::Map(vec![
        ("type".into(), 3.into()),
        ("nsp".into(), "/".into()),
        ("id".into(), 1.into()),
        ("data".into(), Value::Array(vec![value])),
    ])
}

fn parsed(json: &str) -> serde_json::Value {
    serde_json::from_str(json).unwrap()
}

const MANY: usize = 10_000;

proptest! {
    #[test]
    fn what_others_write_is_read(value in value()) {
        let limits = Limits { attachments: MANY, ..Limits::default() };
        let message = write(&ack(value.clone()));
        let mut buffer = msgpack::Buffer::default();
        let packet = msgpack::decode(&message, &limits, &mut buffer).unwrap();
        let Packet::Ack { args, .. } = packet else {
            panic!("{packet:?}");
        };
        let mut attachments = Vec::new();
        let expected = to_json(&value, &mut attachments);
        prop_assert_eq!(args.attachments(), attachments);
        // `serde_json` reads long fractions with an error in the last digit: both are read by it.
        let [found, expected] = [args.json(), &expected.to_string()].map(parsed);
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn others_read_what_is_written(value in value()) {
        let mut attachments = Vec::new();
        let json = to_json(&value, &mut attachments);
        let text = json.to_string();
        let packet = Packet::Ack { namespace: "/", id: 1, args: Args::new(&text, &attachments) };
        let mut message = Vec::new();
        msgpack::encode(&packet, &mut message).unwrap();
        let mut rest = &message[..];
        let read = read_value(&mut rest).unwrap();
        prop_assert!(rest.is_empty());
        // It writes the shortest forms, too.
        prop_assert_eq!(write(&read), message);
        let mut numbered = Vec::new();
        let Value::Map(fields) = read else { panic!() };
        let list = to_json(&fields[3].1, &mut numbered);
        // Attachments are numbered in the order of the keys, which is the same.
        prop_assert_eq!(list, json!([json]));
        prop_assert_eq!(numbered, attachments);
    }
}
