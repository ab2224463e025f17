//! What the adapters other than the classic one have in common: the names of servers and requests,
//! which were counted, and what is refused.

use antiphon_protocol::cluster::node::{
    Content, EMITTER, Interest, Limits, Malformed, Message, Received, Reply,
};

use crate::expected::{self, answer, socket, value};
use crate::interest::{Nothing, all};

/// What is read.
pub(crate) type Found = Result<Option<Received>, Malformed>;

/// The server that asks.
pub(crate) const ASKER: &str = "0101010101010101";

/// The name of a step's request.
pub(crate) fn request(step: &str) -> &'static str {
    match step {
        "emit with acks, text" => "0505050505050505",
        "emit with acks, binary" => "0606060606060606",
        "emit with acks, nothing" => "0707070707070707",
        "fetch" => "0808080808080808",
        "fetch binary" => "0909090909090909",
        "fetch nothing" => "0a0a0a0a0a0a0a0a",
        "server-side emit with acks" => "0b0b0b0b0b0b0b0b",
        "server-side emit with acks, nothing" => "0c0c0c0c0c0c0c0c",
        _ => "",
    }
}

/// The answer to "fetch binary", where bytes are bytes.
pub(crate) fn fetched_binary() -> Content {
    let data = value(r#"{"key":{"_placeholder":true,"num":0}}"#, &[&[5]]);
    let request = request("fetch binary");
    answer(request, Reply::Sockets(vec![socket(data)]))
}

/// What came in a step, of which the content is this, or that of all adapters.
pub(crate) fn received(name: &str, nth: usize, own: Option<Content>) -> Received {
    let content = own.or_else(|| expected::content(name, nth, &request));
    let content = content.unwrap_or_else(|| panic!("{name} {nth}"));
    let from = match (name, &content) {
        (_, Content::Answer(_)) => "0303030303030303",
        ("emit in a namespace", _) => "0202020202020202",
        _ if name.contains("emitter") => EMITTER,
        _ => ASKER,
    };
    let from = Some(from.into());
    Received { from, content }
}

/// The namespace of a step.
pub(crate) fn namespace(name: &str) -> &'static str {
    match name {
        "emit in a namespace" | "emitter: emit binary" => "/admin",
        _ => "/",
    }
}

/// Checks what is read by a stranger, by the sender, and by a server that wants nothing. `decode`
/// reads the same as a server of this name.
pub(crate) fn check_reading(
    name: &str,
    expected: &Received,
    decode: &dyn Fn(&str, &dyn Interest) -> Found,
) {
    let everything = decode("zzzz", &all);
    assert_eq!(everything, Ok(Some(expected.clone())), "{name}");
    let from = expected.from.as_deref().unwrap();
    assert_eq!(decode(from, &all), Ok(None), "{name}, own");
    let is_wanted = match &expected.content {
        Content::Answer(_) => false,
        Content::Message(
            Message::Broadcast {
                request: None,
                target,
                ..
            }
            | Message::Join { target, .. }
            | Message::Leave { target, .. }
            | Message::Disconnect { target, .. },
        ) => target.rooms.is_empty(),
        Content::Message(_) => true,
    };
    let expected = is_wanted.then(|| expected.clone());
    let found = decode("zzzz", &Nothing);
    assert_eq!(found, Ok(expected), "{name}, without members");
}

/// Whether what is written again must be the same bytes. Emitters have another order of fields, and
/// rooms are texts here.
pub(crate) fn is_same(name: &str) -> bool {
    !name.contains("emitter") && name != "emit to a numeric room"
}

/// Types and data that nobody writes, each with the field that is wrong.
pub(crate) const REFUSED: [(u64, &str, &str); 17] = [
    (3, "[]", "data"),
    (3, "{}", "opts"),
    (3, r#"{"opts":{}}"#, "packet"),
    (
        3,
        r#"{"opts":{},"packet":{"type":3,"data":["e"]}}"#,
        "packet.type",
    ),
    (3, r#"{"opts":{},"packet":{"type":2}}"#, "packet.data"),
    (
        3,
        r#"{"opts":{"flags":[]},"packet":{"type":2,"data":["e"]}}"#,
        "flags",
    ),
    (3, r#"{"opts":{"rooms":"r"}}"#, "rooms"),
    (3, r#"{"opts":{"rooms":["r",true]}}"#, "rooms"),
    (4, r#"{"opts":{}}"#, "data.rooms"),
    (6, "{}", "opts"),
    (7, r#"{"opts":{}}"#, "data.requestId"),
    (7, r#"{"opts":{},"requestId":[]}"#, "data.requestId"),
    (9, "{}", "data.packet"),
    (8, r#"{"requestId":"q"}"#, "data.sockets"),
    (
        8,
        r#"{"requestId":"q","sockets":[{"id":"a"}]}"#,
        "sockets.rooms",
    ),
    (10, "{}", "data.requestId"),
    (11, r#"{"requestId":"q"}"#, "data.clientCount"),
];

/// Checks [`REFUSED`] with what reads a message of this type and data.
pub(crate) fn check_refusing(decode: &dyn Fn(u64, &str) -> Found) {
    for (kind, data, name) in REFUSED {
        match decode(kind, data) {
            Err(Malformed::Field { field, .. }) => assert_eq!(field, name, "{kind} {data}"),
            found => panic!("{kind} {data}: {found:?}"),
        }
    }
    assert_eq!(decode(14, "{}"), Err(Malformed::UnknownType(14)));
    assert_eq!(decode(3, "{]}"), Err(Malformed::Json { offset: 1 }));
}

/// Checks what is no envelope with what reads a payload that is JSON.
pub(crate) fn check_refusing_payloads(decode: &dyn Fn(&[u8]) -> Found) {
    for (payload, name) in [
        ("{}", "type"),
        (r#"{"type":"3"}"#, "type"),
        (r#"{"type":3}"#, "data"),
        (r#"{"type":3,"data":null}"#, "data"),
        (r#"{"type":2,"uid":7}"#, "uid"),
    ] {
        match decode(payload.as_bytes()) {
            Err(Malformed::Field { field, .. }) => assert_eq!(field, name, "{payload}"),
            found => panic!("{payload}: {found:?}"),
        }
    }
    for (payload, offset) in [
        (&br#"{"type":2"#[..], 9),
        (br#"{"type":2} {}"#, 11),
        (b"{\"uid\":\"\xff\"}", 8),
    ] {
        assert_eq!(decode(payload), Err(Malformed::Json { offset }));
    }
    let deep = format!("{{\"a\":{}", "[".repeat(1000));
    let found = decode(deep.as_bytes());
    assert!(matches!(found, Err(Malformed::Value(_))), "{found:?}");
}

/// Limits that all of these keep.
pub(crate) fn limits() -> Limits {
    Limits::default()
}

/// The error with so many bytes less before it.
pub(crate) fn less(error: Malformed, before: usize) -> Malformed {
    match error {
        Malformed::Json { offset } => Malformed::Json {
            offset: offset - before,
        },
        other => other,
    }
}
