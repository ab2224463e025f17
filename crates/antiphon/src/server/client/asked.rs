//! What a client has asked for and waits for: names of namespaces, with the auth.
//!
//! Its connection owns it. Another CONNECT for the same name takes the place of the one before.

use crate::server::namespace::rule::JoinRequest;

/// What a client has asked for and waits for.
#[derive(Default)]
pub(super) struct Asking {
    waiting: Vec<Asked>,
    /// The number of the next one.
    next: u64,
}

struct Asked {
    request: JoinRequest,
    number: u64,
}

impl Asking {
    /// Forgets what was asked for before under this name.
    pub(super) fn forget(&mut self, name: &str) {
        self.waiting.retain(|asked| asked.request.name() != name);
    }

    pub(super) fn add(&mut self, request: &JoinRequest) -> u64 {
        let number = self.next;
        self.next += 1;
        self.waiting.push(Asked {
            request: request.clone(),
            number,
        });
        number
    }

    /// Ends one. Returns `false` if it has been forgotten.
    pub(super) fn end(&mut self, number: u64) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|asked| asked.number != number);
        self.waiting.len() < before
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn auth_len(&self) -> usize {
        self.waiting
            .iter()
            .map(|asked| asked.request.auth_len())
            .sum()
    }
}
