use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::{
    Assembled, Decoder, Limits, OwnedArgs, Packet, ack, ack_from, connect_with, disconnect, event,
    event_from, json, reserved,
};
use super::decoder;
use crate::engine::{Encoded, EncodedMessage, Form, Revision};

/// JSON in which bytes may stand anywhere.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
    Data(Bytes),
    List(Vec<Self>),
    Map(BTreeMap<String, Self>),
}

#[derive(Debug, PartialEq, Deserialize, Serialize)]
struct Pair<T>(T, T);

#[derive(Debug, PartialEq, Deserialize, Serialize)]
struct New<T>(T);

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => value.serialize(serializer),
            Self::Int(value) => value.serialize(serializer),
            Self::Text(value) => value.serialize(serializer),
            Self::Data(value) => value.serialize(serializer),
            Self::List(value) => value.serialize(serializer),
            Self::Map(value) => value.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TreeVisitor;
        impl<'de> Visitor<'de> for TreeVisitor {
            type Value = Tree;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a tree")
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Int(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Int(value as i64))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_owned()))
            }
            fn visit_bytes<E>(self, value: &[u8]) -> Result<Tree, E> {
                Ok(Tree::Data(Bytes::copy_from_slice(value)))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(value) = seq.next_element()? {
                    list.push(value);
                }
                Ok(Tree::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((key, value)) = access.next_entry()? {
                    map.insert(key, value);
                }
                Ok(Tree::Map(map))
            }
        }
        deserializer.deserialize_any(TreeVisitor)
    }
}

impl Tree {
    fn attachments(&self) -> usize {
        match self {
            Self::Data(_) => 1,
            Self::List(list) => list.iter().map(Self::attachments).sum(),
            Self::Map(map) => map.values().map(Self::attachments).sum(),
            _ => 0,
        }
    }
}

pub(super) fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::Bool),
        any::<i64>().prop_map(Tree::Int),
        any::<String>().prop_map(Tree::Text),
        vec(any::<u8>(), 0..20).prop_map(|data| Tree::Data(data.into())),
    ];
    leaf.prop_recursive(5, 30, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Tree::List),
            btree_map(any::<String>(), inner, 0..5).prop_map(Tree::Map),
        ]
    })
    .prop_filter("too many attachments", |tree| tree.attachments() <= 5)
}

pub(super) fn namespace() -> impl Strategy<Value = String> {
    prop_oneof![Just("/".to_owned()), "/[^,?]{0,20}"]
}

fn revision() -> impl Strategy<Value = Revision> {
    prop_oneof![Just(Revision::V3), Just(Revision::V4)]
}

/// Sends a message as its connection would, and hands what arrives to `check`.
fn transport(message: &EncodedMessage, revision: Revision, check: impl FnOnce(Packet<'_>)) {
    let Encoded::Message(message) = message.in_form(Form::of(revision)) else {
        panic!("packets");
    };
    let mut decoder = Decoder::new(
        revision,
        Limits {
            ack_digits: 20,
            ..Limits::default()
        },
    );
    let text = std::str::from_utf8(&message.first().payload()[1..]).unwrap();
    let mut last: Option<Assembled> = None;
    let packet = decoder.text(text).unwrap();
    for attachment in message.attachments() {
        assert!(last.is_none() && decoder.is_incomplete());
        let type_byte = usize::from(revision == Revision::V3);
        let data = Bytes::copy_from_slice(&attachment.payload()[type_byte..]);
        last = decoder.binary(data).unwrap();
    }
    assert!(!decoder.is_incomplete());
    match (packet, last) {
        (Some(packet), None) => check(packet),
        (None, Some(assembled)) => check(assembled.packet()),
        both => panic!("{both:?}"),
    }
}

/// Sends a value as the arguments of an event, which are so many, and reads it again.
fn arrives<T>(value: &T, count: usize, revision: Revision)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let message = event("/", None, "e", value).unwrap();
    transport(&message, revision, |packet| {
        let Packet::Event { args, .. } = packet else {
            panic!("{packet:?}");
        };
        let list = format!("[{}]", args.json());
        let list: Vec<IgnoredAny> = serde_json::from_str(&list).unwrap();
        assert_eq!(list.len(), count, "{value:?}");
        assert_eq!(args.deserialize::<T>().as_ref(), Ok(value));
    });
}

