//! Every frame is read as it was written, and what isn't one is none.

use proptest::prelude::*;

use super::*;
use crate::engine::{ConflateKey, QueuePolicy};

fn texts() -> impl Strategy<Value = Vec<Arc<str>>> {
    prop::collection::vec("\\PC{0,12}".prop_map(Arc::from), 0..4)
}

fn sockets() -> impl Strategy<Value = Sockets> {
    (texts(), texts()).prop_map(|(rooms, except)| Sockets { rooms, except })
}

fn time() -> impl Strategy<Value = Duration> {
    any::<u32>().prop_map(|ms| Duration::from_millis(ms.into()))
}

fn delivery() -> impl Strategy<Value = Delivery> {
    let policy = prop::option::of(prop_oneof![
        Just(QueuePolicy::Close),
        Just(QueuePolicy::DropNewest),
        Just(QueuePolicy::DropOldest),
        any::<[u8; 16]>().prop_map(|key| QueuePolicy::Conflate(ConflateKey::from_bytes(key))),
    ]);
    let parts = (
        any::<bool>(),
        any::<bool>(),
        policy,
        prop::option::of(time()),
    );
    parts.prop_map(|(volatile, retain, policy, at_least_once)| Delivery {
        volatile,
        retain,
        policy,
        at_least_once,
    })
}

/// Arguments with and without attachments.
fn event() -> impl Strategy<Value = Outgoing> {
    (
        "ev\\PC{0,8}",
        any::<i64>(),
        "\\PC{0,12}",
        any::<Option<Vec<u8>>>(),
    )
        .prop_map(|(name, number, text, binary)| {
            match binary {
                Some(binary) => Outgoing::event(&name, &(number, Bytes::from(binary), text)),
                None => Outgoing::event(&name, &(text, number)),
            }
            .unwrap()
        })
}

fn args() -> impl Strategy<Value = OwnedArgs> {
    (any::<i64>(), any::<Vec<u8>>())
        .prop_map(|(number, binary)| OwnedArgs::new(&(number, Bytes::from(binary))).unwrap())
}

fn details() -> impl Strategy<Value = SocketDetails> {
    ("\\PC{0,20}", texts(), args(), args()).prop_map(|(id, rooms, handshake, data)| SocketDetails {
        id: id.into(),
        rooms,
        handshake,
        data,
    })
}

fn digest() -> impl Strategy<Value = Digest> {
    (any::<u64>(), any::<u64>(), "\\PC{0,12}").prop_map(|(config, sockets, address)| Digest {
        config,
        sockets,
        address: address.into(),
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![
        (sockets(), delivery(), event()).prop_map(|(to, delivery, event)| Asked::Acks {
            to,
            delivery,
            event
        }),
        sockets().prop_map(|who| Asked::Fetch { who }),
        event().prop_map(|event| Asked::Handle { event }),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        any::<u64>().prop_map(Reply::Count),
        ("\\PC{0,20}", args()).prop_map(|(socket, args)| Reply::Ack {
            socket: socket.into(),
            args
        }),
        prop::collection::vec(details(), 0..4).prop_map(Reply::Found),
        args().prop_map(Reply::Handled),
    ]
}

fn handed() -> impl Strategy<Value = Handed> {
    prop_oneof![
        any::<Vec<u8>>().prop_map(|session| Handed::Over(session.into())),
        Just(Handed::Elsewhere),
        Just(Handed::Unknown),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        digest().prop_map(Message::Hello),
        digest().prop_map(Message::Heartbeat),
        Just(Message::Bye),
        (sockets(), delivery(), event(), any::<u64>()).prop_map(|(to, delivery, event, number)| {
            Message::Broadcast {
                number,
                to,
                delivery,
                event,
            }
        }),
        (sockets(), texts()).prop_map(|(who, rooms)| Message::Join { who, rooms }),
        (sockets(), texts()).prop_map(|(who, rooms)| Message::Leave { who, rooms }),
        (sockets(), any::<bool>()).prop_map(|(who, close)| Message::Disconnect { who, close }),
        event().prop_map(|event| Message::Emit { event }),
        (any::<u64>(), time(), asked()).prop_map(|(question, time, what)| Message::Ask {
            question,
            time,
            what
        }),
        (any::<u64>(), any::<u32>(), reply()).prop_map(|(question, number, reply)| {
            Message::Reply {
                question,
                number,
                reply,
            }
        }),
        (any::<u64>(), any::<u32>())
            .prop_map(|(question, replies)| Message::Total { question, replies }),
        (any::<u64>(), time(), "\\PC{0,20}").prop_map(|(question, waited, pid)| {
            Message::HandOver {
                question,
                waited,
                pid: pid.into(),
            }
        }),
        (any::<u64>(), handed())
            .prop_map(|(question, session)| Message::HandedOver { question, session }),
    ]
}

prop_compose! {
    fn logged()(
        from in "\\PC{0,12}", number: u64, at: u64, is_local: bool,
        to in sockets(), delivery in delivery(), event in event(),
    ) -> Logged {
        Logged { from: from.into(), number, at, is_local, to, delivery, event }
    }
}

prop_compose! {
    fn frame()(from in "\\PC{0,12}", namespace in "/\\PC{0,12}", message in message()) -> Frame {
        Frame { from: from.into(), namespace: namespace.into(), message }
    }
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(frame in frame()) {
        prop_assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }

    #[test]
    fn an_entry_is_read_as_it_was_written_and_not_if_it_was_changed(
        entry in logged(),
        at: prop::sample::Index,
        byte: u8,
    ) {
        let mut bytes = entry.encode();
        let at = at.index(bytes.len());
        prop_assert!(Logged::decode(&bytes[..at]).is_err());
        prop_assert!(Logged::decode(&[&bytes[..], &[0]].concat()).is_err());
        prop_assert_eq!(Logged::decode(&bytes), Ok(entry));
        bytes[at] = byte;
        if let Ok(entry) = Logged::decode(&bytes) {
            prop_assert_eq!(entry.encode(), bytes);
        }
    }

    #[test]
    fn a_frame_that_was_cut_or_continued_is_malformed(frame in frame(), cut: prop::sample::Index) {
        let bytes = frame.encode();
        prop_assert!(Frame::decode(&bytes[..cut.index(bytes.len())]).is_err());
        prop_assert!(Frame::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    /// A changed byte gives an error, or another frame: never a panic, and never one that would
    /// be written otherwise.
    #[test]
    fn a_frame_that_was_changed_is_another_or_none(
        frame in frame(),
        at: prop::sample::Index,
        byte: u8,
    ) {
        let mut bytes = frame.encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(frame) = Frame::decode(&bytes) {
            prop_assert_eq!(frame.encode(), bytes);
        }
    }
}

#[test]
fn counts_beyond_what_is_there_allocate_nothing() {
    let mut bytes = vec![VERSION, 1, b'a', 1, b'/', JOIN];
    write(&mut bytes, u64::MAX / 2);
    assert_eq!(Frame::decode(&bytes), Err(Malformed::Garbage));
}

#[test]
fn arguments_that_are_none_are_refused() {
    let event = Outgoing::from_written("\"ev\",1],[2".into(), 4, []).unwrap();
    let message = Message::Emit { event };
    let frame = Frame {
        from: "a".into(),
        namespace: "/".into(),
        message,
    };
    assert!(matches!(
        Frame::decode(&frame.encode()),
        Err(Malformed::Contents(_))
    ));
}

#[test]
fn another_version_is_told() {
    assert_eq!(
        Frame::decode(&[VERSION + 1]),
        Err(Malformed::Version(VERSION + 1))
    );
}
