//! The reader of a shared log: reads what this server has missed, and gives it to the sockets.
//!
//! It is a task that the log wakes, and the only one that reads. Meanwhile what is heard is left alone.
//! What the broker denies is said once, and tried again.

use std::time::Duration;

use super::{Pass, Shared};
use crate::broker::Refused;

/// What was missed is read in portions of so many bytes.
const PORTION: usize = 256 * 1_024;

/// So long is waited before something is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// A log that the broker denies is tried again so much later.
const DENIED: Duration = Duration::from_secs(5);

impl Shared {
    /// Reads what was missed, until nothing lacks.
    pub(super) async fn read(&self) {
        loop {
            let Some(pass) = self.state().tail.begin() else {
                return;
            };
            let Err(error) = self.read_all(pass).await else {
                continue;
            };
            if !self.state().tail.failed(pass) {
                continue;
            }
            if matches!(error, Refused::Down { .. } | Refused::Closed) {
                return;
            }
            if self.state().unheard.deny(error.to_string()) {
                tracing::error!(namespace = &*self.name, %error, "the shared log can't be read: events of this namespace aren't delivered");
            }
            tokio::time::sleep(DENIED).await;
            self.state().tail.read();
        }
    }

    async fn read_all(&self, pass: Pass) -> Result<(), Refused> {
        let last = self.state().tail.last();
        let extent = self.journal.open(&self.topic, self.bounds, last).await?;
        let was_cut = self.cut(false);
        self.state().unheard.opened();
        let history = *self.state().history.get_or_insert(extent.last);
        let has_begun = self.reached.borrow().last.is_some();
        if extent.base > last {
            if has_begun {
                tracing::warn!(
                    namespace = &*self.name,
                    "the end of the shared log was lost: clients that come back begin anew"
                );
            }
            self.begin_behind(extent.base);
            self.took(if has_begun { extent.base } else { 0 });
        }
        if was_cut
            && has_begun
            && let Some(local) = self.local()
        {
            // Sessions may be lost, or another server's by now.
            local.save_sessions();
        }
        loop {
            let after = self.state().tail.last();
            let page = self.journal.read(&self.topic, after, PORTION).await?;
            self.state().unheard.allowed();
            for placed in &page {
                self.follows(placed.before, has_begun);
                while !self.take(placed, placed.place > history) {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            if page.is_empty() {
                break;
            }
            // Others want to run.
            tokio::task::yield_now().await;
        }
        if !has_begun {
            self.passed(history);
            let last = history.max(self.state().tail.last());
            self.reached
                .send_modify(|reached| reached.last = Some(last));
        }
        self.follows(extent.last, has_begun);
        self.took(extent.last);
        let is_whole = {
            let mut state = self.state();
            self.send(&mut state);
            state.tail.has_read_all(pass)
        };
        if !is_whole {
            // What was heard of isn't there yet.
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// All up to this place has been read. What lacks has been dropped by the journal before.
    fn follows(&self, place: u64, has_begun: bool) {
        let last = self.state().tail.last();
        if place <= last {
            return;
        }
        if has_begun {
            tracing::error!(
                namespace = &*self.name,
                from = last,
                to = place,
                "events were dropped from the shared log before this server had read them: its sockets have missed them"
            );
        }
        self.begin_behind(place);
    }
}
