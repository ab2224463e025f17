//! The thread that has the file.
//!
//! It takes what waits in the [`Queue`] and commits it as one group. What fails is counted, and said
//! once in a while; the file is opened again, since a database that has failed can't be used on.
//! Events of a group that has failed are given up: those that have been delivered leave a hole in
//! the file, which is noted there, and those that wait are told and never delivered. Sessions are
//! tried again.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redb::Database;

use super::{
    front::Front,
    mark::Mark,
    queue::{Group, Promise, Queue},
    store::{self, Failed},
};
use crate::{
    seldom::Seldom,
    server::recovery::log::{Bounds, LogError, SAID_EACH},
};

/// How long nothing is tried after a failure.
const PAUSE: Duration = Duration::from_millis(200);

/// Opens the database, again if need be.
pub(super) type Open = dyn Fn() -> Result<Database, Failed> + Send + Sync;

/// What logs and the writer share.
pub(super) struct File {
    pub(super) queue: Queue,
    pub(super) mark: Option<Mark>,
    open: Box<Open>,
    /// `None` after a failure, until it is opened again.
    database: Mutex<Option<Database>>,
    fronts: Mutex<Vec<Arc<Front>>>,
    said: Seldom,
}

impl File {
    pub(super) fn new(open: Box<Open>) -> Result<Self, Failed> {
        let database = opened(&*open)?;
        Ok(Self {
            queue: Queue::default(),
            mark: None,
            open,
            database: Mutex::new(Some(database)),
            fronts: Mutex::default(),
            said: Seldom::each(SAID_EACH),
        })
    }

    fn fronts(&self) -> MutexGuard<'_, Vec<Arc<Front>>> {
        self.fronts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A namespace, read from the file when it is asked for first.
    pub(super) fn front(&self, name: &str, bounds: Bounds, is_exact: bool) -> Arc<Front> {
        let mut fronts = self.fronts();
        if let Some(front) = fronts.iter().find(|front| *front.name == *name) {
            return Arc::clone(front);
        }
        let index = fronts.len();
        let front = self.with(|database| self.load(database, name, index, bounds));
        let front = front.or_else(|error| {
            tracing::error!(namespace = name, %error, "the log of a namespace can't be read: it begins anew");
            self.with(|database| {
                store::clear(database, name)?;
                self.load(database, name, index, bounds)
            })
        });
        let front = front.unwrap_or_else(|error| {
            tracing::error!(namespace = name, %error, "the log of a namespace can't be stored");
            let front = Front::begin(name, index, bounds, index as u64);
            front.failed(1);
            front
        });
        let front = Arc::new(front);
        if let Err(error) = self.begin(&front, is_exact) {
            self.failed(&front, 1, &error);
        }
        fronts.push(Arc::clone(&front));
        front
    }

    fn load(
        &self,
        database: &Database,
        name: &str,
        index: usize,
        bounds: Bounds,
    ) -> Result<Front, Failed> {
        let found = match store::find(database, name)? {
            Ok(found) => found,
            Err(others) => return Ok(Front::begin(name, index, bounds, others)),
        };
        store::drop_behind(database, name, found.state.last)?;
        let marked = self
            .mark
            .as_ref()
            .and_then(|mark| mark.get(found.state.slot));
        let given = marked.or(found.state.is_exact.then_some(found.state.last));
        let front = Front::resume(name, index, bounds, given, found);
        if given.is_none_or(|given| given < front.state().last) || front.state().lost > 0 {
            tracing::debug!(
                namespace = name,
                lost = front.state().lost,
                "the log has a hole"
            );
        }
        Ok(front)
    }

    /// A run of the server begins.
    fn begin(&self, front: &Front, is_exact: bool) -> Result<(), Failed> {
        let mut change = front.change();
        change.state.is_exact = is_exact;
        let mut changes = [change];
        self.with(|database| store::commit(database, &mut changes))?;
        let [change] = changes;
        if let Some(mark) = &self.mark {
            mark.begin(front.slot, change.state.last)?;
        }
        *front.state() = change.state;
        Ok(())
    }

