//! What waits for the log of a namespace, in the order in which it was asked for.
//!
//! Where a log needs time to store an event, the event waits here, and behind it whatever its sender
//! does next to the sockets of the namespace: joins and leaves, emits that ask for an acknowledgement,
//! acknowledgements, disconnects. So each socket gets what it would get of a log that stores at once.
//! [`Ordered`](super::Ordered) owns the queue, under its lock; a [`Worker`](super::worker) does one step
//! after the other.
//!
//! Events are bounded by the log, which refuses what it can't take. If too many other steps wait they
//! wait no longer: they are done in their order, and the events come behind them. So it is while the
//! log is away, since clients come and go meanwhile.
//!
//! Of a log that several servers share, events of others come with their sequence. They wait for no
//! event that this server has yet to hear back, since that will have a higher one.

use std::{
    collections::{HashSet, VecDeque},
    future::ready,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll, Waker},
};

use antiphon_protocol::socket::Outgoing;

use super::log::LogError;
use crate::{
    engine::QueuePolicy,
    server::{Room, Socket, Target, handlers::future::BoxFuture, rooms::Rooms},
};

/// Steps that are no events, and bytes of them, that wait at the most.
const MOST_STEPS: usize = 65_536;
const MOST_BYTES: usize = 64 << 20;

/// Events of other servers that wait behind steps that are being done, at the most.
const MOST_OF_OTHERS: usize = 4_096;

/// What a step may take beside what it says.
const STEP: usize = size_of::<Step>();

/// What waits, in its order.
#[derive(Default)]
pub(crate) struct Waiting {
    steps: VecDeque<Step>,
    /// Of those that are no events.
    others: usize,
    bytes: usize,
    /// What doesn't wait any longer, since too much did. Done before the steps.
    hurried: VecDeque<Step>,
    /// In both.
    changes: usize,
    /// Events of other servers, in the order of the log.
    of_others: VecDeque<(Delivery, u64)>,
    /// The log is away: nobody knows how long events wait.
    is_stalled: bool,
    /// Until all has been done, also what was taken from here.
    pub(super) has_worker: bool,
    worker: Option<Waker>,
}

/// Something that is done in its turn.
enum Step {
    /// When it has been stored.
    Event(Delivery, BoxFuture<Result<u64, LogError>>),
    Change(Change),
    Work(usize, Work),
}

/// Done without a lock: it may call what is the user's.
pub(crate) type Work = Box<dyn FnOnce() + Send>;

/// An event that waits to be stored.
pub(super) struct Delivery {
    pub(super) event: Outgoing,
    pub(super) receivers: Receivers,
    pub(super) policy: QueuePolicy,
}

/// Who gets an event.
pub(super) enum Receivers {
    /// With the rooms under which it is logged.
    One(Socket, Target),
    Many(Target),
}

/// What is to be done now.
pub(super) enum Due {
    Event(Delivery, Result<u64, LogError>),
    Change(Change),
    Work(Work),
}

/// A change of memberships.
pub(crate) enum Change {
    Join(Members, Vec<Room>),
    Leave(Members, Vec<Room>),
    /// The socket leaves its namespace.
    Remove(Socket),
}

/// Whose memberships change.
pub(crate) enum Members {
    One(Socket),
    Many(Target),
}

impl Members {
    fn include(&self, socket: &Socket, rooms: &[Room]) -> bool {
        match self {
            Self::One(one) => one == socket,
            Self::Many(target) => target.selects(rooms),
        }
    }
}

impl Change {
    /// Makes the change.
    pub(crate) fn make(&self, rooms: &Rooms) {
        match self {
            Self::Join(Members::One(socket), names) => drop(rooms.join_one(socket, names)),
            Self::Join(Members::Many(target), names) => rooms.join(target, names),
            Self::Leave(Members::One(socket), names) => drop(rooms.leave_one(socket, names)),
            Self::Leave(Members::Many(target), names) => rooms.leave(target, names),
            Self::Remove(socket) => rooms.remove(socket),
        }
    }

    /// The rooms of a socket after this. Returns `None` if it has left the namespace.
    fn rooms_of(&self, socket: &Socket, mut rooms: Vec<Room>) -> Option<Vec<Room>> {
        match self {
            Self::Remove(one) if one == socket => return None,
            Self::Join(members, names) if members.include(socket, &rooms) => {
                for name in names {
                    if !rooms.contains(name) {
                        rooms.push(name.clone());
                    }
                }
            }
            Self::Leave(members, names) if members.include(socket, &rooms) => {
                rooms.retain(|room| !names.contains(room));
            }
            _ => {}
        }
        Some(rooms)
    }

