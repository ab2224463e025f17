//! Questions to other servers that aren't over: which server owes what.
//!
//! A server answers a question with replies, numbered from 0, and says at last how many there were.
//! So replies may be lost, come twice or in another order: a server is done when all numbers have
//! come, once each, and owes something until then.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Instant,
};

use antiphon::adapter::NodeId;

use super::MEMBERS;

/// Replies of one server that may come before those with lower numbers.
const AHEAD: usize = 65_536;

/// The number of a question, among those of the server that asks.
pub(crate) type QuestionId = u64;

/// All questions of a server that aren't over.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    next: QuestionId,
    open: HashMap<QuestionId, Question>,
    /// Questions in a row that ended with their time, without a reply of anyone.
    pub(crate) unanswered: u32,
}

#[derive(Debug)]
struct Question {
    owed: BTreeMap<NodeId, Owed>,
    /// Servers that have died since it was asked. Their replies come too late.
    dead: BTreeSet<NodeId>,
    deadline: Instant,
    is_answered: bool,
}

/// What one server has replied.
#[derive(Debug, Default)]
struct Owed {
    /// Replies with lower numbers have come.
    upto: u32,
    /// Those that came before their turn.
    ahead: BTreeSet<u32>,
    total: Option<u32>,
}

impl Owed {
    /// Returns whether this reply is new.
    fn take(&mut self, number: u32) -> bool {
        let is_bounded = number == self.upto || self.ahead.len() < AHEAD;
        if number < self.upto || !is_bounded || !self.ahead.insert(number) {
            return false;
        }
        while self.ahead.remove(&self.upto) {
            self.upto += 1;
        }
        true
    }

    fn is_done(&self) -> bool {
        self.total == Some(self.upto)
    }
}

/// What became of something that a server has said to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Whether it says something new. Otherwise it came twice, or too late.
    pub(crate) is_new: bool,
    /// Whether this server is done with the question.
    pub(crate) is_done: bool,
    /// Whether all servers are. The question is forgotten then.
    pub(crate) is_over: bool,
}

impl Questions {
    const NOTHING: Heard = Heard {
        is_new: false,
        is_done: false,
        is_over: false,
    };

    /// Begins a question to these servers.
    pub(crate) fn ask(
        &mut self,
        nodes: impl Iterator<Item = NodeId>,
        deadline: Instant,
    ) -> QuestionId {
        self.next += 1;
        let owed: BTreeMap<_, _> = nodes.map(|node| (node, Owed::default())).collect();
        if !owed.is_empty() {
            let question = Question {
                owed,
                dead: BTreeSet::new(),
                deadline,
                is_answered: false,
            };
            self.open.insert(self.next, question);
        }
        self.next
    }

    /// A server has replied. One that wasn't there when the question was asked is as welcome.
    pub(crate) fn reply(&mut self, id: QuestionId, node: &NodeId, number: u32) -> Heard {
        self.heard(id, node, |owed| owed.take(number))
    }

    /// A server has replied so many times, and will say no more.
    pub(crate) fn total(&mut self, id: QuestionId, node: &NodeId, total: u32) -> Heard {
        self.heard(id, node, |owed| owed.total.replace(total).is_none())
    }

    fn heard(
        &mut self,
        id: QuestionId,
        node: &NodeId,
        take: impl FnOnce(&mut Owed) -> bool,
    ) -> Heard {
        let Some(question) = self.open.get_mut(&id) else {
            return Self::NOTHING;
        };
        let is_known = question.owed.contains_key(node);
        if question.dead.contains(node) || !is_known && question.owed.len() >= MEMBERS {
            return Self::NOTHING;
        }
        let owed = question.owed.entry(node.clone()).or_default();
        let was_done = owed.is_done();
        let is_new = !was_done && take(owed);
        question.is_answered |= is_new;
        let is_done = is_new && owed.is_done();
        let is_over = is_done && question.owed.values().all(Owed::is_done);
        if is_new {
            self.unanswered = 0;
        }
        if is_over {
            self.open.remove(&id);
        }
        Heard {
            is_new,
            is_done,
            is_over,
        }
    }

    /// The question could not be asked, or nobody waits for it.
    pub(crate) fn cancel(&mut self, id: QuestionId) {
        self.open.remove(&id);
    }

