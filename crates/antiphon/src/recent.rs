//! What is remembered for some time, within bounds: beyond these the oldest is forgotten.
//!
//! For answers that may be asked for again. Whoever owns a [`Recent`] says of each value until when it
//! is wanted, in the order of these times, and how many bytes it has grown to. It is driven by calls
//! and the time alone, and gives its memory back when nothing is left.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::Instant,
};

/// Values by their keys.
pub(crate) struct Recent<K, V> {
    most: usize,
    most_bytes: usize,
    values: HashMap<K, Remembered<V>>,
    /// The oldest first. Values that were removed are here still, until their time is up.
    order: VecDeque<(K, u64, Instant)>,
    bytes: usize,
    /// Counts values, so that one that was removed isn't taken for the next of its key.
    next: u64,
}

struct Remembered<V> {
    value: V,
    number: u64,
    bytes: usize,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    /// So many values at the most, and so many bytes of all together.
    pub(crate) fn new(most: usize, most_bytes: usize) -> Self {
        Self {
            most,
            most_bytes,
            values: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            next: 0,
        }
    }

    /// The value of this key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key).map(|one| &one.value)
    }

    /// The value of this key, to be changed.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.values.get_mut(key).map(|one| &mut one.value)
    }

    /// Remembers a value, which has no bytes yet, until that time: no earlier one than those before.
    pub(crate) fn insert(&mut self, key: K, value: V, until: Instant) {
        self.remove(&key);
        let number = self.next;
        self.next += 1;
        let remembered = Remembered {
            value,
            number,
            bytes: 0,
        };
        self.values.insert(key.clone(), remembered);
        self.order.push_back((key, number, until));
        if self.order.len() > self.most {
            self.forget_oldest();
        }
    }

    /// A value has so many bytes now.
    pub(crate) fn resize(&mut self, key: &K, bytes: usize) {
        let Some(one) = self.values.get_mut(key) else {
            return;
        };
        self.bytes = self.bytes - one.bytes + bytes;
        one.bytes = bytes;
        while self.bytes > self.most_bytes && !self.order.is_empty() {
            self.forget_oldest();
        }
    }

    /// Forgets the value of this key.
    pub(crate) fn remove(&mut self, key: &K) {
        if let Some(removed) = self.values.remove(key) {
            self.bytes -= removed.bytes;
        }
    }

    /// Forgets what isn't wanted any more.
    pub(crate) fn forget_expired(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(.., until)| *until <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((key, number, _)) = self.order.pop_front() else {
            return;
        };
        if self
            .values
            .get(&key)
            .is_some_and(|one| one.number == number)
        {
            self.remove(&key);
        }
        if self.values.is_empty() {
            self.values = HashMap::new();
            self.order = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_remembered_anew_lasts_its_own_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut recent = Recent::new(10, 10);
        recent.insert("a", 1, at(10));
        recent.remove(&"a");
        recent.insert("a", 2, at(19));
        recent.forget_expired(at(10));
        assert_eq!(recent.get(&"a"), Some(&2));
        recent.forget_expired(at(19));
        assert_eq!(recent.get(&"a"), None);
    }

    #[test]
    fn beyond_a_bound_the_oldest_is_forgotten() {
        let until = Instant::now();
        let mut recent = Recent::new(2, 10);
        for key in ["a", "b", "c"] {
            recent.insert(key, (), until);
        }
        assert_eq!([recent.get(&"a"), recent.get(&"b")], [None, Some(&())]);
        recent.resize(&"b", 6);
        recent.resize(&"c", 5);
        assert_eq!([recent.get(&"b"), recent.get(&"c")], [None, Some(&())]);
        recent.resize(&"c", 11);
        assert_eq!(recent.get(&"c"), None);
        assert_eq!((recent.bytes, recent.order.len()), (0, 0));
    }

    proptest! {
        #[test]
        fn bounds_hold_and_bytes_are_those_of_what_is_there(
            steps in prop::collection::vec((0_u8..6, 0..4, 0_usize..8), 0..200),
        ) {
            let start = Instant::now();
            let mut recent = Recent::new(5, 20);
            for (time, (key, what, bytes)) in (0_u64..).zip(steps) {
                let now = start + Duration::from_secs(time);
                match what {
                    0 => recent.insert(key, (), now + Duration::from_secs(8)),
                    1 => recent.resize(&key, bytes),
                    2 => recent.remove(&key),
                    _ => recent.forget_expired(now),
                }
                prop_assert!(recent.values.len() <= recent.order.len());
                prop_assert!(recent.order.len() <= 5 && recent.bytes <= 20);
                let sum: usize = recent.values.values().map(|one| one.bytes).sum();
                prop_assert_eq!(sum, recent.bytes);
            }
        }
    }
}
