//! Events and arguments taken apart and put together again, by servers that send them to each
//! other.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::socket::{Draft, Outgoing, OwnedArgs};

fn from_parts(
    name: &str,
    json: &str,
    attachments: &[&'static [u8]],
) -> Result<Outgoing, DecodeError> {
    let attachments = attachments.iter().map(|data| Bytes::from_static(data));
    Outgoing::from_parts(name, json, attachments, &Limits::default())
}

#[test]
fn an_event_is_the_same_when_it_is_put_together_again() {
    let args = (
        1,
        "two",
        Bytes::from_static(b"three"),
        [Bytes::from_static(b"")],
    );
    let sent = Outgoing::event("say \"it\"", &args).unwrap();
    let limits = Limits::default();
    let came = Outgoing::from_parts(&sent.name(), sent.json(), sent.attachments(), &limits);
    let came = came.unwrap();
    assert_eq!(came, sent);
    let (mut one, mut other) = (Draft::default(), Draft::default());
    one.outgoing("/a", Some(7), &sent).unwrap();
    other.outgoing("/a", Some(7), &came).unwrap();
    assert_eq!(one.finish(), other.finish());
}

#[test]
fn an_event_without_arguments_is_its_name() {
    let event = from_parts("hello", "", &[]).unwrap();
    assert_eq!((&*event.name(), event.json()), ("hello", ""));
    assert_eq!(event, Outgoing::event("hello", &()).unwrap());
}

#[test]
fn parts_forge_no_packet() {
    for json in [
        "1],[2", "1]", "]", ",1", "1,", "1 2", "{", "\"", "1,,2", " ",
    ] {
        let error = from_parts("a", json, &[]).unwrap_err();
        assert!(
            matches!(error, DecodeError::InvalidJson { .. }),
            "{json}: {error}"
        );
        let error = OwnedArgs::from_parts(json, Vec::new(), &Limits::default());
        if json != " " {
            assert!(
                matches!(error, Err(DecodeError::InvalidJson { .. })),
                "{json}"
            );
        }
    }
    assert_eq!(
        from_parts("connect", "", &[]),
        Err(DecodeError::ReservedEvent("connect"))
    );
    // Such a name stays a name.
    let event = from_parts("a\",1,\"", "2", &[]).unwrap();
    assert_eq!((&*event.name(), event.json()), ("a\",1,\"", "2"));
}

#[test]
fn placeholders_must_fit_the_attachments() {
    let placeholder = r#"{"_placeholder":true,"num":0}"#;
    assert!(from_parts("a", placeholder, &[b"x"]).is_ok());
    // Without attachments it is an object like others, as in a packet.
    assert!(from_parts("a", placeholder, &[]).is_ok());
    let twice = format!("{placeholder},{placeholder}");
    assert_eq!(
        from_parts("a", &twice, &[b"x"]),
        Err(DecodeError::RepeatedPlaceholder { num: 0 })
    );
    let beyond = r#"{"_placeholder":true,"num":1}"#;
    let illegal = DecodeError::IllegalPlaceholder { attachments: 1 };
    assert_eq!(from_parts("a", beyond, &[b"x"]), Err(illegal.clone()));
    let args = OwnedArgs::from_parts(beyond, vec![Bytes::new()], &Limits::default());
    assert_eq!(args, Err(illegal.clone()));
}

#[test]
fn parts_keep_to_the_limits() {
    let limits = Limits::default();
    assert_eq!(
        from_parts("a", "1", &[b"x".as_slice(); 11]),
        Err(DecodeError::TooManyAttachments { limit: 10 })
    );
    let deep = "[".repeat(100) + &"]".repeat(100);
    assert_eq!(
        from_parts("a", &deep, &[]),
        Err(DecodeError::TooDeep { limit: 100 })
    );
    let name = "a".repeat(1_025);
    let limit = DecodeError::EventNameTooLong { limit: 1_024 };
    assert_eq!(from_parts(&name, "", &[]), Err(limit));
    let many = vec![Bytes::new(); 11];
    assert_eq!(
        OwnedArgs::from_parts("", many, &limits),
        Err(DecodeError::TooManyAttachments { limit: 10 })
    );
}

#[test]
fn the_arguments_of_an_ack_can_be_taken_from_its_draft() {
    let mut draft = Draft::default();
    draft
        .ack("/a", 3, &("text", Bytes::from_static(b"bin")))
        .unwrap();
    let args = draft.finish_args();
    assert_eq!(
        args.as_args().deserialize::<(String, Bytes)>().unwrap(),
        ("text".to_owned(), Bytes::from_static(b"bin"))
    );
    draft.ack("/a", 3, &()).unwrap();
    assert_eq!(draft.finish_args(), OwnedArgs::default());
}

proptest! {
    /// Whatever is taken is one event for clients, with this name and these arguments.
    #[test]
    fn what_is_taken_is_one_event(name in "[a\"\\\\,\\]]{0,4}", json in "[\\[\\]{}\",:1a ]{0,8}") {
        if let Ok(event) = from_parts(&name, &json, &[]) {
            let mut draft = Draft::default();
            draft.outgoing("", None, &event).unwrap();
            let message = draft.finish();
            let Packet::Event { name: came, args, .. } = decode(wire(&message)).unwrap() else {
                panic!("no event");
            };
            prop_assert_eq!(came, name);
            prop_assert_eq!(args.json().trim(), json.trim());
        }
    }
}
