//! The topics that a server wants frames of: declared here, made true by a broker.
//!
//! The router owns a [`Wanted`] and says which topics it wants. Each change counts a version. A
//! broker asks what has changed since the version that it has made true, subscribes and
//! unsubscribes, and reports which version holds now
//! ([`Inbox::subscribed`](crate::broker::Inbox::subscribed)). After a reconnect it asks for
//! [all](Wanted::all): so no broker has a memory of its own that could be wrong.
//!
//! A topic that nobody wants any more lingers for a second, so that rooms whose only member comes
//! and goes cost no subscription each time.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::Topic;

/// How long a topic that nobody wants is kept.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// So many changes are remembered for brokers that ask what is new. One that is further behind
/// gets all.
const CHANGES: usize = 65_536;

/// The topics that a server wants frames of.
pub struct Wanted {
    state: Mutex<State>,
    /// The version, for who waits for a change.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    topics: HashMap<Topic, Want>,
    version: u64,
    /// The last changes, one a version.
    changes: VecDeque<Change>,
    /// What is given up, and when.
    lingering: BTreeSet<(Instant, Topic)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    Wanted,
    Lingers { until: Instant },
}

/// A topic that is wanted from now on, or no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The topic.
    pub topic: Topic,
    /// Whether it is to be subscribed to. Otherwise the subscription ends.
    pub is_wanted: bool,
}

