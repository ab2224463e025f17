//! A turn: what one thread does between two looks at its I/O.
//!
//! Each connection that is ready brings a batch of input, and what its handlers emit goes to other
//! connections. While a [`scope`] is open on a thread, a session that has something to flush is
//! noted instead. When the scope ends, the thread owes it a flush, and pays when the runtime has
//! come to the end of what was ready: what thirty talkers of a room cause in one turn is one write
//! for each listener, and not thirty. What a connection causes for itself alone (an echo, an
//! acknowledgement) is flushed at the end of its scope, since no other input adds to it.
//!
//! Each thread that opens scopes owns one [`Turn`]. The turn's flusher, a task of the thread's
//! runtime, is woken behind the I/O driver, as a task that yields is. A thread without a runtime
//! flushes at the end of the scope.
//!
//! Nobody waits for the work of another:
//! * A thread that emits to a session which another thread has noted notes it, too: the first of
//!   them flushes it with all that waits ([`Mark`]).
//! * A broadcast comes last to the sessions that another thread writes to at the moment
//!   ([`Session::is_being_flushed`]).
//! * A debt that is older than [`GATHERED`], or than paying takes, is paid at the end of the next
//!   scope.
//! * A connection that brings many events handles them for as long as its [`Budget`] says.
//! * Flushing many sessions gives way to others after each [`SLICE`]; the I/O is looked at in
//!   between.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::pin,
    ptr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tokio::runtime::{Handle, Id};

use crate::engine::Session;

/// How old a debt may grow in a long turn: the end of a scope that finds it older pays. If paying
/// takes longer than this, so may gathering: at most half of the time is spent on it.
const GATHERED: Duration = Duration::from_micros(200);

/// How long one thread flushes at a stretch.
const SLICE: Duration = Duration::from_micros(500);

/// Sessions that are flushed between two looks at the clock.
const FLUSHES_A_LOOK: usize = 64;

/// Sessions that one thread may owe a flush: the end of a scope that finds more of them pays some.
const MOST_OWED: usize = 1 << 16;

/// How long one connection may handle its events in a turn.
const EVENTS: Duration = Duration::from_millis(1);

/// Events that it handles between two looks at the clock.
const EVENTS_A_LOOK: usize = 16;

/// Bytes of its events, and bytes that it reads, after which others have their turn. A compressed
/// message counts as what it was inflated to: what is read in one go may be a thousand times that.
pub(crate) const BYTES: usize = 128 << 10;

/// No turn is cut: see [`uncut`].
static UNCUT: AtomicBool = AtomicBool::new(false);

/// From now on no turn of this process is cut for the time that it takes, and no handler is
/// watched, if none has been registered yet: for programs that count instructions, under which
/// everything takes fifty times as long.
#[doc(hidden)]
pub fn uncut() {
    UNCUT.store(true, Ordering::Relaxed);
}

pub(crate) fn is_uncut() -> bool {
    UNCUT.load(Ordering::Relaxed)
}

fn has_passed(since: Instant, time: Duration) -> bool {
    !is_uncut() && since.elapsed() >= time
}

/// Which turn has noted a session last since it was flushed, or that it is flushed now. Written
/// under the session's lock alone, and asked without it: threads whose listeners are the same would
/// otherwise wait for each other at each of them.
#[derive(Debug, Default)]
pub(crate) struct Mark(AtomicU32);

/// The mark of a session that nobody owes a flush.
const NOBODY: u32 = 0;

/// The mark of a session that is flushed now.
const FLUSHED: u32 = u32::MAX;

impl Mark {
    /// Whether a turn will flush the session. Each that has noted it does, unless another one has
    /// begun to: that finds all that waits.
    pub(crate) fn is_noted(&self) -> bool {
        !matches!(self.0.load(Ordering::Relaxed), NOBODY | FLUSHED)
    }

    /// Whether a turn flushes it now, and holds its lock for as long as the kernel takes.
    pub(crate) fn is_being_flushed(&self) -> bool {
        self.0.load(Ordering::Relaxed) == FLUSHED
    }

