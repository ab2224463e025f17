//! Corking: what one batch of work emits is written once, at the end of the batch.
//!
//! While a scope is open on a thread, a session that has something to flush is noted instead, and
//! flushed when the scope ends: 32 broadcasts in one batch cost one write a session.

use std::{any::Any, cell::RefCell, sync::Arc};

use super::Session;

thread_local! {
    /// None: no scope is open.
    static CORKED: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct Scope {
    /// To be flushed at its end.
    sessions: Vec<Arc<Session>>,
    /// What its user keeps as long.
    kept: Option<Box<dyn Any>>,
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

/// Keeps a value until [`take`] or the end of the open scope, instead of the one before.
pub(crate) fn keep(value: Box<dyn Any>) {
    let replaced = CORKED.with_borrow_mut(|corked| {
        let scope = corked.as_mut()?;
        scope.kept.replace(value)
    });
    drop(replaced);
}

/// The value that the open scope keeps, if it is one of this type.
pub(crate) fn take<T: 'static>() -> Option<Box<T>> {
    let kept = CORKED.with_borrow_mut(|corked| corked.as_mut()?.kept.take());
    kept?.downcast().ok()
}

/// Notes `session` for the end of the open scope. False: no scope is open, so flush it now.
pub(super) fn defer(session: &Arc<Session>) -> bool {
    CORKED.with_borrow_mut(|corked| match corked {
        Some(scope) => {
            scope.sessions.push(Arc::clone(session));
            true
        }
        None => false,
    })
}

/// Ends the scope, also when the work panics.
struct Uncork;

impl Drop for Uncork {
    fn drop(&mut self) {
        let Some(scope) = CORKED.take() else { return };
        for session in scope.sessions {
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
