//! What becomes of messages that may be dropped, against the same rules on a plain list.

use super::*;

const SMALL: QueueLimits = QueueLimits {
    packets: 4,
    bytes: 1_000,
    burst: 2,
};

fn key(name: &str) -> QueuePolicy {
    Conflate(ConflateKey::new("/", name))
}

fn send(queue: &mut Outbound, text: &str, policy: QueuePolicy) -> Queued {
    queue.push(alone(text), policy, SMALL).unwrap()
}

fn left(queue: &mut Outbound) -> Vec<String> {
    texts(&queue.take())
}

#[test]
fn the_newest_is_dropped_where_the_queue_is_full() {
    let mut queue = Outbound::default();
    let dropped = ["a", "b", "c", "d", "e", "f"].map(|text| send(&mut queue, text, DropNewest));
    let dropped = dropped.map(|queued| queued.is_dropped);
    assert_eq!(dropped, [false, false, false, false, true, true]);
    assert_eq!(left(&mut queue), ["4a", "4b", "4c", "4d"]);
}

#[test]
fn the_oldest_is_dropped_where_the_queue_is_full() {
    let mut queue = Outbound::default();
    let queued = ["a", "b", "c", "d", "e", "f"].map(|text| send(&mut queue, text, DropOldest));
    assert_eq!(queued.map(|queued| queued.dropped), [0, 0, 0, 0, 1, 1]);
    assert_eq!(left(&mut queue), ["4c", "4d", "4e", "4f"]);
}

#[test]
fn a_message_that_must_arrive_pushes_out_those_that_need_not() {
    let mut queue = Outbound::default();
    for text in ["a", "b"] {
        send(&mut queue, text, DropOldest);
    }
    for text in ["c", "d", "e", "f"] {
        send(&mut queue, text, Close);
    }
    assert!(send(&mut queue, "g", DropOldest).is_dropped);
    assert!(send(&mut queue, "h", Close).is_behind);
    assert_eq!(left(&mut queue), ["4c", "4d", "4e", "4f", "4h"]);
}

#[test]
fn of_a_key_only_the_newest_waits_in_its_own_turn() {
    let mut queue = Outbound::default();
    send(&mut queue, "x1", key("x"));
    send(&mut queue, "y1", key("y"));
    send(&mut queue, "joined", Close);
    assert_eq!(send(&mut queue, "x2", key("x")).conflated, 1);
    assert_eq!(left(&mut queue), ["4y1", "4joined", "4x2"]);
    // What has left is no longer in its way.
    assert_eq!(send(&mut queue, "x3", key("x")).conflated, 0);
    assert_eq!(left(&mut queue), ["4x3"]);
}

#[test]
fn a_message_and_its_attachments_are_dropped_together() {
    let mut queue = Outbound::default();
    let attachment = EncodedPacket::binary(b"1", Revision::V4);
    let pair = |text| with(message(text), std::slice::from_ref(&attachment));
    for text in ["a", "b", "c"] {
        queue.push(pair(text), DropOldest, SMALL).unwrap();
    }
    queue.push(pair("d"), key("d"), SMALL).unwrap();
    queue.push(pair("e"), key("d"), SMALL).unwrap();
    assert_eq!(left(&mut queue), ["4c", "1", "4e", "1"]);
}

#[test]
fn what_has_begun_to_leave_is_not_dropped() {
    let mut queue = Outbound::default();
    let all: Vec<_> = ["a", "b"].map(|text| message(text).frame().to_vec()).into();
    send(&mut queue, "a", key("x"));
    let mut written = Vec::new();
    write(&mut queue, 1, &mut written);
    assert_eq!(send(&mut queue, "b", key("x")).conflated, 0);
    write(&mut queue, usize::MAX, &mut written);
    write(&mut queue, usize::MAX, &mut written);
    assert_eq!(written, all.concat());
    assert!(queue.is_empty());
}

#[test]
fn packets_with_numbers_are_not_dropped() {
    let mut queue = Outbound::default();
    queue.track();
    send(&mut queue, "a", key("x"));
    assert_eq!(left(&mut queue), ["4a"]);
    queue.rewind();
    send(&mut queue, "b", key("x"));
    send(&mut queue, "c", key("x"));
    assert_eq!(left(&mut queue), ["4a", "4c"]);
}

#[test]
fn a_ping_waits_behind_what_may_be_dropped() {
    let mut queue = Outbound::default();
    send(&mut queue, "a", DropOldest);
    queue.push_control(EncodedPacket::text(PacketType::Ping, ""));
    assert!(!queue.append(message("b").frame(), SMALL));
    assert_eq!(left(&mut queue), ["4a", "2"]);
}

#[test]
fn a_queue_owns_nothing_when_all_of_it_has_left() {
    let mut queue = Outbound::default();
    send(&mut queue, "a", key("x"));
    write(&mut queue, usize::MAX, &mut Vec::new());
    assert!(queue.held.is_none());
    assert_eq!(queue.bytes(), 0);
}

const LIMITS: QueueLimits = QueueLimits {
    packets: 12,
    bytes: 40_000,
    burst: 2,
};

/// The same rules, on a list.
#[derive(Default)]
struct Naive {
    messages: Vec<Waiting>,
    /// So many of them are not dropped any more.
    entered: usize,
    /// Bytes of the first packet that have been written.
    written: usize,
}

struct Waiting {
    packets: VecDeque<Vec<u8>>,
    policy: QueuePolicy,
}

