//! Questions to other servers that aren't over: whose answers go where, and who owes some.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use antiphon::{
    RemoteSocket,
    adapter::{Answers, NodeId, ServerAnswer, SocketAnswer},
};

/// Where the answers of a question go.
#[derive(Debug)]
pub enum To {
    Acks(Answers<SocketAnswer>),
    Sockets(Answers<RemoteSocket>),
    Servers(Answers<ServerAnswer>),
}

impl To {
    fn is_closed(&self) -> bool {
        match self {
            Self::Acks(answers) => answers.is_closed(),
            Self::Sockets(answers) => answers.is_closed(),
            Self::Servers(answers) => answers.is_closed(),
        }
    }

    fn missing(&self, node: NodeId) {
        match self {
            Self::Acks(answers) => answers.missing(node),
            Self::Sockets(answers) => answers.missing(node),
            Self::Servers(answers) => answers.missing(node),
        }
    }

    fn heard(&self, node: &NodeId) {
        match self {
            Self::Acks(answers) => answers.heard(node),
            Self::Sockets(answers) => answers.heard(node),
            Self::Servers(answers) => answers.heard(node),
        }
    }
}

#[derive(Debug)]
struct Question {
    to: To,
    /// The servers that aren't done with it.
    asked: BTreeSet<NodeId>,
}

/// All questions of one server in one namespace.
#[derive(Debug, Default)]
pub struct Questions(Mutex<(u64, HashMap<u64, Question>)>);

impl Questions {
    fn lock(&self) -> MutexGuard<'_, (u64, HashMap<u64, Question>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a question to these servers, and gives its number.
    pub fn ask(&self, to: To, nodes: impl IntoIterator<Item = NodeId>) -> u64 {
        let asked: BTreeSet<_> = nodes.into_iter().collect();
        asked.iter().for_each(|node| to.missing(node.clone()));
        let mut questions = self.lock();
        let (next, questions) = &mut *questions;
        // Those whose time was up, or that nobody waits for.
        questions.retain(|_, question| !question.to.is_closed());
        *next += 1;
        if !asked.is_empty() {
            questions.insert(*next, Question { to, asked });
        }
        *next
    }

    /// A server that has been asked says something to a question.
    pub fn heard(&self, number: u64, node: &NodeId, take: impl FnOnce(&To)) {
        if let Some(question) = self.lock().1.get(&number)
            && question.asked.contains(node)
        {
            take(&question.to);
            question.to.heard(node);
        }
    }

    /// A server has said all that it has to say.
    pub fn over(&self, number: u64, node: &NodeId) {
        let questions = &mut self.lock().1;
        if let Some(question) = questions.get_mut(&number) {
            question.asked.remove(node);
            if question.asked.is_empty() {
                questions.remove(&number);
            }
        }
    }

    /// The question could not be asked.
    pub fn cancel(&self, number: u64) {
        self.lock().1.remove(&number);
    }

    /// A server is dead: what it owes is missing, and isn't waited for.
    pub fn dead(&self, node: &NodeId) {
        self.lock().1.retain(|_, question| {
            if question.asked.remove(node) {
                question.to.missing(node.clone());
            }
            !question.asked.is_empty()
        });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().1.len()
    }
}