    /// About so many bytes are kept for it.
    fn size(&self) -> usize {
        let names = match self {
            Self::Join(_, names) | Self::Leave(_, names) => names.as_slice(),
            Self::Remove(_) => &[],
        };
        names.iter().map(|name| name.len()).sum()
    }
}

impl Step {
    const fn is_event(&self) -> bool {
        matches!(self, Self::Event(..))
    }

    fn size(&self) -> usize {
        STEP + match self {
            Self::Event(..) => 0,
            Self::Change(change) => change.size(),
            Self::Work(bytes, _) => *bytes,
        }
    }
}

impl Waiting {
    /// Whether what is emitted now has to wait.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
            && self.hurried.is_empty()
            && self.of_others.is_empty()
            && !self.has_worker
    }

    /// An event of another server has come. Returns whether there was room for it.
    pub(super) fn push_of_others(&mut self, delivery: Delivery, sequence: u64) -> bool {
        if self.of_others.len() >= MOST_OF_OTHERS {
            return false;
        }
        self.of_others.push_back((delivery, sequence));
        self.worker.take().into_iter().for_each(Waker::wake);
        true
    }

    /// An event waits until it is stored.
    pub(super) fn push_event(
        &mut self,
        delivery: Delivery,
        stored: BoxFuture<Result<u64, LogError>>,
    ) {
        self.steps.push_back(Step::Event(delivery, stored));
    }

    pub(crate) fn push_change(&mut self, change: Change) {
        self.changes += 1;
        self.push(Step::Change(change));
    }

    /// Something is to be done that keeps about so many bytes meanwhile.
    pub(crate) fn push_work(&mut self, bytes: usize, work: Work) {
        self.push(Step::Work(bytes, work));
    }

    fn push(&mut self, step: Step) {
        self.others += 1;
        self.bytes += step.size();
        self.steps.push_back(step);
        if self.others >= MOST_STEPS || self.bytes >= MOST_BYTES {
            tracing::warn!(
                steps = self.others,
                bytes = self.bytes,
                "too much waits for the log: what waits behind events is done before them"
            );
            self.hurry();
        } else if self.is_stalled {
            self.hurry();
        }
    }

    /// The log is away, or there again. While it is away, what isn't an event waits for none.
    pub(super) fn stall(&mut self, is_stalled: bool) {
        self.is_stalled = is_stalled;
        if is_stalled && self.others > 0 {
            self.hurry();
        }
    }

    /// What isn't an event waits no longer.
    fn hurry(&mut self) {
        let (events, others) = mem::take(&mut self.steps)
            .into_iter()
            .partition(Step::is_event);
        self.steps = events;
        self.hurried.append(&mut { others });
        (self.others, self.bytes) = (0, 0);
        self.worker.take().into_iter().for_each(Waker::wake);
    }

    /// What is next, when it may be done. Ready with `None` if nothing waits: the worker is done.
    pub(super) fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Due>> {
        let hurried = self.hurried.pop_front();
        let is_hurried = hurried.is_some();
        let Some(step) = hurried.or_else(|| self.steps.pop_front()) else {
            if let Some(due) = self.next_of_others(u64::MAX) {
                return Poll::Ready(Some(due));
            }
            // Its memory is given back.
            *self = Self {
                is_stalled: self.is_stalled,
                ..Self::default()
            };
            return Poll::Ready(None);
        };
        if !is_hurried && !step.is_event() {
            self.others -= 1;
            self.bytes -= step.size();
        }
        let due = match step {
            Step::Event(delivery, mut stored) => {
                // Logs are the user's, too.
                let polled = catch_unwind(AssertUnwindSafe(|| stored.as_mut().poll(context)));
                match polled {
                    Ok(Poll::Pending) => {
                        self.steps.push_front(Step::Event(delivery, stored));
                        // It will come behind these.
                        if let Some(due) = self.next_of_others(u64::MAX) {
                            return Poll::Ready(Some(due));
                        }
                        self.worker = Some(context.waker().clone());
                        return Poll::Pending;
                    }
                    Ok(Poll::Ready(Ok(sequence))) => match self.next_of_others(sequence) {
                        Some(before) => {
                            let stored = Box::pin(ready(Ok(sequence)));
                            self.steps.push_front(Step::Event(delivery, stored));
                            before
                        }
                        None => Due::Event(delivery, Ok(sequence)),
                    },
                    Ok(Poll::Ready(stored)) => Due::Event(delivery, stored),
                    Err(_) => Due::Event(delivery, Err(LogError::Failed("it panicked".to_owned()))),
                }
            }
            Step::Change(change) => {
                self.changes -= 1;
                Due::Change(change)
            }
            Step::Work(_, work) => Due::Work(work),
        };
        Poll::Ready(Some(due))
    }

    /// The next event of another server, if it is one before this sequence.
    fn next_of_others(&mut self, before: u64) -> Option<Due> {
        let (_, sequence) = self.of_others.front()?;
        if *sequence >= before {
            return None;
        }
        let (delivery, sequence) = self.of_others.pop_front()?;
        Some(Due::Event(delivery, Ok(sequence)))
    }

    /// Whether memberships are going to change.
    pub(crate) const fn has_changes(&self) -> bool {
        self.changes > 0
    }

    fn changes(&self) -> impl Iterator<Item = &Change> {
        // Mostly there are none.
        let steps = (self.changes > 0).then(|| self.hurried.iter().chain(&self.steps));
        steps.into_iter().flatten().filter_map(|step| match step {
            Step::Change(change) => Some(change),
            Step::Event(..) | Step::Work(..) => None,
        })
    }

    /// The rooms of a socket when all has been done that waits, if these are its rooms now. Returns
    /// `None` if it will have left the namespace.
    pub(crate) fn rooms_of(&self, socket: &Socket, rooms: Vec<Room>) -> Option<Vec<Room>> {
        let mut changes = self.changes();
        changes.try_fold(rooms, |rooms, change| change.rooms_of(socket, rooms))
    }

    /// The sockets of `target` when all has been done that waits.
    pub(crate) fn sockets(&self, rooms: &Rooms, target: &Target) -> Vec<Socket> {
        let mut sockets = rooms.sockets(target);
        if self.changes == 0 {
            return sockets;
        }
        let changing = self.changing(rooms);
        let ids: HashSet<_> = changing.iter().map(Socket::id).collect();
        sockets.retain(|socket| !ids.contains(socket.id()));
        drop(ids);
        sockets.extend(changing.into_iter().filter(|socket| {
            let changed = self.rooms_of(socket, rooms.of_socket(socket));
            rooms.contains(socket) && changed.is_some_and(|rooms| target.selects(&rooms))
        }));
        sockets
    }

    /// The sockets whose memberships may change, each once.
    fn changing(&self, rooms: &Rooms) -> Vec<Socket> {
        let mut sockets: Vec<Socket> = Vec::new();
        for change in self.changes() {
            match change {
                Change::Join(Members::One(socket), _)
                | Change::Leave(Members::One(socket), _)
                | Change::Remove(socket) => sockets.push(socket.clone()),
                Change::Join(Members::Many(_), _) | Change::Leave(Members::Many(_), _) => {
                    return rooms.all();
                }
            }
        }
        sockets.sort_unstable_by(|one, other| one.id().cmp(other.id()));
        sockets.dedup();
        sockets
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::mpsc};

    use super::*;

    fn event(number: usize) -> Delivery {
        Delivery {
            event: Outgoing::event("event", &number).expect("an event"),
            receivers: Receivers::Many(Target::default()),
            policy: QueuePolicy::Close,
        }
    }

    /// Does what may be done. Returns how many events that were.
    fn work(waiting: &mut Waiting) -> usize {
        let mut context = Context::from_waker(Waker::noop());
        let mut events = 0;
        while let Poll::Ready(Some(due)) = waiting.next(&mut context) {
            match due {
                Due::Event(..) => events += 1,
                Due::Work(work) => work(),
                Due::Change(_) => panic!("there is none"),
            }
        }
        events
    }

    /// The sequences of the events that may be delivered, in this order.
    fn delivered(waiting: &mut Waiting) -> Vec<u64> {
        let mut context = Context::from_waker(Waker::noop());
        let mut sequences = Vec::new();
        while let Poll::Ready(Some(due)) = waiting.next(&mut context) {
            if let Due::Event(_, Ok(sequence)) = due {
                sequences.push(sequence);
            }
        }
        sequences
    }

    #[test]
    fn events_of_others_are_delivered_between_ones_own_in_the_order_of_the_log() {
        let mut waiting = Waiting::default();
        let stored = |sequence| Box::pin(ready(Ok(sequence)));
        waiting.push_event(event(0), stored(5));
        waiting.push_work(0, Box::new(|| ()));
        waiting.push_event(event(1), stored(9));
        waiting.push_event(event(2), Box::pin(pending()));
        for sequence in [3, 4, 7, 8, 10] {
            assert!(waiting.push_of_others(event(3), sequence));
        }
        // What isn't heard back yet comes behind all that has been heard.
        assert_eq!(delivered(&mut waiting), [3, 4, 5, 7, 8, 9, 10]);
        assert_eq!(waiting.steps.len(), 1);
    }

    #[test]
    fn events_of_others_beyond_the_bound_are_refused() {
        let mut waiting = Waiting::default();
        waiting.push_event(event(0), Box::pin(pending()));
        let taken = (1..).take_while(|sequence| waiting.push_of_others(event(1), *sequence));
        assert_eq!(taken.count(), MOST_OF_OTHERS);
        assert_eq!(delivered(&mut waiting).len(), MOST_OF_OTHERS);
        assert!(waiting.push_of_others(event(1), u64::MAX));
    }

    #[test]
    fn what_waits_behind_an_event_is_done_behind_it() {
        let (done, order) = mpsc::channel();
        let mut waiting = Waiting::default();
        waiting.push_event(event(0), Box::pin(pending()));
        waiting.push_work(0, Box::new(move || done.send(()).expect("the test waits")));
        assert_eq!(work(&mut waiting), 0);
        assert!(order.try_recv().is_err());
        waiting.steps[0] = Step::Event(event(0), Box::pin(async { Ok(1) }));
        assert_eq!(work(&mut waiting), 1);
        assert_eq!(order.try_recv(), Ok(()));
        assert!(waiting.is_empty());
    }

    #[test]
    fn if_too_much_waits_all_but_the_events_is_done_in_its_order() {
        for bytes in [0, MOST_BYTES / 16] {
            let (done, order) = mpsc::channel();
            let mut waiting = Waiting::default();
            waiting.push_event(event(0), Box::pin(pending()));
            let mut pushed = 0;
            while waiting.hurried.is_empty() {
                let done = done.clone();
                let number = pushed;
                let work = move || done.send(number).expect("the test waits");
                waiting.push_work(bytes, Box::new(work));
                pushed += 1;
            }
            assert!(pushed <= MOST_STEPS && waiting.bytes == 0);
            assert_eq!(work(&mut waiting), 0);
            assert!(order.try_iter().eq(0..pushed));
            // The event waits on, and what comes now waits behind it.
            waiting.push_work(
                bytes,
                Box::new(move || done.send(0).expect("the test waits")),
            );
            assert_eq!(work(&mut waiting), 0);
            assert!(order.try_recv().is_err() && !waiting.is_empty());
        }
    }

    #[test]
    fn while_the_log_is_away_what_isnt_an_event_waits_for_none() {
        let (done, order) = mpsc::channel();
        let mut waiting = Waiting::default();
        let push = |waiting: &mut Waiting, number| {
            let done = done.clone();
            let work = move || done.send(number).expect("the test waits");
            waiting.push_work(0, Box::new(work));
        };
        waiting.push_event(event(0), Box::pin(pending()));
        push(&mut waiting, 0);
        assert_eq!((work(&mut waiting), order.try_iter().count()), (0, 0));
        waiting.stall(true);
        push(&mut waiting, 1);
        assert_eq!(work(&mut waiting), 0);
        assert!(order.try_iter().eq(0..2));
        waiting.stall(false);
        push(&mut waiting, 2);
        assert_eq!((work(&mut waiting), order.try_iter().count()), (0, 0));
    }

    #[test]
    fn a_log_that_panics_loses_that_event_alone() {
        let mut waiting = Waiting::default();
        waiting.push_event(event(0), Box::pin(async { panic!("the test's log") }));
        waiting.push_event(event(1), Box::pin(async { Ok(1) }));
        assert_eq!(work(&mut waiting), 2);
    }
}