/// Texts that are nearly packets.
fn nearly() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[0-6]",
        2 => "[0-9]{1,3}-?",
        2 => "/[a-c?]{0,3},?",
        6 => proptest::sample::select(&[
            "[", "]", "{", "}", ",", ":", "\"", "\\", "\\u0041", "\"a\"", "\"_placeholder\"", "\"num\"",
            "true", "null", "0", "-1", "1.5e3", " ", "\n", "é", "[\"a\",", "{\"_placeholder\":true,\"num\":0}",
            "{\"a\":", "\u{0}",
        ][..]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn an_event_arrives_as_it_was_sent(
        namespace in namespace(),
        id in any::<Option<u64>>(),
        name in any::<String>().prop_filter("reserved", |name| reserved(name).is_none()),
        args in (tree(), tree()),
        revision in revision(),
    ) {
        let sent = event(&namespace, id, &name, &args).unwrap();
        transport(&sent, revision, |packet| {
            let Packet::Event { namespace: to, id: with, name: called, args: found } = packet else {
                panic!("{packet:?}");
            };
            assert_eq!((to, with, &*called), (&*namespace, id, &*name));
            assert_eq!(found.deserialize::<(Tree, Tree)>().unwrap(), args);
            assert_eq!(found.deserialize::<Tree>().unwrap(), args.0);
            // Passed on, it is the very same message.
            assert_eq!(event_from(to, with, &called, found).unwrap(), sent);
            let owned = found.to_owned();
            assert_eq!(owned.as_args(), found);
            assert_eq!(OwnedArgs::new(&args).unwrap(), owned);
        });
    }

    #[test]
    fn an_ack_arrives_as_it_was_sent(
        namespace in namespace(),
        id in any::<u64>(),
        reply in tree(),
        revision in revision(),
    ) {
        let sent = ack(&namespace, id, &reply).unwrap();
        transport(&sent, revision, |packet| {
            let Packet::Ack { namespace: to, id: with, args } = packet else {
                panic!("{packet:?}");
            };
            assert_eq!((to, with), (&*namespace, id));
            assert_eq!(args.deserialize::<Tree>().unwrap(), reply);
            assert_eq!(ack_from(to, with, args).unwrap(), sent);
            assert_eq!(ack(to, with, &(reply,)).unwrap(), sent);
        });
    }

    #[test]
    fn every_type_is_read_as_it_was_written(
        (a, b) in (tree(), tree()),
        result in any::<Result<i8, ()>>(),
        revision in revision(),
    ) {
        arrives(&(), 0, revision);
        arrives(&(a.clone(),), 1, revision);
        arrives(&(a.clone(), b.clone()), 2, revision);
        arrives(&((a.clone(), b.clone()), [()], result), 3, revision);
        arrives(&a, 1, revision);
        arrives(&[a.clone(), b.clone()], 1, revision);
        arrives(&Pair(a.clone(), b.clone()), 1, revision);
        arrives(&New((a.clone(), b.clone())), 1, revision);
        arrives(&New(()), 1, revision);
        arrives(&Box::new((a.clone(), b.clone())), 1, revision);
        arrives(&result.map(|number| (number, a)).map_err(|()| [b]), 1, revision);
    }

    #[test]
    fn a_connect_and_a_disconnect_arrive_as_they_were_sent(
        namespace in namespace(),
        auth in btree_map(any::<String>(), any::<String>(), 0..4),
        revision in revision(),
    ) {
        transport(&connect_with(&namespace, &auth).unwrap(), revision, |packet| {
            let Packet::Connect { namespace: to, query: None, auth: Some(json) } = packet else {
                panic!("{packet:?}");
            };
            assert_eq!(to, namespace);
            assert_eq!(serde_json::from_str::<BTreeMap<String, String>>(json).unwrap(), auth);
        });
        transport(&disconnect(&namespace), revision, |packet| {
            assert_eq!(packet, Packet::Disconnect { namespace: &namespace });
        });
    }

    #[test]
    fn no_sequence_of_messages_panics(
        messages in vec(prop_oneof![nearly().prop_map(Ok), Just(Err(Bytes::new()))], 0..20),
        revision in revision(),
    ) {
        let mut decoder = decoder(revision);
        for message in messages {
            match message {
                Ok(text) => {
                    if let Ok(Some(packet)) = decoder.text(&text) {
                        read(&packet);
                    }
                }
                Err(data) => {
                    if let Ok(Some(assembled)) = decoder.binary(data) {
                        read(&assembled.packet());
                    }
                }
            }
        }
    }

    /// `serde_json` is the judge of what is JSON.
    #[test]
    fn the_scanner_takes_exactly_json(text in nearly(), any_text in any::<String>()) {
        for text in [text, any_text] {
            let judged = serde_json::from_str::<IgnoredAny>(&text).is_ok();
            let start = json::whitespace(text.as_bytes(), 0);
            let found = json::whole(&text, start, BOUNDS).is_ok();
            prop_assert_eq!(found, judged, "{:?}", text);
        }
    }
}

const BOUNDS: json::Bounds = json::Bounds {
    depth: 100,
    values: usize::MAX,
};

/// Reads what a peer has sent as types of all sorts: each may refuse, none may panic.
fn read(packet: &Packet<'_>) {
    let (Packet::Event { args, .. } | Packet::Ack { args, .. }) = packet else {
        return;
    };
    let tree = args.deserialize::<Tree>();
    assert_eq!(tree.is_err(), args.json().is_empty());
    let _ = args.deserialize::<(Tree, Option<Bytes>)>();
    let _ = args.deserialize::<(Option<String>, u8)>();
    let _ = args.deserialize::<BTreeMap<u8, Vec<Bytes>>>();
    let _ = args.deserialize::<serde_json::Value>();
    event_from("/", None, "e", *args).unwrap();
}