    /// A server is dead. Returns the questions to which it owes something, each with whether it is
    /// over now.
    pub(crate) fn dead(&mut self, node: &NodeId) -> Vec<(QuestionId, bool)> {
        let mut owing = Vec::new();
        self.open.retain(|id, question| {
            let owed = question.owed.get(node);
            if owed.is_none_or(Owed::is_done) {
                return true;
            }
            question.owed.remove(node);
            question.dead.insert(node.clone());
            let is_over = question.owed.values().all(Owed::is_done);
            owing.push((*id, is_over));
            !is_over
        });
        owing
    }

    /// Forgets the questions whose time is up, and returns them.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<QuestionId> {
        let mut expired = Vec::new();
        self.open.retain(|id, question| {
            let is_over = question.deadline <= now;
            if is_over {
                expired.push(*id);
                if !question.is_answered {
                    self.unanswered = self.unanswered.saturating_add(1);
                }
            }
            !is_over
        });
        expired
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name)
    }

    fn asked(nodes: &[&str]) -> (Questions, QuestionId, Instant) {
        let (mut questions, now) = (Questions::default(), Instant::now());
        let nodes = nodes.iter().map(|name| node(name));
        let id = questions.ask(nodes, now + Duration::from_secs(5));
        (questions, id, now)
    }

    #[test]
    fn a_question_to_nobody_is_over_at_once() {
        let (questions, ..) = asked(&[]);
        assert_eq!(questions.len(), 0);
    }

    #[test]
    fn a_server_that_came_later_is_heard_and_waited_for() {
        let (mut questions, id, _) = asked(&["a"]);
        assert!(questions.reply(id, &node("new"), 0).is_new);
        assert!(!questions.total(id, &node("a"), 0).is_over);
        assert!(questions.total(id, &node("new"), 1).is_over);
    }

    #[test]
    fn a_server_that_died_owes_forever() {
        let (mut questions, id, _) = asked(&["a", "b"]);
        assert_eq!(questions.dead(&node("a")), [(id, false)]);
        assert_eq!(questions.total(id, &node("a"), 0), Questions::NOTHING);
        assert!(questions.total(id, &node("b"), 0).is_over);
    }

    #[test]
    fn a_server_that_died_after_its_last_word_owes_nothing() {
        let (mut questions, id, _) = asked(&["a", "b"]);
        questions.total(id, &node("a"), 0);
        assert!(questions.dead(&node("a")).is_empty());
    }

    #[test]
    fn questions_end_with_their_time() {
        let (mut questions, id, now) = asked(&["a"]);
        assert!(questions.expire(now).is_empty());
        assert_eq!(questions.expire(now + Duration::from_secs(5)), [id]);
        assert_eq!((questions.len(), questions.unanswered), (0, 1));
    }

    #[test]
    fn what_comes_ahead_of_its_turn_is_bounded() {
        let (mut questions, id, _) = asked(&["a"]);
        let ahead = u32::try_from(AHEAD).unwrap();
        for number in 1..=ahead {
            assert!(questions.reply(id, &node("a"), number).is_new);
        }
        assert!(!questions.reply(id, &node("a"), ahead + 1).is_new);
        // And doesn't stand in the way of the one that all wait for.
        assert!(questions.reply(id, &node("a"), 0).is_new);
        assert!(questions.reply(id, &node("a"), ahead + 1).is_new);
    }

    proptest! {
        /// Replies in any order, any of them several times, the last word anywhere among them: each
        /// is new once, and the server is done with the last that was missing.
        #[test]
        fn a_server_is_done_when_all_has_come_once(
            total in 0u32..20,
            order in prop::collection::vec(0u32..21, 0..200),
        ) {
            let (mut questions, id, _) = asked(&["a"]);
            let mut missing: BTreeSet<u32> = (0..=total).collect(); // the last is the last word
            for step in order.into_iter().filter(|step| *step <= total).chain(0..=total) {
                let heard = match step == total {
                    true => questions.total(id, &node("a"), total),
                    false => questions.reply(id, &node("a"), step),
                };
                prop_assert_eq!(heard.is_new, missing.remove(&step));
                prop_assert_eq!(heard.is_over, heard.is_new && missing.is_empty());
                if heard.is_over {
                    prop_assert_eq!(questions.len(), 0);
                    return Ok(());
                }
            }
            prop_assert!(false, "never over");
        }
    }
}
