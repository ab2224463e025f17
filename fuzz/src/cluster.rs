//! What must hold for whatever a codec of Node's adapters has read.

use antiphon_protocol::cluster::node::{
    Answer, Content, Limits, Malformed, Message, Received, Reply,
};
use antiphon_protocol::socket::{Args, Outgoing, OwnedArgs, RESERVED_EVENTS};
use bytes::Bytes;
use serde_json::Value;

/// What was read.
pub type Found = Result<Option<Received>, Malformed>;

/// Limits that an input may well go beyond.
pub const SMALL: Limits = Limits::new()
    .attachments(2)
    .depth(4)
    .values(20)
    .event_name(8);

/// Wants everything.
#[must_use]
pub fn all(_: &str) -> bool {
    true
}

/// Reads with the usual limits and with small ones. What was read must be within them, and written
/// again it must be read as the same: `again` does that. It comes as MessagePack or JSON, and that
/// may differ from how it came, so the same means from then on.
pub fn check(read: impl Fn(&Limits) -> Found, again: impl Fn(&Content, &Limits) -> Found) {
    for limits in [Limits::default(), SMALL] {
        let Ok(Some(first)) = read(&limits) else {
            continue;
        };
        bounded(&first.content, &limits);
        // A text that was no UTF-8 is longer now, and may be beyond a limit.
        let Ok(Some(second)) = again(&first.content, &limits) else {
            continue;
        };
        let third = again(&second.content, &limits).map(|it| it.map(|it| it.content));
        assert_eq!(third, Ok(Some(second.content)));
    }
}

fn bounded(content: &Content, limits: &Limits) {
    match content {
        Content::Message(
            Message::Broadcast { event, .. } | Message::ServerSideEmit { event, .. },
        ) => event_bounded(event, limits),
        Content::Answer(Answer { request, reply }) => {
            assert!(request.len() <= 3 * 128);
            match reply {
                Reply::Acknowledged(args) | Reply::Emitted(args) => one(args, limits),
                Reply::Sockets(sockets) => {
                    for socket in sockets {
                        one(&socket.handshake, limits);
                        one(&socket.data, limits);
                    }
                }
                _ => {}
            }
        }
        Content::Message(_) => {}
    }
}

fn event_bounded(event: &Outgoing, limits: &Limits) {
    assert!(event.name().len() <= limits.event_name);
    assert!(!RESERVED_EVENTS.contains(&&*event.name()));
    event.with_args(|args| args_bounded(args, limits));
}

/// At most one value.
fn one(args: &OwnedArgs, limits: &Limits) {
    assert!(args_bounded(args.as_args(), limits) <= 1);
}

/// Returns how many arguments there are.
fn args_bounded(args: Args<'_>, limits: &Limits) -> usize {
    assert!(args.attachments().len() <= limits.attachments);
    let text = format!("[{}]", args.json());
    let _ = args.deserialize::<(Bytes, Value)>();
    match serde_json::from_str::<Vec<&serde_json::value::RawValue>>(&text) {
        Ok(list) => list.len(),
        Err(error) => panic!("no JSON: {error}: {text}"),
    }
}
