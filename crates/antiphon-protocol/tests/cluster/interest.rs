//! What a server wants to know of.

use antiphon_protocol::cluster::node::Interest;

/// Wants all rooms and all answers.
pub(crate) fn all(_: &str) -> bool {
    true
}

/// Wants nothing.
pub(crate) struct Nothing;

impl Interest for Nothing {
    fn has_room(&self, _: &str) -> bool {
        false
    }

    fn has_asked(&self, _: &str) -> bool {
        false
    }
}