impl Naive {
    fn sizes(messages: &[Waiting]) -> (usize, usize) {
        let packets = messages.iter().flat_map(|message| &message.packets);
        (packets.clone().count(), packets.map(Vec::len).sum())
    }

    fn has_room(&self, new: &Waiting, times: usize) -> bool {
        let (packets, bytes) = Self::sizes(&self.messages);
        let (count, length) = Self::sizes(std::slice::from_ref(new));
        self.messages.is_empty()
            || (packets + count <= LIMITS.packets * times && bytes + length <= LIMITS.bytes * times)
    }

    /// Drops the first message of this policy. Returns whether there was one.
    fn drop(&mut self, policy: QueuePolicy) -> bool {
        let mut droppable = self.messages.iter().skip(self.entered);
        let found = droppable.position(|message| message.policy == policy);
        if let Some(at) = found {
            self.messages.remove(self.entered + at);
        }
        found.is_some()
    }

    /// Returns `None` if the queue is full.
    fn push(&mut self, new: Waiting) -> Option<Queued> {
        let mut queued = Queued::default();
        if let Conflate(_) = new.policy {
            queued.conflated = self.drop(new.policy).into();
        }
        if !self.has_room(&new, 1) && new.policy == DropNewest {
            queued.is_dropped = true;
            return Some(queued);
        }
        while !self.has_room(&new, 1) && self.drop(DropOldest) {
            queued.dropped += 1;
        }
        if !self.has_room(&new, 1) {
            if new.policy == DropOldest {
                queued.is_dropped = true;
                return Some(queued);
            }
            queued.is_behind = true;
            if !self.has_room(&new, 2) {
                return None;
            }
        }
        let is_first = self.entered == self.messages.len();
        let may_go = matches!(new.policy, DropOldest | Conflate(_));
        self.entered += usize::from(is_first && !may_go);
        self.messages.push(new);
        Some(queued)
    }

    fn enter(&mut self, bytes: usize) {
        while self.entered < self.messages.len()
            && Self::sizes(&self.messages[..self.entered]).1 - self.written < bytes
        {
            self.entered += 1;
        }
    }

    fn advance(&mut self, mut count: usize) {
        count += std::mem::take(&mut self.written);
        while let Some(first) = self.messages.first_mut() {
            let Some(packet) = first.packets.front().filter(|packet| packet.len() <= count) else {
                break;
            };
            count -= packet.len();
            first.packets.pop_front();
            if first.packets.is_empty() {
                self.messages.remove(0);
                self.entered -= 1;
            }
        }
        self.written = count;
    }

    fn bytes(&self) -> usize {
        Self::sizes(&self.messages).1
    }
}

fn policies() -> impl Strategy<Value = QueuePolicy> {
    prop_oneof![
        Just(Close),
        Just(DropNewest),
        Just(DropOldest),
        Just(key("a")),
        Just(key("b")),
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Push(QueuePolicy, usize, usize),
    Write(usize),
    Control,
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (policies(), 0..5_000_usize, 0..3_usize)
            .prop_map(|(policy, size, attachments)| Step::Push(policy, size, attachments)),
        2 => (0..20_000_usize).prop_map(Step::Write),
        1 => Just(Step::Control),
    ]
}

proptest! {
    /// Whatever is sent and written in between, what leaves is what the list says: messages are
    /// whole and in their order, and the bounds are kept.
    #[test]
    fn a_queue_drops_as_a_plain_list_does(steps in prop::collection::vec(steps(), 0..200)) {
        let mut queue = Outbound::default();
        let mut naive = Naive::default();
        let (mut written, mut expected) = (Vec::new(), Vec::new());
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push(policy, size, attachments) => {
                    let first = message(&format!("{number}{}", "x".repeat(size)));
                    let attachment = EncodedPacket::binary(&number.to_le_bytes(), Revision::V4);
                    let attachments = vec![attachment; attachments];
                    let encoded = with(first.clone(), &attachments);
                    let packets = std::iter::once(&first).chain(&attachments);
                    let packets = packets.map(|packet| packet.frame().to_vec()).collect();
                    let queued = queue.push(encoded, policy, LIMITS);
                    prop_assert_eq!(queued.ok(), naive.push(Waiting { packets, policy }));
                }
                Step::Write(count) => {
                    naive.enter(WRITTEN);
                    let before = written.len();
                    write(&mut queue, count, &mut written);
                    let count = written.len() - before;
                    let waiting = naive.messages.iter().flat_map(|message| &message.packets);
                    let waiting = waiting.flatten().skip(naive.written);
                    expected.extend(waiting.take(count).copied());
                    naive.advance(count);
                }
                Step::Control => {
                    let ping = EncodedPacket::text(PacketType::Ping, "");
                    let packets = [ping.frame().to_vec()].into();
                    queue.push_control(ping);
                    let is_first = naive.entered == naive.messages.len();
                    naive.entered += usize::from(is_first);
                    naive.messages.push(Waiting { packets, policy: Close });
                }
            }
            prop_assert!(written == expected, "other bytes have left");
            prop_assert_eq!(queue.bytes(), naive.bytes());
            prop_assert_eq!(queue.is_empty(), naive.messages.is_empty());
        }
        // By polling all that waits leaves at once.
        if naive.written == 0 {
            let waiting = naive.messages.iter().flat_map(|message| &message.packets);
            let taken: Vec<_> = queue.take().iter().map(|packet| packet.frame().to_vec()).collect();
            prop_assert!(waiting.eq(&taken), "other packets were taken");
            prop_assert_eq!(queue.bytes(), 0);
        }
    }
}
