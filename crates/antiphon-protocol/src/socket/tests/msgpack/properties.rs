//! What is written is read as it was; what is read can be written; nothing panics.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::super::{Limits, OwnedArgs, Packet, event_from, msgpack, reserved};
use super::super::properties::{Tree, namespace, tree};

const ANY_ID: Limits = Limits {
    attachments: 20,
    depth: 100,
    values: 100_000,
    namespace: 256,
    event_name: 100_000,
    ack_digits: 20,
};

/// Sends a packet, and hands what arrives to `check`.
fn transport(packet: &Packet<'_>, check: impl FnOnce(Packet<'_>)) {
    let mut message = Vec::new();
    msgpack::encode(packet, &mut message).unwrap();
    let mut buffer = msgpack::Buffer::default();
    check(msgpack::decode(&message, &ANY_ID, &mut buffer).unwrap());
}

/// What may stand in a packet: whole values, and heads of what must follow.
const VALUES: &[&[u8]] = &[
    b"\xc0",
    b"\xc2",
    b"\xc3",
    b"\x00",
    b"\x02",
    b"\xff",
    b"\xa1/",
    b"\xa1e",
    b"\x90",
    b"\x80",
    b"\xc4\x01x",
    b"\xc7\x01\x00x",
    b"\xd4\x00\x00",
    b"\xd6\xff\x00\x00\x00\x01",
    b"\xd7\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a",
    b"\x91",
    b"\x92",
    b"\x93",
    b"\x81",
    b"\x82",
    b"\xdc",
    b"\xdf",
    b"\x82\xac_placeholder\xc3\xa3num\x00",
];

const FIELDS: &[&[u8]] = &[
    b"\xa4type\x02",
    b"\xa4type\x03",
    b"\xa4type\x00",
    b"\xa4type\x04",
    b"\xa3nsp\xa1/",
    b"\xa2id\x01",
];

/// Messages that are nearly packets: fields in any order, with values of all kinds.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        8 => select(VALUES).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..4),
    ];
    let data = (any::<bool>(), vec(value, 0..6)).prop_map(|(is_list, values)| {
        let head = if is_list { 0x90 } else { 0x80 } | values.len() as u8;
        [&b"\xa4data"[..], &[head], b"\xa1e", &values.concat()].concat()
    });
    let field = prop_oneof![3 => select(FIELDS).prop_map(<[u8]>::to_vec), 1 => data.clone()];
    let packet = (select(&FIELDS[..4]), data)
        .prop_map(|(kind, data)| vec![kind.to_vec(), data, FIELDS[4].to_vec(), FIELDS[5].to_vec()]);
    prop_oneof![vec(field, 0..6), packet]
        .prop_map(|fields| [&[0x80 | fields.len() as u8][..], &fields.concat()].concat())
}

proptest! {
    #[test]
    fn an_event_arrives_as_it_was_sent(
        namespace in namespace(),
        id in any::<Option<u64>>(),
        name in any::<String>().prop_filter("reserved", |name| reserved(name).is_none()),
        args in (tree(), tree()),
    ) {
        let owned = OwnedArgs::new(&args).unwrap();
        let packet = Packet::Event {
            namespace: &namespace,
            id,
            name: name.as_str().into(),
            args: owned.as_args(),
        };
        transport(&packet, |found| {
            assert_eq!(found, packet);
            let Packet::Event { args: found, .. } = found else {
                panic!();
            };
            assert_eq!(found.deserialize::<(Tree, Tree)>().unwrap(), args);
        });
    }

    #[test]
    fn an_ack_arrives_as_it_was_sent(
        namespace in namespace(),
        id in any::<u64>(),
        reply in vec(tree(), 0..20),
    ) {
        let owned = OwnedArgs::new(&(reply,)).unwrap();
        prop_assume!(owned.as_args().attachments().len() <= 20);
        let packet = Packet::Ack {
            namespace: &namespace,
            id,
            args: owned.as_args(),
        };
        transport(&packet, |found| assert_eq!(found, packet));
    }

    #[test]
    fn a_payload_arrives_as_it_was_sent(
        namespace in namespace(),
        payload in proptest::collection::btree_map(any::<String>(), any::<Option<f64>>(), 0..20),
    ) {
        let json = serde_json::to_string(&payload).unwrap();
        let packet = Packet::Connect { namespace: &namespace, query: None, auth: Some(&json) };
        transport(&packet, |found| assert_eq!(found, packet));
        let packet = Packet::ConnectError { namespace: &namespace, data: &json };
        transport(&packet, |found| assert_eq!(found, packet));
    }

    /// What a peer sends becomes JSON that can be read and sent on, in both forms, or an error.
    #[test]
    fn no_message_panics(message in nearly(), cut in any::<Index>(), any_bytes: Vec<u8>) {
        let shorter = &message[..cut.index(message.len())];
        for message in [&message, shorter, &any_bytes] {
            let mut buffer = msgpack::Buffer::default();
            let Ok(packet) = msgpack::decode(message, &Limits::default(), &mut buffer) else {
                continue;
            };
            if let Packet::Event { name, args, .. } = &packet {
                if !args.json().is_empty() {
                    args.deserialize::<Tree>().unwrap();
                }
                event_from("/", None, name, *args).unwrap();
            }
            // Sent on it is the same packet: the first time may have made a key of a number.
            transport(&packet, |found| assert_eq!(found, packet));
        }
    }
}
