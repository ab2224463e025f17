//! One value of MessagePack, judged by `rmpv`: both take the same, and what is sent on is what came.
#![no_main]

use antiphon_protocol::socket::{DecodeError, Limits, msgpack};
use libfuzzer_sys::fuzz_target;
use rmpv::Value;
use rmpv::decode::read_value_with_max_depth;

const LIMITS: Limits = Limits::new()
    .attachments(usize::MAX)
    .depth(127)
    .values(usize::MAX)
    .namespace(1)
    .event_name(0)
    .ack_digits(1);

/// An ACK up to its one argument.
const HEAD: &[u8] = b"\x84\xa4type\x03\xa3nsp\xa1/\xa2id\x01\xa4data\x91";

fuzz_target!(|data: &[u8]| {
    let message = [HEAD, data].concat();
    let mut buffer = msgpack::Buffer::default();
    let ours = msgpack::decode(&message, &LIMITS, &mut buffer);
    let mut rest = data;
    let theirs = read_value_with_max_depth(&mut rest, 300)
        .ok()
        .filter(|_| rest.is_empty());
    let packet = match (ours, &theirs) {
        (Ok(packet), Some(_)) => packet,
        (Err(_), None) => return,
        (Ok(packet), None) => panic!("only ours takes {packet:?}"),
        // To `rmpv` it is nil.
        (Err(DecodeError::InvalidMsgpack { reason, .. }), _) if reason.contains("0xc1") => return,
        // The rules of the packet, and of JSON.
        (Err(error), Some(value)) => {
            let mut forged = 0;
            let has_form = has_form(value, 1, &mut forged);
            let is_placeholder = matches!(
                error,
                DecodeError::IllegalPlaceholder { .. } | DecodeError::RepeatedPlaceholder { .. }
            );
            assert!(
                !has_form || forged > 0 && is_placeholder,
                "{error}: {value}"
            );
            return;
        }
    };
    let Some(expected) = theirs.and_then(normal) else {
        return;
    };
    let mut again = Vec::new();
    msgpack::encode(&packet, &mut again).expect("can be sent on");
    let mut rest = again.strip_prefix(HEAD).expect("the same packet");
    let found = read_value_with_max_depth(&mut rest, 300).expect("a value");
    assert!(rest.is_empty());
    assert_eq!(found, expected);
});

/// Whether the value has a form in JSON. Counts the objects that may pass for placeholders.
fn has_form(value: &Value, depth: u8, forged: &mut usize) -> bool {
    match value {
        Value::Array(list) => {
            depth < 127 && list.iter().all(|value| has_form(value, depth + 1, forged))
        }
        Value::Map(map) => {
            *forged += usize::from(
                map.iter()
                    .any(|(key, _)| key.as_str() == Some("_placeholder")),
            );
            depth < 127
                && map.iter().all(|(key, value)| {
                    matches!(
                        key,
                        Value::String(_) | Value::Integer(_) | Value::Boolean(_)
                    ) && has_form(value, depth + 1, forged)
                })
        }
        Value::Ext(-1, data) => match data.len() {
            4 => true,
            8 => data[0] < 0xee,
            12 => data[0] < 0x3b,
            _ => false,
        },
        // The length alone does not say which of them it is.
        Value::Ext(0, data) => !matches!(data.len(), 1 | 2 | 4 | 8 | 16),
        Value::Ext(..) => false,
        _ => true,
    }
}

/// The value that is left after it has been JSON. `None` if that is not easily told.
fn normal(value: Value) -> Option<Value> {
    Some(match value {
        Value::F32(value) => return normal(Value::F64(value.into())),
        Value::F64(value) if !value.is_finite() => Value::Nil,
        Value::String(text) => String::from_utf8_lossy(text.as_bytes()).as_ref().into(),
        Value::Array(list) => Value::Array(list.into_iter().map(normal).collect::<Option<_>>()?),
        Value::Map(map) => Value::Map(
            map.into_iter()
                .map(|(key, value)| {
                    let key = match normal(key)? {
                        key @ Value::String(_) => key,
                        other => other.to_string().into(),
                    };
                    Some((key, normal(value)?))
                })
                .collect::<Option<_>>()?,
        ),
        Value::Ext(0, data) if !matches!(data.len(), 1 | 8) => Value::Binary(data),
        Value::Ext(..) => return None,
        other => other,
    })
}