    /// The session is flushed for as long as the guard lives.
    pub(crate) fn flush(&self) -> impl Drop {
        struct Flush<'m>(&'m Mark);
        impl Drop for Flush<'_> {
            fn drop(&mut self) {
                self.0.0.store(NOBODY, Ordering::Relaxed);
            }
        }
        self.0.store(FLUSHED, Ordering::Relaxed);
        Flush(self)
    }

    /// Returns `false` if this turn was the last to note it.
    fn note(&self, turn: u32) -> bool {
        let is_new = self.0.load(Ordering::Relaxed) != turn;
        if is_new {
            self.0.store(turn, Ordering::Relaxed);
        }
        is_new
    }
}

/// What a thread knows of its scope and its turn.
struct Thread {
    is_open: Cell<bool>,
    /// The session whose input the open scope handles. It is only compared.
    own: Cell<*const Session>,
    /// That session has been noted.
    own_noted: Cell<bool>,
    /// The others that have been noted in this scope.
    noted: RefCell<Vec<Arc<Session>>>,
    turn: RefCell<Option<Arc<Turn>>>,
}

thread_local! {
    static THREAD: Thread = const {
        Thread {
            is_open: Cell::new(false),
            own: Cell::new(ptr::null()),
            own_noted: Cell::new(false),
            noted: RefCell::new(Vec::new()),
            turn: RefCell::new(None),
        }
    };
}

impl Thread {
    fn turn<T>(&self, with: impl FnOnce(&Arc<Turn>) -> T) -> T {
        with(self.turn.borrow_mut().get_or_insert_with(Turn::new))
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            turn.end();
        }
    }
}

/// Runs `work`, in which sessions are noted and not flushed. Inside another scope it merely runs.
pub(crate) fn scope<R>(work: impl FnOnce() -> R) -> R {
    scope_with(None, work)
}

/// As [`scope`], for input of one session.
pub(crate) fn scope_of<R>(session: &Arc<Session>, work: impl FnOnce() -> R) -> R {
    scope_with(Some(session), work)
}

fn scope_with<R>(own: Option<&Arc<Session>>, work: impl FnOnce() -> R) -> R {
    let opened = THREAD.try_with(|thread| {
        let opened = !thread.is_open.replace(true);
        if opened {
            thread.own.set(own.map_or(ptr::null(), Arc::as_ptr));
        }
        opened
    });
    // Made only where it is wanted: dropped, it would end the scope of another.
    let _end = opened.unwrap_or(false).then(|| End { own });
    work()
}

/// Notes a session that has something to flush. Returns `false` if no scope is open: it is to be
/// flushed now.
pub(crate) fn note(session: &Arc<Session>, mark: &Mark) -> bool {
    let noted = THREAD.try_with(|thread| {
        thread.is_open.get()
            && thread.turn(|turn| {
                if mark.note(turn.number) {
                    match thread.own.get() == Arc::as_ptr(session) {
                        true => thread.own_noted.set(true),
                        false => thread.noted.borrow_mut().push(Arc::clone(session)),
                    }
                }
                true
            })
    });
    noted.unwrap_or(false)
}

/// Keeps a value until something is flushed or [`take`]n, instead of the one before.
pub(crate) fn keep(value: Box<dyn Any + Send>) {
    let replaced = THREAD.try_with(|thread| thread.turn(|turn| turn.keep(Some(value))));
    drop(replaced);
}

/// The value that this thread's turn keeps, if it is one of this type.
pub(crate) fn take<T: 'static>() -> Option<Box<T>> {
    let kept = THREAD.try_with(|thread| thread.turn(|turn| turn.keep(None)));
    kept.ok()??.downcast().ok()
}

/// Wakes a task behind the I/O driver of this thread: others have their turn first.
pub(crate) fn wake_behind_io(waker: &Waker) {
    // This is what a task that yields registers.
    let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(waker));
}

/// What is owed at the end of a scope.
enum Owed<'s> {
    /// A flush of the session that the scope was for, and of no other: it needs no end of a turn.
    ToItself(&'s Session),
    ToOthers(Arc<Turn>),
}

/// Ends the scope, also if the work panics.
struct End<'s> {
    own: Option<&'s Arc<Session>>,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        let owed = THREAD.try_with(|thread| {
            thread.is_open.set(false);
            let own = self.own.filter(|_| thread.own_noted.take());
            let mut noted = thread.noted.borrow_mut();
            thread.turn(|turn| {
                if !noted.is_empty() || turn.owes() {
                    noted.extend(own.map(Arc::clone));
                    turn.owe(&mut noted);
                    return Some(Owed::ToOthers(Arc::clone(turn)));
                }
                own.map(|own| Owed::ToItself(own))
            })
        });
        match owed {
            Ok(Some(Owed::ToItself(own))) => own.flush_noted(),
            Ok(Some(Owed::ToOthers(turn))) => turn.end_of_scope(),
            Ok(None) | Err(_) => {}
        }
    }
}

