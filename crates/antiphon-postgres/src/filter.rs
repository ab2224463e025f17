//! Which rows of the table a server reads: those of topics that it wants.
//!
//! A topic has a tag of 16 bits, which its row holds. A server sends the tags that it wants as a set
//! of bits, folded so that it is a few bits for each topic and 8 KiB at the most. Postgres leaves
//! out what isn't in it, and the few that are in it by chance are left out here.

use std::{collections::HashSet, sync::Arc};

use antiphon_cluster::Change;
use sha2::{Digest as _, Sha256};

/// The set has so many bits at least and at the most: powers of two.
const LEAST: usize = 512;
const MOST: usize = 65_536;

/// So many bits for each topic.
const SHARE: usize = 16;

/// The topics that a server wants.
#[derive(Debug)]
pub(crate) struct Filter {
    topics: HashSet<Arc<str>>,
    bits: Vec<u8>,
    /// Topics that aren't wanted any more, whose bits are set yet.
    gone: usize,
}

/// The tag of a topic, as the column `tag` has it.
fn tag(topic: &str) -> usize {
    let hash = Sha256::digest(topic);
    usize::from(u16::from_be_bytes([hash[0], hash[1]]))
}

impl Filter {
    pub(crate) fn new(topics: impl IntoIterator<Item = antiphon_cluster::Topic>) -> Self {
        let topics = topics.into_iter().map(|topic| topic.name().into());
        let mut filter = Self {
            topics: topics.collect(),
            bits: Vec::new(),
            gone: 0,
        };
        filter.rebuild();
        filter
    }

    pub(crate) fn apply(&mut self, changes: Vec<Change>) {
        for Change { topic, is_wanted } in changes {
            match is_wanted {
                true if self.topics.insert(topic.name().into()) => self.set(tag(topic.name())),
                false if self.topics.remove(topic.name()) => self.gone += 1,
                _ => {}
            }
        }
        let is_crowded = self.bits.len() * 8 < self.size();
        if is_crowded || self.gone > self.topics.len().max(LEAST) {
            self.rebuild();
        }
    }

    /// The topic of this name, if it is wanted.
    pub(crate) fn wants(&self, topic: &[u8]) -> Option<Arc<str>> {
        // Names of topics are text: another one is somebody else's.
        let topic = std::str::from_utf8(topic).ok()?;
        self.topics.get(topic).cloned()
    }

    /// The set of bits, and what a tag is folded by to find its own.
    pub(crate) fn bits(&self) -> (&[u8], i32) {
        let mask = self.bits.len() * 8 - 1;
        // It is below 65,536.
        (&self.bits, i32::try_from(mask).unwrap_or(i32::MAX))
    }

    fn size(&self) -> usize {
        let size = (self.topics.len() * SHARE).clamp(LEAST, MOST);
        size.next_power_of_two()
    }

    fn rebuild(&mut self) {
        self.bits = vec![0; self.size() / 8];
        self.gone = 0;
        let tags: Vec<_> = self.topics.iter().map(|topic| tag(topic)).collect();
        tags.into_iter().for_each(|tag| self.set(tag));
    }

    fn set(&mut self, tag: usize) {
        let bit = tag & (self.bits.len() * 8 - 1);
        self.bits[bit / 8] |= 1 << (bit % 8);
    }
}

#[cfg(test)]
mod tests {
    use antiphon_cluster::Topic;
    use proptest::prelude::*;

    use super::*;

    fn has_bit(filter: &Filter, topic: &str) -> bool {
        let (bits, mask) = filter.bits();
        let bit = tag(topic) & usize::try_from(mask).unwrap();
        bits[bit / 8] >> (bit % 8) & 1 == 1
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_bits_of_what_is_wanted_are_set_whatever_came_and_went(
            steps in prop::collection::vec((0_u16..500, any::<bool>()), 0..800),
        ) {
            let mut filter = Filter::new([Topic::new("fixed")]);
            let mut wanted = HashSet::from(["fixed".to_owned()]);
            for part in steps.chunks(100) {
                let changes = part.iter().map(|(topic, is_wanted)| Change {
                    topic: Topic::new(topic.to_string()),
                    is_wanted: *is_wanted,
                });
                filter.apply(changes.collect());
                for (topic, is_wanted) in part {
                    match is_wanted {
                        true => drop(wanted.insert(topic.to_string())),
                        false => drop(wanted.remove(&topic.to_string())),
                    }
                }
                for topic in &wanted {
                    prop_assert!(has_bit(&filter, topic));
                    prop_assert!(filter.wants(topic.as_bytes()).is_some());
                }
                prop_assert_eq!(filter.topics.len(), wanted.len());
            }
        }
    }

    #[test]
    fn few_others_pass_and_the_set_is_bounded() {
        let topics = |count: usize| (0..count).map(|number| Topic::new(format!("room {number}")));
        for (count, most, bytes) in [(4, 30, 64), (1_000, 100, 2_048), (100_000, 1_000, 8_192)] {
            let filter = Filter::new(topics(count));
            let others = (0..1_000).filter(|number| has_bit(&filter, &format!("other {number}")));
            assert!(others.count() <= most);
            assert_eq!(filter.bits().0.len(), bytes);
        }
    }

    #[test]
    fn what_came_and_went_leaves_nothing_behind() {
        let mut filter = Filter::new([]);
        for number in 0..20_000 {
            let topic = Topic::new(number.to_string());
            for is_wanted in [true, false] {
                let topic = topic.clone();
                filter.apply(vec![Change { topic, is_wanted }]);
            }
        }
        assert!(filter.topics.is_empty());
        assert_eq!(filter.bits().0.len(), LEAST / 8);
        let set: u32 = filter.bits().0.iter().map(|byte| byte.count_ones()).sum();
        assert!(set as usize <= LEAST);
    }
}
