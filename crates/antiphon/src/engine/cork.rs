//! Corking: what one batch of work emits is written once, at the end of the batch.
//!
//! While a scope is open on a thread, a session that has something to flush is noted instead, and
//! flushed when the scope ends: 32 broadcasts in one batch cost one write a session.

use std::{cell::RefCell, sync::Arc};

use super::Session;

thread_local! {
    /// The sessions to flush at the end of the open scope. None: no scope is open.
    static CORKED: RefCell<Option<Vec<Arc<Session>>>> = const { RefCell::new(None) };
}

/// Runs `work` with this thread's sessions corked. Inside another scope it merely runs.
pub(crate) fn scope<R>(work: impl FnOnce() -> R) -> R {
    let outermost = CORKED.with_borrow_mut(|corked| {
        let outermost = corked.is_none();
        corked.get_or_insert_default();
        outermost
    });
    // Made only where it is wanted: dropped, it ends the scope of another.
    let _uncork = outermost.then(|| Uncork);
    work()
}

/// Notes `session` for the end of the open scope. False: no scope is open, so flush it now.
pub(super) fn defer(session: &Arc<Session>) -> bool {
    CORKED.with_borrow_mut(|corked| match corked {
        Some(sessions) => {
            sessions.push(Arc::clone(session));
            true
        }
        None => false,
    })
}

/// Ends the scope, also when the work panics.
struct Uncork;

impl Drop for Uncork {
    fn drop(&mut self) {
        for session in CORKED.take().into_iter().flatten() {
            session.uncork();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_open() -> bool {
        CORKED.with_borrow(Option::is_some)
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
}