impl Wanted {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many changes there have been.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.state().version
    }

    /// The changes since a version, and the version that holds when they are made true. Returns
    /// `None` if they aren't remembered: [`all`](Self::all) is to be asked for then.
    #[must_use]
    pub fn since(&self, version: u64) -> Option<(u64, Vec<Change>)> {
        let state = self.state();
        let missed = usize::try_from(state.version.checked_sub(version)?).ok()?;
        let known = state.changes.len().checked_sub(missed)?;
        let changes = state.changes.range(known..).cloned();
        Some((state.version, changes.collect()))
    }

    /// All topics that are wanted, and the version that this is.
    #[must_use]
    pub fn all(&self) -> (u64, Vec<Topic>) {
        let state = self.state();
        (state.version, state.topics.keys().cloned().collect())
    }

    /// How many topics are wanted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state().topics.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Resolves when there are changes behind this version.
    pub async fn changed(&self, version: u64) {
        let mut changed = self.changed.subscribe();
        // Its sender is here.
        let _ = changed.wait_for(|now| *now > version).await;
    }

    /// This topic is wanted from now on.
    pub(crate) fn want(&self, topic: Topic) {
        let mut state = self.state();
        match state.topics.insert(topic.clone(), Want::Wanted) {
            Some(Want::Wanted) => {}
            Some(Want::Lingers { until }) => {
                state.lingering.remove(&(until, topic));
            }
            None => self.note(&mut state, topic, true),
        }
    }

    /// This topic isn't wanted any more, but lingers for [`LINGER`] at least. It is time to
    /// [`expire`](Self::expire) then.
    pub(crate) fn give_up(&self, topic: &Topic, linger: Duration, now: Instant) {
        let until = now + linger.max(LINGER);
        let mut state = self.state();
        let State {
            topics, lingering, ..
        } = &mut *state;
        if let Some(want) = topics.get_mut(topic) {
            if let Want::Lingers { until } = *want {
                lingering.remove(&(until, topic.clone()));
            }
            *want = Want::Lingers { until };
            lingering.insert((until, topic.clone()));
        }
    }

    /// Drops what has lingered long enough. Returns when it is time to look again, if ever.
    pub(crate) fn expire(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state();
        while let Some((until, _)) = state.lingering.first() {
            if *until > now {
                return Some(*until);
            }
            let Some((_, topic)) = state.lingering.pop_first() else {
                break;
            };
            state.topics.remove(&topic);
            self.note(&mut state, topic, false);
        }
        None
    }

    fn note(&self, state: &mut State, topic: Topic, is_wanted: bool) {
        state.version += 1;
        if state.changes.len() == CHANGES {
            state.changes.pop_front();
        }
        state.changes.push_back(Change { topic, is_wanted });
        self.changed.send_replace(state.version);
    }
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Wanted")
            .field("version", &state.version)
            .field("topics", &state.topics.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A broker that follows, by changes or as a whole, however late, has subscribed to what is
        /// wanted when it has made the last version true.
        #[test]
        fn who_follows_the_changes_has_what_is_wanted(
            steps in prop::collection::vec((0u8..8, 0u64..700, 0u8..4), 0..200),
        ) {
            let (wanted, mut now) = (Wanted::new(), Instant::now());
            let (mut subscribed, mut version) = (BTreeSet::new(), 0);
            let mut rooms = BTreeSet::new();
            for (topic, ms, step) in steps {
                let step_linger = topic % 3;
                let topic = Topic::new(topic.to_string());
                now += Duration::from_millis(ms);
                match step {
                    0 if rooms.insert(topic.clone()) => wanted.want(topic),
                    1 if rooms.remove(&topic) => {
                        wanted.give_up(&topic, LINGER * u32::from(step_linger), now);
                    }
                    2 => {
                        let (upto, changes) = wanted.since(version).unwrap();
                        for change in changes {
                            match change.is_wanted {
                                true => prop_assert!(subscribed.insert(change.topic)),
                                false => prop_assert!(subscribed.remove(&change.topic)),
                            }
                        }
                        version = upto;
                    }
                    3 => {
                        let (upto, topics) = wanted.all();
                        (subscribed, version) = (topics.into_iter().collect(), upto);
                    }
                    _ => {}
                }
                wanted.expire(now);
                if version == wanted.version() {
                    prop_assert!(rooms.is_subset(&subscribed));
                    prop_assert_eq!(subscribed.len(), wanted.len());
                }
            }
            wanted.expire(now + 2 * LINGER);
            let (_, topics) = wanted.all();
            prop_assert_eq!(topics.into_iter().collect::<BTreeSet<_>>(), rooms);
        }
    }

    fn topics(wanted: &Wanted) -> Vec<String> {
        let mut names: Vec<_> = wanted.all().1.iter().map(Topic::to_string).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_topic_that_is_wanted_again_in_time_was_never_given_up() {
        let (wanted, start) = (Wanted::new(), Instant::now());
        wanted.want(Topic::new("a"));
        wanted.give_up(&Topic::new("a"), LINGER, start);
        wanted.want(Topic::new("a"));
        assert_eq!(wanted.expire(start + LINGER), None);
        assert_eq!(
            (wanted.version(), topics(&wanted)),
            (1, vec!["a".to_owned()])
        );
    }

    #[test]
    fn a_topic_lingers_from_when_it_was_given_up_last() {
        let (wanted, start) = (Wanted::new(), Instant::now());
        wanted.want(Topic::new("a"));
        wanted.give_up(&Topic::new("a"), LINGER, start);
        wanted.want(Topic::new("a"));
        let later = start + LINGER / 2;
        wanted.give_up(&Topic::new("a"), LINGER, later);
        let until = later + LINGER;
        assert_eq!(wanted.expire(start + LINGER), Some(until));
        assert_eq!(wanted.version(), 1);
        assert_eq!(wanted.expire(until), None);
        assert_eq!(
            wanted.since(1),
            Some((
                2,
                vec![Change {
                    topic: Topic::new("a"),
                    is_wanted: false
                }]
            ))
        );
        assert!(wanted.is_empty());
    }

    #[test]
    fn what_is_no_longer_remembered_is_asked_for_as_a_whole() {
        let wanted = Wanted::new();
        for number in 0..=CHANGES {
            wanted.want(Topic::new(number.to_string()));
        }
        assert_eq!(wanted.since(0), None);
        assert_eq!(
            wanted.since(1).map(|(_, changes)| changes.len()),
            Some(CHANGES)
        );
        assert_eq!(wanted.since(wanted.version() + 1), None);
        assert_eq!(wanted.all().1.len(), CHANGES + 1);
    }
}
