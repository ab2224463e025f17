//! Sees handlers that block their thread, and keeps the rest of the server going meanwhile.
//!
//! A handler is polled inside the task that read its event. If it blocks (hashes a password, reads
//! a file, waits for a lock), it blocks the worker that has just looked at the I/O, and no other
//! worker is awake to look at it next: a runtime of many workers would stand still. So each poll of
//! a handler is noted in its thread's [`Slot`], and the watcher, one thread of the process, looks
//! at the slots each [`TICK`]. For a poll that lasts it wakes another worker, and names the handler
//! in the log.
//!
//! A runtime of one thread has no other worker: there the handler is named, no more.

use std::{
    cell::{Cell, OnceCell},
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::engine::session::turn;

/// How often the watcher looks. A poll that it has seen twice blocks.
const TICK: Duration = Duration::from_millis(10);

/// After so many looks, between which nothing was polled, the watcher sleeps until the next poll
/// wakes it, and looks but now and then.
const IDLE_TICKS: u32 = 10;
const IDLE_TICK: Duration = Duration::from_secs(1);

/// How often the log names the same handler.
const NAMED_EVERY: Duration = Duration::from_secs(60);

/// So many handlers have names of their own. There are more only where names of events are made up
/// at run time.
const MOST_NAMES: usize = 4_096;

/// What a handler is called in the log: its place in [`Names::texts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Name(u32);

/// What the watcher sees of one thread.
struct Slot {
    /// The number of the latest poll, and above it the name of its handler while it is under way.
    poll: AtomicU64,
    /// The runtime whose other workers can stand in for this thread.
    runtime: Option<Handle>,
}

/// What a thread keeps of its own.
struct Thread {
    slot: Arc<Slot>,
    /// How many polls it has begun.
    polls: Cell<u32>,
    watcher: &'static Watcher,
}

thread_local! {
    static THREAD: OnceCell<Thread> = const { OnceCell::new() };
}

/// What all threads share.
struct Watcher {
    slots: Mutex<Vec<Weak<Slot>>>,
    names: Mutex<Names>,
    /// Nothing has been polled for a while, and the thread sleeps.
    is_idle: AtomicBool,
    thread: OnceLock<thread::Thread>,
}

#[derive(Default)]
struct Names {
    numbers: HashMap<(Box<str>, &'static str), Name>,
    /// The event and the handler's type, by number.
    texts: Vec<(Box<str>, &'static str)>,
}

/// The name of a handler of the type `H` for this event.
pub(crate) fn name<H>(event: &str) -> Name {
    let mut names = lock(&watcher().names);
    let Names { numbers, texts } = &mut *names;
    let event = match texts.len() < MOST_NAMES {
        true => event,
        false => "(one of very many)",
    };
    let handler = std::any::type_name::<H>();
    *numbers.entry((event.into(), handler)).or_insert_with(|| {
        texts.push((event.into(), handler));
        Name(texts.len() as u32 - 1)
    })
}

/// A poll of a handler on this thread, until it is dropped.
#[must_use]
pub(crate) struct Watched {
    /// The poll inside which this one is.
    outer: u64,
}

impl Watched {
    /// A handler is about to be polled.
    pub(crate) fn begin(handler: Name) -> Self {
        let outer = THREAD.try_with(|thread| {
            let thread = thread.get_or_init(Thread::new);
            let number = thread.polls.get().wrapping_add(1);
            thread.polls.set(number);
            if thread.watcher.is_idle.load(Ordering::Relaxed) {
                thread.watcher.wake();
            }
            let poll = u64::from(handler.0 + 1) << 32 | u64::from(number);
            let outer = thread.slot.poll.load(Ordering::Relaxed);
            thread.slot.poll.store(poll, Ordering::Relaxed);
            outer
        });
        Self {
            outer: outer.unwrap_or(0),
        }
    }
}

/// Whether a slot says that a handler is polled now.
const fn is_under_way(poll: u64) -> bool {
    poll >> 32 != 0
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = THREAD.try_with(|thread| {
            if let Some(thread) = thread.get() {
                let poll = match is_under_way(self.outer) {
                    true => self.outer,
                    // That there was one is seen.
                    false => u64::from(thread.polls.get()),
                };
                thread.slot.poll.store(poll, Ordering::Relaxed);
            }
        });
    }
}

impl Thread {
    fn new() -> Self {
        let watcher = watcher();
        let runtime = Handle::try_current().ok();
        let slot = Arc::new(Slot {
            poll: AtomicU64::new(0),
            runtime: runtime.filter(|it| it.runtime_flavor() != RuntimeFlavor::CurrentThread),
        });
        lock(&watcher.slots).push(Arc::downgrade(&slot));
        Self {
            slot,
            polls: Cell::new(0),
            watcher,
        }
    }
}

/// The watcher, whose thread starts with the first handler.
fn watcher() -> &'static Watcher {
    static WATCHER: OnceLock<Watcher> = OnceLock::new();
    static STARTED: Once = Once::new();
    let watcher = WATCHER.get_or_init(|| Watcher {
        slots: Mutex::default(),
        names: Mutex::default(),
        is_idle: AtomicBool::new(false),
        thread: OnceLock::new(),
    });
    STARTED.call_once(|| {
        if turn::is_uncut() {
            // How much of the thread's start a process counts before its end would be chance.
            return;
        }
        let started = thread::Builder::new()
            .name("antiphon-watch".to_owned())
            .spawn(|| watcher.run());
        match started {
            Ok(thread) => drop(watcher.thread.set(thread.thread().clone())),
            Err(error) => tracing::warn!(%error, "handlers that block are not watched for"),
        }
    });
    watcher
}

/// What the watcher remembers of its looks.
#[derive(Default)]
struct Looks {
    /// The poll of each slot at the look before. Slots move only when a thread has ended.
    before: Vec<u64>,
    /// How many looks have seen nothing new.
    idle: u32,
}

impl Looks {
    /// Looks at the slots, and tells of each whose poll was there at the look before. Returns whether
    /// the watcher may sleep.
    fn look(&mut self, slots: &[Arc<Slot>], mut blocks: impl FnMut(&Slot, u64)) -> bool {
        self.before.resize(slots.len(), 0);
        self.idle += 1;
        for (slot, before) in slots.iter().zip(&mut self.before) {
            let poll = slot.poll.load(Ordering::Relaxed);
            if is_under_way(poll) && poll == *before {
                blocks(slot, poll);
            }
            if is_under_way(poll) || poll != *before {
                self.idle = 0;
            }
            *before = poll;
        }
        self.idle >= IDLE_TICKS
    }
}

impl Watcher {
    fn wake(&self) {
        if self.is_idle.swap(false, Ordering::Relaxed)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    fn run(&self) {
        let mut looks = Looks::default();
        let mut named = HashMap::new();
        loop {
            thread::park_timeout(match self.is_idle.load(Ordering::Relaxed) {
                true => IDLE_TICK,
                false => TICK,
            });
            let slots: Vec<Arc<Slot>> = {
                let mut slots = lock(&self.slots);
                slots.retain(|slot| slot.strong_count() > 0);
                slots.iter().filter_map(Weak::upgrade).collect()
            };
            let is_idle = looks.look(&slots, |slot, poll| self.stand_in(slot, poll, &mut named));
            self.is_idle.store(is_idle, Ordering::Relaxed);
        }
    }

    /// A handler blocks this thread: another worker is woken, which looks at the I/O when it has
    /// nothing else to do.
    fn stand_in(&self, slot: &Slot, poll: u64, named: &mut HashMap<Name, Instant>) {
        if let Some(runtime) = &slot.runtime {
            runtime.spawn(async {});
        }
        let name = Name((poll >> 32) as u32 - 1);
        let now = Instant::now();
        let last = named.get(&name);
        if last.is_some_and(|last| now.duration_since(*last) < NAMED_EVERY) {
            return;
        }
        named.insert(name, now);
        let names = lock(&self.names);
        let (event, handler) = match names.texts.get(name.0 as usize) {
            Some((event, handler)) => (&**event, *handler),
            None => ("", ""),
        };
        tracing::warn!(
            event,
            handler,
            "a handler blocks its thread: what takes long belongs into `tokio::task::spawn_blocking`"
        );
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a look finds at the slot of this thread: how often it blocks, and whether the watcher
    /// may sleep.
    fn look(looks: &mut Looks) -> (usize, bool) {
        let slot = THREAD.with(|thread| Arc::clone(&thread.get_or_init(Thread::new).slot));
        let mut blocks = 0;
        let sleeps = looks.look(&[slot], |_, _| blocks += 1);
        (blocks, sleeps)
    }

    #[test]
    fn the_watcher_stays_awake_while_handlers_are_called_however_short_they_are() {
        let name = name::<()>("short");
        let mut looks = Looks::default();
        for _ in 0..10 * IDLE_TICKS {
            drop(Watched::begin(name));
            assert_eq!(look(&mut looks), (0, false), "else each would wake it");
        }
        for _ in 1..IDLE_TICKS {
            assert_eq!(look(&mut looks), (0, false));
        }
        assert_eq!(look(&mut looks), (0, true));
        drop(Watched::begin(name));
        assert_eq!(look(&mut looks), (0, false));
    }

    #[test]
    fn a_poll_that_two_looks_have_seen_blocks_also_around_others() {
        let (outer, inner) = (name::<()>("outer"), name::<()>("inner"));
        let mut looks = Looks::default();
        let blocked = Watched::begin(outer);
        assert_eq!(look(&mut looks), (0, false));
        drop(Watched::begin(inner));
        assert_eq!(look(&mut looks), (1, false), "it is still the outer one");
        drop(blocked);
        assert_eq!(look(&mut looks), (0, false));
        drop(Watched::begin(outer));
        assert_eq!(look(&mut looks), (0, false), "another one");
    }
}
