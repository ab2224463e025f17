//! The queue: order, bounds, offsets, and the tail.

mod policies;

use proptest::prelude::*;

use super::{QueuePolicy::*, *};
use crate::engine::{EncodedMessage, Forms, Revision};

const LIMITS: QueueLimits = QueueLimits {
    packets: 16_384,
    bytes: 16 << 20,
    burst: 1,
};

fn message(text: &str) -> EncodedPacket {
    EncodedPacket::text(PacketType::Message, text)
}

fn alone(text: &str) -> Encoded {
    with(message(text), &[])
}

fn with(first: EncodedPacket, attachments: &[EncodedPacket]) -> Encoded {
    Encoded::Message(EncodedMessage::new(first, attachments.to_vec()))
}

#[test]
fn frames_leave_in_order_whatever_the_writes_cut() {
    let mut queue = Outbound::default();
    let packets = [message("first"), message("second"), message("third")];
    let [first, attachments @ ..] = &packets;
    queue
        .push(with(first.clone(), attachments), Close, LIMITS)
        .unwrap();
    let expected: Vec<u8> = packets.iter().flat_map(|p| p.frame().to_vec()).collect();
    let mut written = Vec::new();
    while !queue.is_empty() {
        let mut slices = [IoSlice::new(&[]); 2];
        let filled = queue.frames(&mut slices);
        let chunk: Vec<u8> = slices[..filled].iter().flat_map(|s| s.to_vec()).collect();
        let count = chunk.len().min(5);
        written.extend_from_slice(&chunk[..count]);
        queue.advance(count);
    }
    assert_eq!(written, expected);
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn a_full_queue_takes_none_of_a_message() {
    let limits = QueueLimits {
        packets: 3,
        bytes: 1_000,
        burst: 1,
    };
    let mut queue = Outbound::default();
    queue
        .push(with(message("a"), &[message("b")]), Close, limits)
        .unwrap();
    let full = queue.push(with(message("c"), &[message("d")]), Close, limits);
    let full = full.unwrap_err();
    assert_eq!(full.packets, 2);
    assert_eq!(queue.take().len(), 2);
}

#[test]
fn an_empty_queue_takes_a_message_over_the_limit() {
    let limits = QueueLimits {
        packets: 1,
        bytes: 10,
        burst: 1,
    };
    let mut queue = Outbound::default();
    let large = message(&"x".repeat(100));
    let queued = queue.push(with(large, &[message("y")]), Close, limits);
    assert_eq!(queued, Ok(Queued::default()));
}

fn texts(packets: &VecDeque<EncodedPacket>) -> Vec<String> {
    let text = |packet: &EncodedPacket| String::from_utf8_lossy(packet.payload()).into_owned();
    packets.iter().map(text).collect()
}

#[test]
fn what_was_taken_comes_again_until_it_is_confirmed() {
    let limits = LIMITS;
    let mut queue = Outbound::default();
    queue.track();
    for text in ["a", "b", "c"] {
        queue.push(alone(text), Close, limits).unwrap();
    }
    assert_eq!(texts(&queue.take()), ["4a", "4b", "4c"]);
    assert!(queue.is_empty());
    queue.confirm(1).unwrap();
    queue.rewind();
    assert_eq!(queue.offset(), 1);
    assert_eq!(texts(&queue.take()), ["4b", "4c"]);
    queue.confirm(3).unwrap();
    queue.rewind();
    assert!(queue.is_empty());
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn an_offset_of_something_else_is_refused() {
    let mut queue = Outbound::default();
    queue.track();
    for text in ["a", "b"] {
        queue.push(alone(text), Close, LIMITS).unwrap();
    }
    queue.take();
    queue.confirm(1).unwrap();
    let bad = |asked| BadOffset {
        asked,
        first: 1,
        last: 2,
    };
    assert_eq!(queue.confirm(0), Err(bad(0)));
    assert_eq!(queue.confirm(3), Err(bad(3)));
    assert_eq!(queue.confirm(u64::MAX), Err(bad(u64::MAX)));
    assert_eq!(queue.confirm(2), Ok(1));
}

#[test]
fn a_noop_is_sent_alone_and_never_kept() {
    let mut queue = Outbound::default();
    queue.track();
    queue.push_noop();
    assert!(!queue.is_empty());
    assert_eq!(texts(&queue.take()), ["6"]);
    assert_eq!(queue.offset(), 0);
    queue.push_noop();
    queue.push(alone("a"), Close, LIMITS).unwrap();
    assert_eq!(texts(&queue.take()), ["4a"]);
}

#[test]
fn what_is_never_confirmed_fills_the_queue() {
    let limits = QueueLimits {
        packets: 10,
        bytes: 1_000,
        burst: 1,
    };
    let mut queue = Outbound::default();
    queue.track();
    let sent = (0..100).take_while(|_| {
        queue.take();
        queue.push(alone("a"), Close, limits).is_ok()
    });
    assert_eq!(sent.count(), 10);
    queue.track();
    let large = message(&"x".repeat(400));
    let sent = (0..100).take_while(|_| {
        queue.take();
        queue.push(with(large.clone(), &[]), Close, limits).is_ok()
    });
    assert_eq!(sent.count(), 2);
}

proptest! {
    /// In whatever portions they are taken, packets leave once and in order, and bytes are counted.
    #[test]
    fn portions_are_the_whole(steps in prop::collection::vec((any::<bool>(), 0..8usize), 0..100)) {
        let mut queue = Outbound::default();
        let (mut sent, mut received) = (0_usize, 0_usize);
        for (sends, count) in steps {
            if sends {
                for _ in 0..count {
                    let policy = if sent % 3 == 0 { DropOldest } else { Close };
                    queue.push(alone(&sent.to_string()), policy, LIMITS).unwrap();
                    sent += 1;
                }
                continue;
            }
            let taken = queue.take_up_to(count);
            prop_assert_eq!(taken.len(), count.min(sent - received));
            for packet in taken {
                let expected = format!("4{received}");
                prop_assert_eq!(packet.payload(), expected.as_bytes());
                received += 1;
            }
            prop_assert_eq!(queue.is_empty(), sent == received);
            prop_assert_eq!(queue.bytes() == 0, sent == received);
        }
    }

    /// However often a client comes again, from whatever it has, it gets each packet once.
    #[test]
    fn nothing_is_lost_or_doubled(steps in prop::collection::vec((0..4u8, 0..8usize), 0..100)) {
        let mut queue = Outbound::default();
        queue.track();
        let (mut sent, mut received) = (0_u64, 0_u64);
        for (step, part) in steps {
            if step == 0 {
                queue.push(alone(&sent.to_string()), Close, LIMITS).unwrap();
                sent += 1;
                continue;
            }
            if step == 1 {
                queue.confirm(received).unwrap();
                queue.rewind();
            }
            // A part of what is sent arrives; after a cut the client comes again.
            let mut number = queue.offset();
            let taken = queue.take_up_to(if step == 3 { part } else { usize::MAX });
            for packet in taken.iter().take(if step == 2 { usize::MAX } else { part }) {
                let expected = format!("4{number}");
                prop_assert_eq!(packet.payload(), expected.as_bytes());
                number += 1;
                received += u64::from(number > received);
            }
            queue.confirm(received).unwrap();
            queue.rewind();
        }
        let number = queue.offset();
        prop_assert_eq!(number, received);
        prop_assert_eq!(queue.take().len() as u64, sent - received);
    }
}
const FORM: Form = Form::of(Revision::V4);

/// One message for several queues.
struct Shared(Encoded);

impl Forms for Shared {
    fn frame(&mut self, _: Form) -> Option<&[u8]> {
        None
    }

    fn encoded(&mut self, _: Form) -> &Encoded {
        &self.0
    }
}

/// Writes as much of the queue as `count` says.
fn write(queue: &mut Outbound, count: usize, written: &mut Vec<u8>) {
    let contiguous = queue.contiguous().map(<[u8]>::to_vec);
    let mut slices = [IoSlice::new(&[]); 3];
    let filled = queue.frames(&mut slices);
    let waiting: Vec<u8> = slices[..filled].iter().flat_map(|s| s.to_vec()).collect();
    assert!(filled == 1 || contiguous.is_none());
    assert!(contiguous.is_none_or(|contiguous| contiguous == waiting));
    let count = count.min(waiting.len());
    written.extend_from_slice(&waiting[..count]);
    queue.advance(count);
}

proptest! {
    /// However messages enter a queue, alone, appended or in a bundle that others continue, and
    /// whatever parts of it are written meanwhile, they leave whole and in their order.
    #[test]
    fn the_tail_is_in_its_place(steps in prop::collection::vec((0..6u8, 0..40usize), 0..100)) {
        let mut queue = Outbound::default();
        let (mut expected, mut written) = (Vec::new(), Vec::new());
        let mut bundle = Arc::new(Bundle::default());
        for (number, (step, size)) in steps.into_iter().enumerate() {
            let text = format!("{number}{}", "x".repeat(size));
            let packet = message(&text);
            match step {
                0 => {
                    queue.push(alone(&text), Close, LIMITS).unwrap();
                }
                1 | 2 => prop_assert!(queue.append(packet.frame(), LIMITS)),
                3 => {
                    bundle = Arc::new(Bundle::default());
                    bundle.begin(FORM, &alone(&text));
                    prop_assert!(queue.share(&bundle, FORM, LIMITS));
                }
                4 if bundle.append(&mut Shared(alone(&text))) => {
                    if !matches!(&queue.tail, Tail::Shared(tail, _) if Arc::ptr_eq(tail, &bundle)) {
                        // It is nobody's.
                        continue;
                    }
                }
                4 => continue,
                _ => {
                    write(&mut queue, size, &mut written);
                    continue;
                }
            }
            expected.extend_from_slice(packet.frame());
            prop_assert_eq!(queue.bytes() - queue.written, expected.len() - written.len());
        }
        while !queue.is_empty() {
            write(&mut queue, 7, &mut written);
        }
        prop_assert_eq!(written, expected);
        prop_assert_eq!(queue.bytes(), 0);
    }
}

#[test]
fn a_tail_counts_in_the_limits() {
    let limits = QueueLimits {
        packets: 2,
        bytes: 1 << 20,
        burst: 1,
    };
    let mut queue = Outbound::default();
    queue.push(alone("a"), Close, limits).unwrap();
    assert!(queue.append(message("b").frame(), limits));
    assert_eq!(
        queue.push(alone("c"), Close, limits).unwrap_err().packets,
        2
    );
    assert!(queue.append(message("d").frame(), limits));
}

#[test]
fn a_message_of_no_bytes_leaves_nothing_to_write() {
    let form = Form::of(Revision::V4);
    let nothing = Encoded::Frames(Bytes::new());
    let mut queue = Outbound::default();
    queue.push(nothing.clone(), Close, LIMITS).unwrap();
    assert!(queue.is_empty());

    let bundle = Arc::<Bundle>::default();
    bundle.begin(form, &nothing);
    assert!(queue.share(&bundle, form, LIMITS));
    assert_eq!(queue.frames(&mut [IoSlice::new(&[]); 2]), 0);
    assert!(queue.is_empty());
}

/// A panic here would end the process.
#[test]
fn a_queue_is_written_also_while_its_thread_ends() {
    struct Ending(Outbound);
    impl Drop for Ending {
        fn drop(&mut self) {
            use_memory(&mut self.0);
        }
    }
    fn use_memory(queue: &mut Outbound) {
        assert!(queue.append(b"own", LIMITS));
        queue.push(alone("packet"), Close, LIMITS).unwrap();
        queue.advance(queue.bytes());
        assert!(queue.append(b"own", LIMITS));
        queue.advance(queue.bytes());
    }
    thread_local! {
        static ENDING: Ending = Ending(Outbound::default());
    }
    // What a thread makes first is dropped last.
    let thread = std::thread::spawn(|| {
        ENDING.with(|_| ());
        use_memory(&mut Outbound::default());
    });
    thread.join().unwrap();
}