    /// Does something with the database. After a failure it is opened again first.
    fn with<R>(&self, work: impl FnOnce(&Database) -> Result<R, Failed>) -> Result<R, Failed> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let worked = caught(|| {
            if database.is_none() {
                *database = Some(opened(&*self.open)?);
            }
            database
                .as_ref()
                .map_or_else(|| Err(Failed::damaged("it is not open")), work)
        });
        if worked.is_err() {
            let failed = database.take();
            // It says something on its way out, too.
            let _ = caught(|| {
                drop(failed);
                Ok(())
            });
        }
        worked
    }

    /// Something could not be stored.
    pub(super) fn failed(&self, front: &Front, count: u64, error: &dyn std::fmt::Display) {
        front.failed(count);
        if let Some(times) = self.said.happened(count) {
            tracing::error!(
                namespace = &*front.name, %error, times,
                "the log can't be stored"
            );
        }
    }

    /// The writer's work, until the queue is closed.
    pub(super) fn run(&self) {
        while let Some(group) = self.queue.next() {
            if !self.store(group) && self.queue.pause(PAUSE) {
                break;
            }
        }
        let is_exact = true;
        for front in self.fronts().iter() {
            if let Err(error) = self.begin(front, is_exact) {
                self.failed(front, 1, &error);
            }
        }
    }

    /// Returns `false` if it could not be stored.
    fn store(&self, mut group: Group) -> bool {
        let fronts: Vec<_> = self.fronts().clone();
        let is_flushed = !group.flushed.is_empty();
        let mut changes: Vec<_> = fronts.iter().map(|front| front.change()).collect();
        let mut is_touched = vec![is_flushed; changes.len()];
        for front in &group.swept {
            is_touched[front.index] = true;
        }
        let mut sequences = Vec::with_capacity(group.events.len());
        for waiting in &group.events {
            let index = waiting.front.index;
            let state = &mut changes[index].state;
            let sequence = match waiting.promise {
                Promise::Given(sequence) => {
                    state.is_exact = false;
                    sequence
                }
                Promise::Awaited(_) => state.last + 1,
            };
            state.last = sequence;
            changes[index].events.push((sequence, &waiting.entry));
            sequences.push(sequence);
            is_touched[index] = true;
        }
        for ((index, pid), session) in &group.sessions {
            changes[*index].sessions.push((pid, session.as_ref()));
            is_touched[*index] = true;
        }
        let mut is_touched = is_touched.into_iter();
        changes.retain(|_| is_touched.next().unwrap_or_default());
        if is_flushed {
            changes
                .iter_mut()
                .for_each(|change| change.state.is_exact = true);
        }
        let stored = self.with(|database| store::commit(database, &mut changes));
        let states = changes
            .into_iter()
            .map(|change| (change.namespace, change.state));
        let states: Vec<_> = states
            .map(|(name, state)| (name.to_owned(), state))
            .collect();
        match &stored {
            Ok(()) => {
                for front in &fronts {
                    if let Some((_, state)) = states.iter().find(|(name, _)| **name == *front.name)
                    {
                        *front.state() = state.clone();
                    }
                }
            }
            Err(error) => {
                for front in &fronts {
                    let count = group
                        .events
                        .iter()
                        .filter(|it| it.front.index == front.index);
                    let count = count.count() as u64;
                    if count > 0 {
                        self.failed(front, count, error);
                    }
                }
                if group.events.is_empty()
                    && let Some(front) = fronts.first()
                {
                    self.failed(front, 1, error);
                }
                self.queue.put_back(mem::take(&mut group.sessions));
            }
        }
        self.tell(&group, &sequences, &stored);
        for flushed in group.flushed {
            let _ = flushed.send(());
        }
        stored.is_ok()
    }

    /// Tells those who wait, all of a group before any of them is woken.
    fn tell(&self, group: &Group, sequences: &[u64], stored: &Result<(), Failed>) {
        let mut woken = Vec::new();
        for (waiting, sequence) in group.events.iter().zip(sequences) {
            match (&waiting.promise, stored) {
                (Promise::Awaited(told), Ok(())) => {
                    let entry = &waiting.entry;
                    let mut events = waiting.front.events();
                    events.skip_to(*sequence);
                    let sequence = events.append(entry.at, &entry.event, &entry.target);
                    drop(events);
                    woken.extend(told.tell(Ok(sequence)));
                }
                (Promise::Awaited(told), Err(error)) => {
                    woken.extend(told.tell(Err(LogError::Failed(error.to_string()))));
                }
                (Promise::Given(_), Ok(())) => {}
                (Promise::Given(sequence), Err(_)) => waiting.front.hole(*sequence),
            }
        }
        woken.into_iter().for_each(std::task::Waker::wake);
    }
}

/// Opens a database and looks whether it is whole: a process may have been killed in the midst of a
/// write, and a disk may have lost something.
fn opened(open: &Open) -> Result<Database, Failed> {
    caught(|| {
        let mut database = open()?;
        if !database.check_integrity()? {
            tracing::warn!("the file of the log was damaged, and has been repaired");
        }
        store::prepare(&database)?;
        Ok(database)
    })
}

/// What a damaged file makes panic is an error like others.
fn caught<R>(work: impl FnOnce() -> Result<R, Failed>) -> Result<R, Failed> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Failed::damaged("the database has panicked over it")))
}
