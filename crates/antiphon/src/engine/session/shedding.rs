//! The bound of what waits for all clients together.
//!
//! The engine owns one [`Backlog`](super::backlog::Backlog). Each session tells it of what it owns in
//! steps of [`STEP`], so that small queues cost nothing. Memory that many sessions share, as those of a
//! room do, counts for each of them there. So where the count is beyond the budget, a task looks closely,
//! and again from time to time until it is within: only if what waits really takes more, the sessions
//! with most are cut, one by one, until it doesn't.

use std::{
    collections::HashSet,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use tokio::runtime::Handle;

use crate::engine::{Engine, Session, session::SessionState};

/// Bytes of a session that aren't counted yet, or still are: small beside what a session takes
/// anyway, so that very many clients with little each don't go unseen.
const STEP: usize = 16 << 10;

/// Between two close looks.
const LOOKS: Duration = Duration::from_millis(100);

impl Session {
    /// What waits here has grown, or has left.
    pub(crate) fn recount(&self, state: &mut SessionState) {
        let owned = state.owned_bytes();
        let counted = owned - owned % STEP;
        let before = std::mem::replace(&mut state.counted, counted);
        if counted != before {
            self.engine().recount(before, counted);
        }
    }
}

impl Engine {
    #[cold]
    fn recount(self: &Arc<Self>, before: usize, now: usize) {
        let backlog = &self.backlog;
        if now <= before {
            backlog.counted.fetch_sub(before - now, Ordering::Relaxed);
            return;
        }
        let grown = now - before;
        let counted = backlog.counted.fetch_add(grown, Ordering::Relaxed) + grown;
        if counted > self.config().outbound_budget
            && !backlog.is_watched.swap(true, Ordering::AcqRel)
        {
            // Not here: the caller has its session locked.
            let watch = watch(Arc::downgrade(self));
            match (Handle::try_current(), self.runtime.get()) {
                (Ok(runtime), _) => drop(runtime.spawn(watch)),
                (Err(_), Some(runtime)) => drop(runtime.spawn(watch)),
                (Err(_), None) => backlog.is_watched.store(false, Ordering::Release),
            }
        }
    }

    /// Cuts the sessions with most until what waits is within the budget.
    fn shed(&self) {
        let budget = self.config().outbound_budget;
        let sessions: Vec<_> = self.sessions().values().map(Arc::clone).collect();
        let mut known = HashSet::new();
        let mut total = 0;
        let mut by_size = Vec::new();
        for session in sessions {
            let mut state = session.lock();
            session.recount(&mut state);
            if state.counted == 0 {
                continue;
            }
            let owned = state.owned_bytes();
            let mut shared = 0;
            for buffer in state.machine.buffers() {
                if !known.insert(buffer.as_ptr()) {
                    shared += buffer.len();
                }
            }
            drop(state);
            total += owned.saturating_sub(shared);
            by_size.push((owned, session));
        }
        by_size.sort_unstable_by_key(|(owned, _)| *owned);
        while total > budget
            && let Some((owned, session)) = by_size.pop()
        {
            session.shed(total, budget);
            total = total.saturating_sub(owned);
        }
    }
}

/// Looks closely until the count is within the budget.
async fn watch(engine: Weak<Engine>) {
    loop {
        let Some(engine) = engine.upgrade() else {
            return;
        };
        let backlog = &engine.backlog;
        if backlog.counted.load(Ordering::Relaxed) <= engine.config().outbound_budget {
            backlog.is_watched.store(false, Ordering::Release);
            return;
        }
        engine.shed();
        drop(engine);
        tokio::time::sleep(LOOKS).await;
    }
}

impl Drop for Session {
    /// Nothing of it waits any more.
    fn drop(&mut self) {
        let counted = self.lock().counted;
        if counted > 0 {
            self.engine().recount(counted, 0);
        }
    }
}
