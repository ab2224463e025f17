//! Whatever is cut, and wherever: a client that comes again with its offset gets each packet once.
//!
//! The client does what `packages/transports` does: it takes the answer of a poll as a whole and a
//! stream packet by packet, comes again after a cut, and moves on to a better transport when what
//! was under way has ended in order.

use proptest::{collection::vec, prelude::*};

use super::*;

/// Nothing is due but the noops of an upgrade: deadlines are the business of other tests.
const PATIENT: SessionConfig = SessionConfig {
    ping_interval: seconds(1_000_000),
    ping_timeout: seconds(1_000_000),
    upgrade_timeout: seconds(1_000_000),
    close_timeout: seconds(1_000_000),
    packets_per_poll: usize::MAX,
    queue: QueueLimits {
        packets: 10,
        bytes: 200,
        burst: 1,
    },
};

/// The room for the text of a message: no message takes half of the queue's bytes.
const LONGEST: usize = 60;

#[derive(Debug, Clone, Copy)]
enum Event {
    /// The application sends a message of so many bytes.
    Sends(usize),
    GetArrives,
    /// The server answers the poll, or takes the stream's next step.
    Serves,
    /// So many items of the response arrive, or a poll's answer as a whole.
    Arrives(usize),
    /// The request or response is cut. The server may notice at once, or not before the next GET.
    Cut {
        noticed: bool,
    },
    /// A POST confirms what has arrived.
    PostConfirms,
    /// Another transport is opened and probed.
    Probes(UpgradeTarget),
    /// A probe that hasn't been answered is lost.
    ProbeIsLost(UpgradeTarget),
    TimePasses,
}

/// What is on its way to the client.
#[derive(Debug, PartialEq, Eq)]
enum Item {
    Offset(u64),
    Packet(String),
    End,
}

#[derive(Debug)]
enum Get {
    None,
    /// On its way to the server.
    Sent(u64),
    /// The server has it, until it is `done` with it.
    Open {
        items: VecDeque<Item>,
        done: bool,
    },
}

struct Pair {
    server: Server,
    transport: TransportKind,
    get: Get,
    /// Packets that the client has had, and the number of the one that comes next in this response.
    offset: u64,
    position: u64,
    /// Where the client wants to go when what is under way has ended.
    pausing_for: Option<UpgradeTarget>,
    accepted: Vec<String>,
    received: Vec<String>,
    /// How many of the accepted messages the server knows to have arrived.
    confirmed: usize,
    /// How many had been accepted when the offset was 0.
    base: usize,
}

impl Pair {
    fn new(transport: TransportKind) -> Self {
        let server = Server::with_offsets(transport, PATIENT);
        Self {
            server,
            transport,
            get: Get::Sent(0),
            offset: 0,
            position: 0,
            pausing_for: None,
            accepted: Vec::new(),
            received: Vec::new(),
            confirmed: 0,
            base: 0,
        }
    }

    fn apply(&mut self, event: Event) -> bool {
        let moved = match event {
            Event::Sends(length) => self.sends(length),
            Event::GetArrives => self.get_arrives(),
            Event::Serves => self.serves(),
            Event::Arrives(count) => self.arrives(count),
            Event::Cut { noticed } => self.cut(noticed),
            Event::PostConfirms => self.post_confirms(),
            Event::Probes(to) => self.probes(to),
            Event::ProbeIsLost(to) => self.probe_is_lost(to),
            Event::TimePasses => !self.server.pass(NOOP_INTERVAL).is_empty(),
        };
        self.client_acts();
        self.check();
        moved
    }

    fn sends(&mut self, length: usize) -> bool {
        let text = format!("{:x<length$}", self.accepted.len());
        let sent = self.server.send(&text).is_ok();
        if sent {
            self.accepted.push(format!("4{text}"));
        }
        sent
    }

    fn get_arrives(&mut self) -> bool {
        let Get::Sent(offset) = self.get else {
            return false;
        };
        self.server.resume(offset);
        self.confirmed = self.confirmed.max(self.base + offset as usize);
        let mut items = VecDeque::new();
        if self.transport == STREAMING {
            items.push_back(Item::Offset(self.server.session.offset()));
        }
        self.position = offset;
        self.get = Get::Open { items, done: false };
        true
    }

    fn serves(&mut self) -> bool {
        let Get::Open {
            items,
            done: done @ false,
        } = &mut self.get
        else {
            return false;
        };
        let session = &mut self.server.session;
        let mut put =
            |packets: &VecDeque<_>| items.extend(texts(packets).into_iter().map(Item::Packet));
        if self.transport == POLLING {
            let Some(packets) = session.take_response() else {
                return false;
            };
            put(&packets);
            *done = true;
        } else {
            match session.stream_step() {
                StreamStep::Wait => return false,
                StreamStep::End => *done = true,
                StreamStep::Packets(packets) => {
                    put(&packets);
                    *done = session.keeps_much();
                }
            }
        }
        if *done {
            items.push_back(Item::End);
            self.server.handle(Input::GetEnded { answered: true });
        }
        true
    }

    fn arrives(&mut self, count: usize) -> bool {
        let Get::Open { items, .. } = &mut self.get else {
            return false;
        };
        let count = match self.transport {
            POLLING if items.back() == Some(&Item::End) => items.len(),
            POLLING => 0,
            _ => count.min(items.len()),
        };
        for item in items.drain(..count).collect::<Vec<_>>() {
            match item {
                Item::Offset(offset) => {
                    assert!(offset <= self.offset, "packets are missing");
                    self.position = offset;
                }
                Item::Packet(packet) if packet == "6" => {}
                Item::Packet(packet) => {
                    self.position += 1;
                    if self.position > self.offset {
                        self.offset = self.position;
                        self.received.push(packet);
                    }
                }
                Item::End => {
                    self.get = Get::None;
                    self.upgrades();
                }
            }
        }
        count > 0
    }

