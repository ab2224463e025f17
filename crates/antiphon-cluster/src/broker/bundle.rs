//! Frames that are sent together as one message of the broker (docs/protocol.md 24.12).
//!
//! What a broker and its clients take for a message is the same for a short and for a longer one, and
//! many of an application's events that come together go to one room. The queue's
//! [batch](super::Batch) puts them together and the [inbox](super::Inbox) takes them apart, so neither
//! a broker nor the router knows of it.
//!
//! A bundle may have a [`Stamp`]. Where a broker has several nodes, one that was frozen says what it was
//! told long ago, when its clients have gone to another: they count that as lost, and so it must
//! not come any more, behind newer frames.

use antiphon_protocol::record::{Reader, write, write_bytes};
use bytes::Bytes;

use crate::Topic;

/// What a bundle begins with. A frame begins with a version, which is never 0, and what Node's
/// adapters say with a bracket, a brace or the head of an array or map in MessagePack.
const BUNDLE: u8 = 0;

/// What a bundle with a stamp begins with, which is behind it.
const STAMPED: u8 = 1;

/// Frames beyond that go by themselves, and bundles are about as large: what is long is not worth
/// copying, and what is larger makes others wait.
const BYTES: usize = 16 * 1_024;

/// By whom frames were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The process, by a random number.
    pub sender: u64,
    /// Its connection to the broker: each has a higher number than the one before. What it has sent by
    /// an older one doesn't count any more when something by a newer one has come.
    pub connection: u64,
}

/// Puts frames together that follow each other under one topic. What is read where it is kept, streams
/// and logs, stays as it is.
pub(super) fn join(frames: Vec<(Topic, Bytes)>, stamp: Option<Stamp>) -> Vec<(Topic, Bytes)> {
    let is_alike = |one: &(Topic, Bytes), other: &(Topic, Bytes)| one.0 == other.0;
    if stamp.is_none() && !frames.windows(2).any(|pair| is_alike(&pair[0], &pair[1])) {
        return frames;
    }
    let mut joined: Vec<(Topic, Bytes)> = Vec::new();
    for alike in frames.chunk_by(is_alike) {
        let mut rest = alike;
        while let Some(((topic, first), behind)) = rest.split_first() {
            if !topic.is_plain() {
                joined.push((topic.clone(), first.clone()));
                rest = behind;
                continue;
            }
            let (together, left) = rest.split_at(1 + room_for(first.len(), behind));
            rest = left;
            joined.push((topic.clone(), together_in_one(together, stamp)));
        }
    }
    joined
}

/// How many of these fit into a bundle behind so many bytes.
fn room_for(mut bytes: usize, frames: &[(Topic, Bytes)]) -> usize {
    let fits = |(_, frame): &&(Topic, Bytes)| {
        bytes = bytes.saturating_add(frame.len());
        bytes <= BYTES
    };
    frames.iter().take_while(fits).count()
}

fn together_in_one(frames: &[(Topic, Bytes)], stamp: Option<Stamp>) -> Bytes {
    let mut bundle = match (stamp, frames) {
        (None, [(_, frame)]) => return frame.clone(),
        (None, _) => vec![BUNDLE],
        (Some(stamp), _) => {
            let mut head = vec![STAMPED];
            head.extend_from_slice(&stamp.sender.to_be_bytes());
            write(&mut head, stamp.connection);
            head
        }
    };
    for (_, frame) in frames {
        write_bytes(&mut bundle, frame);
    }
    bundle.into()
}

/// The frames in a bundle, and its stamp. `None` if it is none, or one that isn't whole: then it is a
/// frame that nobody understands.
pub(super) fn split(bundle: &Bytes) -> Option<(Option<Stamp>, Vec<Bytes>)> {
    let mut reader = Reader::new(bundle);
    let stamp = match reader.byte()? {
        BUNDLE => None,
        STAMPED => Some(Stamp {
            sender: u64::from_be_bytes(reader.array()?),
            connection: reader.number()?,
        }),
        _ => return None,
    };
    let mut frames = Vec::new();
    while !reader.rest().is_empty() {
        let frame = reader.bytes().filter(|frame| !frame.is_empty())?;
        frames.push(bundle.slice_ref(frame));
    }
    Some((stamp, frames))
}

/// How many frames this is.
pub(super) fn count(bundle: &Bytes) -> usize {
    split(bundle).map_or(1, |(_, frames)| frames.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topics() -> impl Strategy<Value = Topic> {
        (0..3_u8, any::<bool>()).prop_map(|(name, is_stream)| match is_stream && name == 0 {
            true => Topic::stream("stream"),
            false => Topic::new(name.to_string()),
        })
    }

    fn frames() -> impl Strategy<Value = Vec<(Topic, Bytes)>> {
        let long = prop_oneof![4 => 1..100_usize, 1 => 1..3 * BYTES];
        let frame = (2..=255_u8, long).prop_map(|(byte, len)| Bytes::from(vec![byte; len]));
        prop::collection::vec((topics(), frame), 0..40)
    }

    fn stamp() -> impl Strategy<Value = Option<Stamp>> {
        let stamp =
            any::<(u64, u64)>().prop_map(|(sender, connection)| Stamp { sender, connection });
        prop::option::of(stamp)
    }

    proptest! {
        #[test]
        fn what_is_put_together_comes_apart_in_its_order(frames in frames(), stamp in stamp()) {
            let joined = join(frames.clone(), stamp);
            let apart = joined.iter().flat_map(|(topic, bytes)| {
                let (stamped, frames) = split(bytes).unwrap_or_else(|| (None, vec![bytes.clone()]));
                assert_eq!(frames.len(), count(bytes));
                assert_eq!(stamped, stamp.filter(|_| topic.is_plain()));
                frames.into_iter().map(move |frame| (topic.clone(), frame))
            });
            prop_assert_eq!(apart.collect::<Vec<_>>(), frames);
        }

        #[test]
        fn streams_and_what_is_large_go_by_themselves(frames in frames()) {
            for (topic, bytes) in join(frames, None) {
                if let Some((_, frames)) = split(&bytes) {
                    prop_assert!(topic.is_plain() && frames.len() > 1);
                    prop_assert!(frames.iter().map(Bytes::len).sum::<usize>() <= BYTES);
                }
            }
        }

        #[test]
        fn what_anyone_may_send_is_a_bundle_or_a_frame(
            bytes in prop::collection::vec(0..4_u8, 0..20),
        ) {
            let bytes = Bytes::from(bytes);
            if let Some((_, frames)) = split(&bytes) {
                prop_assert!(frames.iter().all(|frame| !frame.is_empty()));
                prop_assert_eq!(frames.len(), count(&bytes));
            }
        }
    }

    #[test]
    fn few_frames_of_one_topic_make_one_message() {
        let frame = |topic: &str| (Topic::new(topic), Bytes::from_static(b"x"));
        let joined = join(vec![frame("a"), frame("a"), frame("b"), frame("a")], None);
        let topics: Vec<_> = joined.iter().map(|(topic, _)| topic.name()).collect();
        assert_eq!(topics, ["a", "b", "a"]);
    }
}
