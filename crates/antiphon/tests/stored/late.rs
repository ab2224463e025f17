//! A log that stores late: when the test says so.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use antiphon::{
    Recovery, Target,
    adapter::{BoxFuture, Flags, Outgoing},
    recovery::{Appending, Log, LogError, MemoryLog, Missed, Page},
};
use tokio::sync::oneshot;

/// Events of this name can't be stored.
pub(crate) const LOST: &str = "lost";

/// What is stored late.
struct Pending {
    event: Outgoing,
    target: Target,
    done: oneshot::Sender<Result<u64, LogError>>,
}

/// The test's hand on the log.
#[derive(Clone, Default)]
pub(crate) struct Store {
    pending: Arc<Mutex<VecDeque<Pending>>>,
    log: Arc<Mutex<Option<Arc<MemoryLog>>>>,
    is_late: bool,
}

impl Store {
    pub(crate) fn new(is_late: bool) -> Self {
        Self {
            is_late,
            ..Self::default()
        }
    }

    /// Recovery with this log, for a server of one namespace.
    pub(crate) fn recovery(&self) -> Recovery {
        let store = self.clone();
        Recovery::new().log(move |_, bounds| {
            let log = Arc::new(MemoryLog::new(bounds));
            *store.log.lock().unwrap() = Some(Arc::clone(&log));
            let store = store.clone();
            Arc::new(Late { log, store })
        })
    }

    /// Stores so many events, if so many wait. Returns how many it were.
    pub(crate) fn store(&self, count: usize) -> usize {
        let log = self.log.lock().unwrap().clone().unwrap();
        for stored in 0..count {
            let Some(next) = self.pending.lock().unwrap().pop_front() else {
                return stored;
            };
            let _ = next.done.send(append(&log, &next.event, &next.target));
        }
        count
    }
}

fn append(log: &MemoryLog, event: &Outgoing, target: &Target) -> Result<u64, LogError> {
    if event.name() == LOST {
        return Err(LogError::Failed("the test says so".to_owned()));
    }
    match log.append(event, target, Flags::default()) {
        Appending::Done(done) => done,
        _ => panic!("memory needs no time"),
    }
}

struct Late {
    log: Arc<MemoryLog>,
    store: Store,
}

impl Log for Late {
    fn epoch(&self) -> u32 {
        self.log.epoch()
    }

    fn last(&self) -> u64 {
        self.log.last()
    }

    fn append(&self, event: &Outgoing, target: &Target, _: Flags) -> Appending {
        if !self.store.is_late {
            return Appending::Done(append(&self.log, event, target));
        }
        let (done, stored) = oneshot::channel();
        self.store.pending.lock().unwrap().push_back(Pending {
            event: event.clone(),
            target: target.clone(),
            done,
        });
        Appending::Waiting(Box::pin(async { stored.await.unwrap() }))
    }

    fn read(&self, missed: Missed) -> BoxFuture<Result<Page, LogError>> {
        self.log.read(missed)
    }

    fn newest(
        &self,
        room: Option<&str>,
        after: u64,
        limit: usize,
    ) -> BoxFuture<Result<Page, LogError>> {
        self.log.newest(room, after, limit)
    }
}
