use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::{
    Args, Decoder, Draft, EncodeError, Fanout, Limits, OwnedArgs, Packet, Parser, RESERVED_EVENTS,
    ack, ack_error, ack_from, connect, connect_error, connect_with, disconnect, event, event_from,
    invalid_namespace, msgpack,
};
use super::{assemble, attachments, decode, wire};
use crate::engine::{Encoded, EncodedPacket, Form, Forms as _, Outbound, QueueLimits, Revision};

fn emitted<T: Serialize + ?Sized>(args: &T) -> String {
    let message = event("/", None, "e", args).unwrap();
    assert!(message.attachments().is_empty());
    wire(&message).to_owned()
}

fn replied<T: Serialize + ?Sized>(reply: &T) -> String {
    wire(&ack("/", 1, reply).unwrap()).to_owned()
}

#[derive(Serialize)]
struct Point {
    x: i32,
}

#[derive(Serialize)]
struct Pair(i32, &'static str);

#[derive(Serialize)]
struct New<T>(T);

#[derive(Serialize)]
struct Nothing;

#[derive(Serialize)]
enum Kind {
    Unit,
    One(i32),
    Two(i32, i32),
    Fields { a: i32 },
}

#[test]
fn a_tuple_is_the_list_of_arguments() {
    assert_eq!(emitted(&(1, "a", [2, 3])), r#"2["e",1,"a",[2,3]]"#);
    assert_eq!(emitted(&(1,)), r#"2["e",1]"#);
    assert_eq!(emitted(&((1, 2), ())), r#"2["e",[1,2],null]"#);
    assert_eq!(emitted(&([1, 2],)), r#"2["e",[1,2]]"#);
    assert_eq!(emitted(&((),)), r#"2["e",null]"#);
    assert_eq!(emitted(&()), r#"2["e"]"#);
    // By reference, too.
    assert_eq!(emitted(&&(1, "a")), r#"2["e",1,"a"]"#);
    assert_eq!(emitted(&&mut (1, "a")), r#"2["e",1,"a"]"#);
    assert_eq!(emitted(&&()), r#"2["e"]"#);
}

#[test]
fn what_serde_writes_as_a_tuple_is_one_argument_all_the_same() {
    struct Vector([f64; 2]);
    impl Serialize for Vector {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeTuple;
            let mut tuple = serializer.serialize_tuple(2)?;
            tuple.serialize_element(&self.0[0])?;
            tuple.serialize_element(&self.0[1])?;
            tuple.end()
        }
    }
    assert_eq!(emitted(&Vector([1.5, 2.5])), r#"2["e",[1.5,2.5]]"#);
    assert_eq!(emitted(&[1, 2]), r#"2["e",[1,2]]"#);
    assert_eq!(emitted(&[0; 0]), r#"2["e",[]]"#);
    assert_eq!(emitted(&[(1, 2)]), r#"2["e",[[1,2]]]"#);
    assert_eq!(emitted(&Pair(1, "a")), r#"2["e",[1,"a"]]"#);
    assert_eq!(emitted(&New((1, 2))), r#"2["e",[1,2]]"#);
    assert_eq!(emitted(&New(New([1, 2]))), r#"2["e",[1,2]]"#);
    assert_eq!(emitted(&Box::new((1, 2))), r#"2["e",[1,2]]"#);
    assert_eq!(emitted(&(Pair(1, "a"), [1])), r#"2["e",[1,"a"],[1]]"#);
}

#[test]
fn what_serde_writes_as_a_unit_is_one_argument_all_the_same() {
    assert_eq!(emitted(&Nothing), r#"2["e",null]"#);
    assert_eq!(emitted(&Value::Null), r#"2["e",null]"#);
    assert_eq!(emitted(&New(())), r#"2["e",null]"#);
    assert_eq!(emitted(&Box::new(())), r#"2["e",null]"#);
    assert_eq!(emitted(&Kind::Unit), r#"2["e","Unit"]"#);
}

#[test]
fn anything_else_is_the_one_argument() {
    assert_eq!(emitted("a"), r#"2["e","a"]"#);
    assert_eq!(emitted(""), r#"2["e",""]"#);
    assert_eq!(emitted(&vec![1, 2]), r#"2["e",[1,2]]"#);
    assert_eq!(emitted(&[1, 2][..]), r#"2["e",[1,2]]"#);
    assert_eq!(emitted(&Vec::<i32>::new()), r#"2["e",[]]"#);
    assert_eq!(emitted(&Point { x: 1 }), r#"2["e",{"x":1}]"#);
    assert_eq!(emitted(&New(5)), r#"2["e",5]"#);
    assert_eq!(emitted(&None::<i32>), r#"2["e",null]"#);
    assert_eq!(emitted(&Some(1)), r#"2["e",1]"#);
    assert_eq!(emitted(&Some((1, 2))), r#"2["e",[1,2]]"#);
    assert_eq!(emitted(&true), r#"2["e",true]"#);
    assert_eq!(emitted(&-1.5), r#"2["e",-1.5]"#);
    assert_eq!(emitted(&'x'), r#"2["e","x"]"#);
    assert_eq!(emitted(&json!({"a": [null]})), r#"2["e",{"a":[null]}]"#);
    assert_eq!(emitted(&Kind::One(1)), r#"2["e",{"One":1}]"#);
    assert_eq!(emitted(&Kind::Two(1, 2)), r#"2["e",{"Two":[1,2]}]"#);
    assert_eq!(
        emitted(&Kind::Fields { a: 1 }),
        r#"2["e",{"Fields":{"a":1}}]"#
    );
    assert_eq!(emitted(&format_args!("{}", 1)), r#"2["e","1"]"#);
    let raw = RawValue::from_string(r#"{"a": 1}"#.to_owned()).unwrap();
    assert_eq!(emitted(&raw), r#"2["e",{"a": 1}]"#);
    assert_eq!(emitted(&(&raw, &raw)), r#"2["e",{"a": 1},{"a": 1}]"#);
    // A `Result` is a value like any other in an event.
    assert_eq!(emitted(&Ok::<i32, i32>(1)), r#"2["e",{"Ok":1}]"#);
}

#[test]
fn a_reply_is_the_arguments_of_the_ack() {
    assert_eq!(replied(&(1, "a")), r#"31[1,"a"]"#);
    assert_eq!(replied(&()), "31[]");
    assert_eq!(replied("a"), r#"31["a"]"#);
    assert_eq!(replied(&vec![1]), "31[[1]]");
    assert_eq!(replied(&[1.5, 2.5]), "31[[1.5,2.5]]");
    assert_eq!(replied(&None::<i32>), "31[null]");
    assert_eq!(replied(&Nothing), "31[null]");
    assert_eq!(replied(&Kind::Unit), r#"31["Unit"]"#);
}

#[test]
fn a_result_that_is_a_reply_is_taken_apart() {
    assert_eq!(replied(&Ok::<_, ()>((1, "a"))), r#"31[1,"a"]"#);
    assert_eq!(replied(&Ok::<_, ()>(())), "31[]");
    assert_eq!(replied(&Err::<(), _>("no")), r#"31[{"error":"no"}]"#);
    assert_eq!(replied(&Err::<(), _>((1, 2))), r#"31[{"error":[1,2]}]"#);
    assert_eq!(replied(&&Err::<(), _>(1)), r#"31[{"error":1}]"#);
    assert_eq!(replied(&Ok::<_, ()>([1, 2])), "31[[1,2]]");
    assert_eq!(replied(&Ok::<_, ()>(&(1, 2))), "31[1,2]");
    assert_eq!(replied(&Ok::<_, ()>(Nothing)), "31[null]");
    assert_eq!(replied(&Err::<(), _>(())), r#"31[{"error":null}]"#);
    // Only as a whole.
    assert_eq!(replied(&New(Err::<(), _>(1))), r#"31[{"Err":1}]"#);
    assert_eq!(replied(&Some(Ok::<_, ()>(1))), r#"31[{"Ok":1}]"#);
    assert_eq!(replied(&Ok::<_, ()>(Ok::<i32, ()>(1))), r#"31[{"Ok":1}]"#);
    assert_eq!(replied(&(Err::<(), _>(1),)), r#"31[{"Err":1}]"#);
    let message = ack_error("/a", 7, "no").unwrap();
    assert_eq!(wire(&message), r#"3/a,7[{"error":"no"}]"#);
    let message = ack_error("/", 7, &Bytes::from_static(b"no")).unwrap();
    assert_eq!(
        wire(&message),
        r#"61-7[{"error":{"_placeholder":true,"num":0}}]"#
    );
}

#[test]
fn another_type_that_is_called_result_is_not_taken_apart() {
    #[derive(Serialize)]
    enum Result<T, E> {
        Ok(T),
        Err(E),
    }
    assert_eq!(replied(&Result::<_, ()>::Ok((1, 2))), r#"31[{"Ok":[1,2]}]"#);
    assert_eq!(replied(&Result::<(), _>::Err(1)), r#"31[{"Err":1}]"#);
}

#[test]
fn a_packet_names_its_namespace_unless_it_is_the_main_one() {
    let encoded = |namespace, id| wire(&event(namespace, id, "p", &1).unwrap()).to_owned();
    assert_eq!(encoded("/", None), r#"2["p",1]"#);
    assert_eq!(encoded("", None), r#"2["p",1]"#);
    assert_eq!(encoded("/", Some(12)), r#"212["p",1]"#);
    assert_eq!(encoded("/admin", None), r#"2/admin,["p",1]"#);
    assert_eq!(encoded("/admin", Some(456)), r#"2/admin,456["p",1]"#);
    assert_eq!(wire(&ack("/admin", 456, &()).unwrap()), "3/admin,456[]");
    let max = wire(&event("/", Some(u64::MAX), "p", &()).unwrap()).to_owned();
    assert_eq!(max, r#"218446744073709551615["p"]"#);
}

#[test]
fn a_name_is_written_as_a_json_string() {
    let message = event("/", None, "a\"\\\n\u{e9}", &()).unwrap();
    assert_eq!(wire(&message), "2[\"a\\\"\\\\\\n\u{e9}\"]");
}

#[test]
fn bytes_become_attachments() {
    #[derive(Serialize)]
    struct File {
        name: &'static str,
        content: Option<Bytes>,
    }
    let bytes = Bytes::from_static;
    let message = event("/", None, "x", &bytes(b"abc")).unwrap();
    assert_eq!(wire(&message), r#"51-["x",{"_placeholder":true,"num":0}]"#);
    assert_eq!(attachments(&message), [b"abc"]);

    let file = |content| File { name: "f", content };
    let files = vec![file(Some(bytes(b"a"))), file(None), file(Some(bytes(b"b")))];
    let message = event("/n", Some(3), "x", &(bytes(b"first"), 1, files)).unwrap();
    assert_eq!(
        wire(&message),
        concat!(
            r#"53-/n,3["x",{"_placeholder":true,"num":0},1,[{"name":"f","content":"#,
            r#"{"_placeholder":true,"num":1}},{"name":"f","content":null},"#,
            r#"{"name":"f","content":{"_placeholder":true,"num":2}}]]"#
        )
    );
    assert_eq!(attachments(&message), [&b"first"[..], b"a", b"b"]);

    let message = ack("/admin", 456, &Ok::<_, ()>(bytes(b"abc"))).unwrap();
    assert_eq!(
        wire(&message),
        r#"61-/admin,456[{"_placeholder":true,"num":0}]"#
    );
}

#[test]
fn a_packet_has_at_most_ten_attachments() {
    let bytes = |count| vec![Bytes::from_static(b"x"); count];
    let message = event("/", None, "x", &bytes(10)).unwrap();
    assert!(wire(&message).starts_with("510-[\"x\",[{"));
    let error = event("/", None, "x", &bytes(11)).unwrap_err();
    assert!(matches!(
        error,
        EncodeError::TooManyAttachments { count: 11, max: 10 }
    ));
    let args = OwnedArgs::new(&bytes(11)).unwrap();
    assert!(event_from("/", None, "x", args.as_args()).is_err());
    assert!(ack_from("/", 1, args.as_args()).is_err());
}

#[test]
fn a_draft_takes_as_many_attachments_as_it_is_told() {
    let bytes = |count| vec![Bytes::from_static(b"x"); count];
    let args = OwnedArgs::new(&bytes(11)).unwrap();
    let mut draft = Draft::new(11);
    draft.event("/", None, "x", &bytes(11)).unwrap();
    assert!(wire(&draft.finish()).starts_with("511-[\"x\",[{"));
    draft.event_from("/", None, "x", args.as_args()).unwrap();
    assert_eq!(draft.finish().attachments().len(), 11);
    draft.ack("/", 1, &bytes(11)).unwrap();
    assert!(draft.ack("/", 1, &bytes(12)).is_err());
    draft.ack_from("/", 1, args.as_args()).unwrap();
    assert_eq!(draft.finish().attachments().len(), 11);
}

#[test]
fn an_event_is_the_same_before_and_after_it_has_a_packet() {
    let long = "n".repeat(10_000);
    let deep = "[".repeat(1_000) + &"]".repeat(1_000);
    let raw = RawValue::from_string(deep.clone()).unwrap();
    let bytes = vec![Bytes::from_static(b"x"); 20];
    for namespace in ["/", "/a", "/a[\"]", &format!("/{long}")] {
        for id in [None, Some(0), Some(u64::MAX)] {
            for name in ["e", "", "1", "a\"]\\,[", "\u{1f600}", &long] {
                let args = (1, &raw, "]");
                let mut draft = Draft::new(100);
                draft.event(namespace, id, name, &args).unwrap();
                let outgoing = draft.finish_event();
                assert_eq!(outgoing.name(), name);
                assert_eq!(outgoing.json(), format!("1,{deep},\"]\""));
                draft.outgoing(namespace, id, &outgoing).unwrap();
                assert_eq!(draft.finish(), event(namespace, id, name, &args).unwrap());

                draft.event(namespace, id, name, &bytes).unwrap();
                let outgoing = draft.finish_event();
                let read = outgoing.with_args(|args| args.deserialize::<Vec<Bytes>>());
                assert_eq!(read, Ok(bytes.clone()));
                draft.outgoing(namespace, id, &outgoing).unwrap();
                let message = draft.finish();
                draft.event(namespace, id, name, &bytes).unwrap();
                assert_eq!(draft.finish(), message);

                draft.event(namespace, id, name, &()).unwrap();
                assert_eq!(draft.finish_event().json(), "");
            }
        }
    }
    assert_eq!(Draft::default().finish_event().name(), "");
}

#[test]
fn a_forged_placeholder_is_not_sent_along_with_attachments() {
    let forged = RawValue::from_string(r#"{"\u005fplaceholder":true,"num":99}"#.to_owned());
    let args = (forged.unwrap(), Bytes::from_static(b"x"));
    let error = event("/", None, "x", &args).unwrap_err();
    assert!(matches!(error, EncodeError::IllegalPlaceholder));
    // By itself it is an object like any other.
    assert_eq!(
        emitted(&args.0),
        r#"2["e",{"\u005fplaceholder":true,"num":99}]"#
    );
}

#[test]
fn a_draft_is_all_of_its_latest_message_or_nothing() {
    let mut draft = Draft::default();
    let empty = draft.finish();
    assert_eq!(empty.first().payload(), b"");
    let message = event("/", None, "e", &1).unwrap();

    draft.event("/", None, "e", &1).unwrap();
    assert_eq!(draft.frame(), Some(&message.first().frame()[..]));
    assert_eq!(draft.finish(), message);
    assert_eq!(draft.finish(), empty);

    draft.event("/", None, "e", &1).unwrap();
    draft.event("/", None, "connect", &2).unwrap_err();
    assert_eq!(draft.finish(), empty);

    let many = vec![Bytes::from_static(b"b"); 11];
    draft.event("/", None, "e", &many).unwrap_err();
    assert_eq!(draft.finish(), empty);

    let large = "x".repeat(5_000);
    draft.event("/", None, "e", &large).unwrap();
    assert_eq!(draft.frame(), None);
    assert_eq!(draft.finish(), event("/", None, "e", &large).unwrap());
    assert_eq!(draft.finish(), empty);

    let attached = Bytes::from_static(b"b");
    draft.event("/", None, "e", &attached).unwrap();
    assert_eq!(draft.frame(), None);
    assert_eq!(draft.finish(), event("/", None, "e", &attached).unwrap());
    assert_eq!(draft.finish(), empty);
}

#[test]
fn a_reserved_name_is_not_sent() {
    for name in RESERVED_EVENTS {
        for result in [
            event("/", None, name, &()),
            event_from("/", None, name, Args::empty()),
        ] {
            assert!(matches!(result, Err(EncodeError::ReservedEvent(found)) if found == name));
        }
    }
}

#[test]
fn what_json_has_no_words_for_is_an_error() {
    let map = std::collections::BTreeMap::from([(vec![1], 1)]);
    assert!(matches!(
        event("/", None, "x", &map),
        Err(EncodeError::Json(_))
    ));
    assert!(connect_with("/", &map).is_err());
}

#[test]
fn raw_arguments_are_passed_on_as_they_are() {
    let Ok(Packet::Event { args, .. }) = decode(r#"2["a",1 , {"b": "\u00e9"}]"#) else {
        panic!();
    };
    let message = event_from("/n", Some(2), "z", args).unwrap();
    assert_eq!(wire(&message), r#"2/n,2["z",1 , {"b": "\u00e9"}]"#);
    let message = ack_from("/n", 2, args).unwrap();
    assert_eq!(wire(&message), r#"3/n,2[1 , {"b": "\u00e9"}]"#);
    let message = event_from("/", None, "z", Args::empty()).unwrap();
    assert_eq!(wire(&message), r#"2["z"]"#);

    let assembled = assemble(
        r#"52-["x",{"_placeholder":true,"num":1},{"num":0,"_placeholder":true}]"#,
        &[b"a", b"b"],
    );
    let Packet::Event { args, .. } = assembled.packet() else {
        panic!();
    };
    let message = ack_from("/", 5, args).unwrap();
    assert_eq!(
        wire(&message),
        r#"62-5[{"_placeholder":true,"num":1},{"num":0,"_placeholder":true}]"#
    );
    assert_eq!(attachments(&message), [b"a", b"b"]);
}

#[test]
fn a_connect_carries_an_id_in_revision_5_only() {
    assert_eq!(wire(&connect("/", None)), "0");
    assert_eq!(wire(&connect("/admin", None)), "0/admin,");
    assert_eq!(
        wire(&connect("/admin", Some("oSO0OpakMV_3jnilAAAA"))),
        r#"0/admin,{"sid":"oSO0OpakMV_3jnilAAAA"}"#
    );
    let message = connect_with("/", &json!({"token": "x"})).unwrap();
    assert_eq!(wire(&message), r#"0{"token":"x"}"#);
}

#[test]
fn a_disconnect_is_its_namespace() {
    assert_eq!(wire(&disconnect("/")), "1");
    assert_eq!(wire(&disconnect("/admin")), "1/admin,");
}

#[test]
fn a_connect_error_has_the_form_of_its_revision() {
    let data = json!({"code": "E1"});
    let error = |revision, data: Option<&serde_json::Value>| {
        wire(&connect_error("/admin", revision, "No", data).unwrap()).to_owned()
    };
    assert_eq!(
        error(Revision::V4, Some(&data)),
        r#"4/admin,{"message":"No","data":{"code":"E1"}}"#
    );
    assert_eq!(error(Revision::V4, None), r#"4/admin,{"message":"No"}"#);
    assert_eq!(error(Revision::V3, Some(&data)), r#"4/admin,{"code":"E1"}"#);
    assert_eq!(error(Revision::V3, None), r#"4/admin,"No""#);
    assert_eq!(
        wire(&invalid_namespace("/x")),
        r#"4/x,{"message":"Invalid namespace"}"#
    );
}

#[test]
fn a_fanout_makes_each_form_once() {
    let message = event("/", None, "x", &Bytes::from_static(b"abc")).unwrap();
    let mut fanout = Fanout::of(message.clone(), &Parser::Json);
    let v3 = Form::of(Revision::V3);
    let Encoded::Message(old) = fanout.encoded(v3).clone() else {
        panic!("packets")
    };
    assert_eq!(
        old.first().frame().as_ptr(),
        message.first().frame().as_ptr()
    );
    assert_eq!(
        old.attachments(),
        [EncodedPacket::binary(b"abc", Revision::V3)]
    );
    let again = fanout.encoded(v3).clone();
    assert_eq!(again, Encoded::Message(old.clone()));
    let v4 = Form::of(Revision::V4);
    assert_eq!(fanout.encoded(v4), &Encoded::Message(message.clone()));
    let mut base64 = v4;
    base64.base64 = true;
    let Encoded::Message(text) = fanout.encoded(base64).clone() else {
        panic!("packets")
    };
    assert_eq!(text.attachments()[0].payload(), b"bYWJj");
}

#[test]
fn a_bundle_begins_with_its_message_in_every_form() {
    let form = Form::of(Revision::V4);
    let mut first = Fanout::of(event("/", None, "x", &1).unwrap(), &Parser::Json);
    // Made before: it could have been appended to an earlier bundle.
    let encoded = first.encoded(form).clone();
    first.begin_bundle().unwrap();
    let bundle = Arc::clone(first.bundle(form).unwrap());
    let mut queue = Outbound::default();
    assert!(queue.share(&bundle, form, QueueLimits::default()));
    assert!(bundle.append(&mut first));
    assert_eq!(queue.bytes(), 2 * encoded.len_bytes());
    let large = event("/", None, "x", &"x".repeat(16 << 10)).unwrap();
    assert!(Fanout::of(large, &Parser::Json).begin_bundle().is_none());
}

#[test]
fn whatever_is_written_has_a_form_in_each_parser() {
    let long = "n".repeat(5_000);
    let data = json!({"code": "E1"});
    let mut messages = vec![
        connect("/", None),
        connect("/chat", Some("abc")),
        disconnect("/"),
        disconnect(&format!("/{long}")),
        connect_error::<()>("/", Revision::V4, "No", None).unwrap(),
        connect_error("/a", Revision::V4, "No", Some(&data)).unwrap(),
        // An application's own object, which is no placeholder where there are no attachments.
        event("/", None, "e", &json!({"_placeholder": true, "num": 0})).unwrap(),
        ack("/", 0, &()).unwrap(),
        ack("/1", u64::MAX, &(1, Bytes::from_static(b"x"))).unwrap(),
    ];
    for namespace in ["/", "/a[\"]", "/0"] {
        for name in ["e", "", "1", "a\"]\\,[", &long] {
            for id in [None, Some(7)] {
                messages.push(event(namespace, id, name, &()).unwrap());
                messages.push(event(namespace, id, name, &[1, 2]).unwrap());
                let args = ("]", Bytes::from_static(b"ab"), [Bytes::new()]);
                messages.push(event(namespace, id, name, &args).unwrap());
            }
        }
    }
    let limits = Limits::new()
        .event_name(10_000)
        .namespace(10_000)
        .ack_digits(20);
    let mut form = Form::of(Revision::V4);
    form.is_transcoded = true;
    for message in messages {
        let Encoded::Message(packet) = Fanout::of(message.clone(), &Parser::Msgpack)
            .encoded(form)
            .clone()
        else {
            panic!("no packet for {}", wire(&message));
        };
        assert!(packet.attachments().is_empty() && packet.first().is_binary());
        let mut buffer = msgpack::Buffer::default();
        let read = msgpack::decode(packet.first().payload(), &limits, &mut buffer).unwrap();
        let mut decoder = Decoder::new(Revision::V4, limits);
        let whole = match decoder.text(wire(&message)).unwrap() {
            Some(packet) => {
                assert_eq!(packet, read);
                continue;
            }
            None => attachments(&message)
                .into_iter()
                .filter_map(|data| decoder.binary(Bytes::copy_from_slice(data)).unwrap())
                .last(),
        };
        assert_eq!(whole.unwrap().packet(), read);
    }
}

/// Revision 3 has the data of the application alone there, whatever they are.
#[test]
fn any_connect_error_has_a_form_in_msgpack() {
    let error = connect_error("/a", Revision::V3, "No", Some(&7)).unwrap();
    let mut form = Form::of(Revision::V3);
    form.is_transcoded = true;
    let Encoded::Message(packet) = Fanout::of(error, &Parser::Msgpack).encoded(form).clone() else {
        panic!("no packet");
    };
    // The type of the Engine.IO packet is in front.
    let expected = b"\x04\x83\xa4type\x04\xa3nsp\xa2/a\xa4data\x07";
    assert_eq!(packet.first().payload(), expected);
}

#[test]
fn what_goes_to_one_is_copied_from_where_it_was_written() {
    let form = Form::of(Revision::V4);
    let mut draft = Draft::default();
    draft.event("/", None, "x", &1).unwrap();
    let mut fanout = Fanout::new(&mut draft, &Parser::Json);
    let frame = fanout.frame(form).map(<[u8]>::to_vec);
    assert!(fanout.bundle(form).is_none());
    let message = event("/", None, "x", &1).unwrap();
    assert_eq!(frame.as_deref(), Some(&message.first().frame()[..]));
    assert_eq!(fanout.encoded(form), &Encoded::Message(message));
    // It has memory of its own now.
    assert_eq!(fanout.frame(form), None);
}

#[test]
fn a_message_lists_its_packets_in_order() {
    let message = event("/", None, "x", &Bytes::from_static(b"abc")).unwrap();
    let packets: Vec<_> = message.packets().collect();
    assert_eq!(packets, [message.first(), &message.attachments()[0]]);
    // Two bytes of header each, and the type of the Engine.IO packet in front of the text.
    assert_eq!(message.len_bytes(), 2 + 1 + wire(&message).len() + 2 + 3);
}