/// What one connection may do in a turn.
#[derive(Default)]
pub(crate) struct Budget {
    /// When its second event was handled: for one alone the clock isn't asked.
    began: Option<Instant>,
    events: usize,
    bytes: usize,
    is_spent: bool,
}

impl Budget {
    /// An event of so many bytes has been handled. Returns whether more may be.
    pub(crate) fn spend(&mut self, bytes: usize) -> bool {
        if self.events % EVENTS_A_LOOK == 1 {
            let began = *self.began.get_or_insert_with(Instant::now);
            self.is_spent = self.events > 1 && has_passed(began, EVENTS);
        }
        self.events += 1;
        self.bytes += bytes;
        self.is_spent |= self.bytes >= BYTES;
        !self.is_spent
    }

    /// Whether others should have their turn.
    pub(crate) const fn is_spent(&self) -> bool {
        self.is_spent
    }
}

/// The flushes that one thread owes.
struct Turn {
    /// What marks the sessions that it has noted.
    number: u32,
    /// Whether something is owed or kept, to be asked without the lock.
    owes: AtomicBool,
    debts: Mutex<Debts>,
}

#[derive(Default)]
struct Debts {
    sessions: VecDeque<Arc<Session>>,
    /// Since when the first of them waits, or something was paid last.
    since: Option<Instant>,
    /// How long the last payment took.
    paying: Duration,
    kept: Option<Box<dyn Any + Send>>,
    flusher: Option<Flusher>,
    /// Counts flushers, so that one whose place was taken ends.
    flushers: u32,
}

/// What a turn knows of the task that flushes at its end.
struct Flusher {
    runtime: Id,
    /// `None` while it is about to be polled.
    waiting: Option<Waker>,
}

impl Turn {
    fn new() -> Arc<Self> {
        static NUMBERS: AtomicU32 = AtomicU32::new(1);
        let mut number = NOBODY;
        while matches!(number, NOBODY | FLUSHED) {
            number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        }
        Arc::new(Self {
            number,
            owes: AtomicBool::new(false),
            debts: Mutex::default(),
        })
    }

    fn debts(&self) -> MutexGuard<'_, Debts> {
        self.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owes(&self) -> bool {
        self.owes.load(Ordering::Relaxed)
    }

    fn owe(&self, noted: &mut Vec<Arc<Session>>) {
        let mut debts = self.debts();
        if !noted.is_empty() {
            debts.since.get_or_insert_with(Instant::now);
        }
        debts.sessions.extend(noted.drain(..));
        self.owes.store(true, Ordering::Relaxed);
    }

    /// Keeps a value, and gives the one before.
    fn keep(&self, value: Option<Box<dyn Any + Send>>) -> Option<Box<dyn Any + Send>> {
        if value.is_none() && !self.owes() {
            return None;
        }
        self.owes.store(true, Ordering::Relaxed);
        std::mem::replace(&mut self.debts().kept, value)
    }

    /// Pays what is old or too much, and sees that the rest is paid at the end of the turn.
    fn end_of_scope(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else {
            return self.pay_all();
        };
        let presses = {
            let debts = self.debts();
            let gathered = debts.paying.max(GATHERED);
            let is_old = debts.since.is_some_and(|since| has_passed(since, gathered));
            is_old || debts.sessions.len() > MOST_OWED
        };
        if !presses || self.pay_a_slice() {
            self.wake_flusher(&runtime);
        }
    }

    /// Flushes all sessions that are owed it.
    fn pay_all(&self) {
        while self.pay_a_slice() {}
    }