    fn cut(&mut self, noticed: bool) -> bool {
        let done = match self.get {
            Get::None => return false,
            // The server knows nothing of it.
            Get::Sent(_) => {
                self.get = Get::None;
                return true;
            }
            Get::Open { done, .. } => done,
        };
        if noticed {
            self.server.handle(match done {
                true => Input::ResponseCut,
                false => Input::GetEnded { answered: false },
            });
        }
        self.get = Get::None;
        true
    }

    fn post_confirms(&mut self) -> bool {
        if self.transport == WEBSOCKET {
            return false;
        }
        let confirmed = self.server.handle(Input::Confirmed(self.offset));
        assert_eq!(confirmed, Output::Nothing);
        self.confirmed = self.confirmed.max(self.base + self.offset as usize);
        true
    }

    fn probes(&mut self, to: UpgradeTarget) -> bool {
        let possible = self.pausing_for.is_none()
            && (self.transport == POLLING || self.transport == STREAMING && to == TO_WEBSOCKET);
        if !possible || self.server.handle(Input::ProbeOpened(to)) != Output::Nothing {
            return false;
        }
        let answered = self
            .server
            .handle(Input::ProbePacket(to, packet_of("2probe")));
        assert_eq!(answered, Output::Probe(ProbeStep::Answer));
        self.pausing_for = Some(to);
        if matches!(self.get, Get::None) && self.transport == POLLING {
            self.upgrades();
        }
        true
    }

    fn probe_is_lost(&mut self, to: UpgradeTarget) -> bool {
        let lost = self.pausing_for.is_none()
            && self.server.handle(Input::ProbeOpened(to)) == Output::Nothing;
        if lost {
            self.server.handle(Input::ProbeClosed(to));
        }
        lost
    }

    /// What was under way has ended in order: the client goes on with the other transport.
    fn upgrades(&mut self) {
        let Some(to) = self.pausing_for.take() else {
            return;
        };
        let completed = self.server.handle(Input::ProbePacket(to, packet_of("5")));
        assert_eq!(completed, Output::Probe(ProbeStep::Complete));
        self.transport = to.into();
        self.base = self.received.len();
        self.confirmed = self.base;
        self.offset = 0;
        self.get = Get::None;
        if to == TO_STREAMING {
            // The probed response goes on with the session's packets.
            let items = [Item::Offset(self.server.session.offset())].into();
            self.get = Get::Open { items, done: false };
        }
    }

    fn client_acts(&mut self) {
        if self.transport == WEBSOCKET {
            let written = self.server.written();
            self.received.extend(written);
            self.confirmed = self.received.len();
        } else if matches!(self.get, Get::None) {
            self.get = Get::Sent(self.offset);
        }
    }

    fn check(&self) {
        assert_eq!(self.server.closed(), None);
        assert!(self.accepted.starts_with(&self.received), "lost or doubled");
        let unconfirmed = &self.accepted[self.confirmed..];
        assert!(unconfirmed.len() <= PATIENT.queue.packets);
        // A short frame has a header of two bytes.
        let bytes: usize = unconfirmed.iter().map(|packet| 2 + packet.len()).sum();
        assert!(bytes <= PATIENT.queue.bytes);
    }

    /// Nothing is cut any more.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            let mut moved = false;
            for event in [Event::GetArrives, Event::Serves, Event::Arrives(1)] {
                moved |= self.apply(event);
            }
            if !moved && self.pausing_for.is_none() {
                return;
            }
            self.apply(Event::TimePasses);
        }
        panic!("the two never come to rest");
    }
}

fn transport() -> impl Strategy<Value = TransportKind> {
    prop_oneof![Just(POLLING), Just(STREAMING)]
}

fn target() -> impl Strategy<Value = UpgradeTarget> {
    prop_oneof![Just(TO_STREAMING), Just(TO_WEBSOCKET)]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (1..LONGEST).prop_map(Event::Sends),
        6 => Just(Event::GetArrives),
        6 => Just(Event::Serves),
        6 => (1_usize..4).prop_map(Event::Arrives),
        3 => any::<bool>().prop_map(|noticed| Event::Cut { noticed }),
        2 => Just(Event::PostConfirms),
        1 => target().prop_map(Event::Probes),
        1 => target().prop_map(Event::ProbeIsLost),
        1 => Just(Event::TimePasses),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn nothing_is_lost_or_doubled_by_cuts(opened_on in transport(), events in vec(event(), 0..150)) {
        let mut pair = Pair::new(opened_on);
        for event in events {
            pair.apply(event);
        }
        pair.settle();
        prop_assert_eq!(&pair.received, &pair.accepted);
        // There is room again.
        prop_assert!(pair.apply(Event::Sends(1)));
    }
}

#[test]
fn a_stream_may_be_cut_after_each_of_its_packets() {
    const MESSAGES: usize = 6;
    for cut_after in 0..=MESSAGES + 1 {
        for noticed in [false, true] {
            let mut pair = Pair::new(STREAMING);
            pair.apply(Event::GetArrives);
            (0..MESSAGES).for_each(|_| assert!(pair.apply(Event::Sends(1))));
            pair.apply(Event::Serves);
            pair.apply(Event::Arrives(cut_after));
            assert_eq!(
                pair.received.len(),
                cut_after.saturating_sub(1).min(MESSAGES)
            );
            pair.apply(Event::Cut { noticed });
            pair.settle();
            assert_eq!(pair.received, pair.accepted);
        }
    }
}