    /// Flushes sessions for as long as others can wait. Returns whether more are owed.
    fn pay_a_slice(&self) -> bool {
        // It may own handles of the user's.
        let kept = self.debts().kept.take();
        drop(kept);
        let began = Instant::now();
        let mut next = Vec::new();
        loop {
            let more = {
                let mut debts = self.debts();
                let count = debts.sessions.len().min(FLUSHES_A_LOOK);
                next.extend(debts.sessions.drain(..count));
                let more = !debts.sessions.is_empty();
                if !more {
                    debts.since = None;
                    self.owes.store(debts.kept.is_some(), Ordering::Relaxed);
                }
                more
            };
            for session in next.drain(..) {
                session.flush_noted();
            }
            if !more || has_passed(began, SLICE) {
                let mut debts = self.debts();
                debts.paying = began.elapsed();
                debts.since = debts.since.map(|_| Instant::now());
                return more;
            }
        }
    }

    /// Sees that the flusher is polled at the end of the turn.
    fn wake_flusher(self: &Arc<Self>, runtime: &Handle) {
        let waker = {
            let mut debts = self.debts();
            match &mut debts.flusher {
                Some(flusher) if flusher.runtime == runtime.id() => match flusher.waiting.take() {
                    Some(waker) => waker,
                    None => return,
                },
                // None yet, or of a runtime that this thread has left.
                _ => {
                    debts.flushers = debts.flushers.wrapping_add(1);
                    debts.flusher = Some(Flusher {
                        runtime: runtime.id(),
                        waiting: None,
                    });
                    let number = debts.flushers;
                    drop(debts);
                    runtime.spawn(
                        Duty {
                            turn: Arc::clone(self),
                            number,
                        }
                        .run(),
                    );
                    return;
                }
            }
        };
        wake_behind_io(&waker);
    }

    /// The thread ends, and its flusher with it.
    fn end(&self) {
        let flusher = {
            let mut debts = self.debts();
            debts.flushers = debts.flushers.wrapping_add(1);
            debts.flusher.take()
        };
        self.pay_all();
        let waiting = flusher.and_then(|flusher| flusher.waiting);
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// The duty to flush at the end of each turn.
struct Duty {
    turn: Arc<Turn>,
    number: u32,
}

impl Duty {
    async fn run(self) {
        poll_fn(|context| self.poll(context)).await;
    }

    /// Ready when another flusher has taken its place, or its thread has ended.
    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        self.turn.pay_a_slice();
        let mut debts = self.turn.debts();
        if debts.flushers != self.number {
            return Poll::Ready(());
        }
        if !debts.sessions.is_empty() {
            wake_behind_io(context.waker());
        } else if let Some(flusher) = &mut debts.flusher {
            flusher.waiting = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Duty {
    /// The runtime shuts down: nobody else pays.
    fn drop(&mut self) {
        {
            let mut debts = self.turn.debts();
            if debts.flushers != self.number {
                return;
            }
            debts.flusher = None;
        }
        self.turn.pay_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_open() -> bool {
        THREAD.with(|thread| thread.is_open.get())
    }

    #[test]
    fn a_budget_is_spent_by_the_bytes_of_its_events() {
        let mut budget = Budget::default();
        assert!(budget.spend(BYTES - 1));
        assert!(!budget.spend(1) && budget.is_spent());
        assert!(!Budget::default().spend(10 * BYTES));
    }

    #[test]
    fn a_session_is_flushed_by_the_first_of_the_turns_that_have_noted_it() {
        let mark = Mark::default();
        assert!(!mark.is_noted());
        assert!(mark.note(1) && !mark.note(1) && mark.note(2));
        {
            let _flush = mark.flush();
            assert!(
                mark.is_being_flushed() && !mark.is_noted(),
                "the others need not"
            );
        }
        assert!(!mark.is_being_flushed() && !mark.is_noted());
        assert!(mark.note(2), "what comes behind the flush needs another");
    }

    #[test]
    fn a_scope_lasts_until_its_outermost_ends() {
        scope(|| {
            scope(|| assert!(is_open()));
            assert!(is_open());
        });
        assert!(!is_open());
    }

    #[test]
    fn a_panic_ends_the_scope() {
        let panicked = std::panic::catch_unwind(|| scope(|| panic!("the test panics")));
        assert!(panicked.is_err());
        assert!(!is_open());
    }

    #[test]
    fn what_is_kept_is_taken_once_and_by_its_type() {
        keep(Box::new(1_u8));
        assert_eq!(take::<u8>(), Some(Box::new(1)));
        assert_eq!(take::<u8>(), None);
        keep(Box::new(1_u8));
        assert_eq!(take::<u16>(), None);
    }
}
