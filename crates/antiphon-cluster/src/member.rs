//! This server as a member of the cluster: its name, its connection, and what it knows of the others.
//!
//! The router owns a [`Member`], and so do the logs that are shared: both speak to other servers by it.
//! It puts the [`Machine`] under a lock, with those that wait for answers, whom it gives what has come.
//! What else the machine wants it returns, for the router to do without that lock. Events ask for no
//! lock here.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use antiphon::adapter::{AdapterError, NodeId};
use antiphon_protocol::cluster::native::{Asked, Frame, Message, Reply};
use tokio::sync::watch;

use crate::{
    Health, Topic, Trouble,
    link::Link,
    machine::{Heard, Machine, Output, QuestionId},
    message::Asking,
    topics::Topics,
};

/// This server as a member of the cluster.
pub(crate) struct Member {
    me: NodeId,
    pub(crate) topics: Topics,
    pub(crate) link: Link,
    state: Mutex<State>,
    /// Whether a log has something to send that the broker had no room for.
    has_unsent: AtomicBool,
    health: watch::Sender<Health>,
    /// It has been known once who is there.
    begun: watch::Sender<bool>,
}

struct State {
    machine: Machine,
    asking: HashMap<QuestionId, Asking>,
    /// Questions that nobody waits for are looked for when there are so many.
    swept_at: usize,
}

impl Member {
    /// A member that knows nobody yet.
    pub(crate) fn new(me: NodeId, topics: Topics, config: u64, link: Link) -> Self {
        let echoes = link.broker.abilities().echoes;
        link.wanted.want(topics.control.clone());
        link.wanted.want(topics.inbox(me.as_str()));
        Self {
            state: Mutex::new(State {
                machine: Machine::new(config, echoes, Instant::now()),
                asking: HashMap::new(),
                swept_at: 64,
            }),
            me,
            topics,
            link,
            has_unsent: AtomicBool::new(false),
            health: watch::Sender::new(Health::Starting),
            begun: watch::Sender::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) const fn me(&self) -> &NodeId {
        &self.me
    }

    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// All servers that are there, this one first.
    pub(crate) fn servers(&self) -> Vec<NodeId> {
        let state = self.state();
        let others = state.machine.others().map(|(node, _)| node.clone());
        [self.me.clone()].into_iter().chain(others).collect()
    }

    /// Resolves when it is known who is there.
    pub(crate) async fn started(&self) {
        let mut begun = self.begun.subscribe();
        // The sender is here.
        let _ = begun.wait_for(|begun| *begun).await;
    }

    /// A log has something to send that the broker has no room for now.
    pub(crate) fn retries(&self) {
        self.has_unsent.store(true, Ordering::Release);
    }

    /// Whether a log has had something to send since it was asked the last time.
    pub(crate) fn takes_retry(&self) -> bool {
        self.has_unsent.swap(false, Ordering::AcqRel)
    }

    /// Sends a message of a namespace to those that have subscribed to a topic.
    pub(crate) fn publish(
        &self,
        topic: &Topic,
        namespace: &Arc<str>,
        message: Message,
    ) -> Result<(), AdapterError> {
        let frame = Frame {
            from: (&self.me).into(),
            namespace: Arc::clone(namespace),
            message,
        };
        self.link.publish(topic, frame.encode())
    }

    // Questions.

    /// Asks all other servers.
    pub(crate) fn ask(this: &Arc<Self>, namespace: &Arc<str>, what: Asked, asking: Asking) {
        if *this.begun.borrow() {
            return this.ask_now(namespace, what, asking);
        }
        let health = this.health.borrow().clone();
        if let Health::Degraded(Trouble::Down { reason }) = health {
            return asking.fail(AdapterError::Unreachable { reason });
        }
        // It isn't known yet who is there: it would be a guess that nobody is.
        let (member, namespace) = (Arc::clone(this), Arc::clone(namespace));
        this.link.runtime.spawn(async move {
            tokio::select! {
                () = member.started() => member.ask_now(&namespace, what, asking),
                () = asking.closed() => {}
            }
        });
    }

    fn ask_now(&self, namespace: &Arc<str>, what: Asked, asking: Asking) {
        let time = asking.remaining();
        let question = {
            let mut state = self.state();
            let (question, nodes) = state.machine.ask(Instant::now() + time);
            if nodes.is_empty() {
                return;
            }
            nodes.into_iter().for_each(|node| asking.missing(node));
            state.sweep();
            state.asking.insert(question, asking);
            question
        };
        let message = Message::Ask {
            question,
            time,
            what,
        };
        if let Err(error) = self.publish(&self.topics.control, namespace, message) {
            let mut state = self.state();
            state.machine.cancel(question);
            if let Some(asking) = state.asking.remove(&question) {
                asking.fail(error);
            }
        }
    }

    /// Another server has replied to a question.
    pub(crate) fn replied(
        &self,
        from: &NodeId,
        question: QuestionId,
        number: u32,
        reply: Reply,
    ) -> Vec<Output> {
        let mut state = self.state();
        let heard = state.machine.reply(question, from, number);
        if heard.is_new
            && let Some(asking) = state.asking.get_mut(&question)
        {
            asking.take(from, reply);
        }
        self.answered(&mut state, from, question, heard)
    }

    /// Another server has said how often it has replied.
    pub(crate) fn total(&self, from: &NodeId, question: QuestionId, replies: u32) -> Vec<Output> {
        let mut state = self.state();
        let heard = state.machine.total(question, from, replies);
        self.answered(&mut state, from, question, heard)
    }

    fn answered(
        &self,
        state: &mut State,
        from: &NodeId,
        question: QuestionId,
        heard: Heard,
    ) -> Vec<Output> {
        if heard.is_done
            && let Some(asking) = state.asking.get(&question)
        {
            asking.heard(from);
        }
        if heard.is_over {
            state.asking.remove(&question);
        }
        self.outputs(state)
    }

    // What the machine wants.

    /// What must be alike on all servers.
    pub(crate) fn config(&self) -> u64 {
        self.state().machine.config()
    }

    /// When the machine is to be told the time again.
    pub(crate) fn deadline(&self) -> Instant {
        self.state().machine.deadline()
    }

    /// Changes the machine, and returns what is to be done without the lock.
    pub(crate) fn with_machine(&self, change: impl FnOnce(&mut Machine)) -> Vec<Output> {
        let mut state = self.state();
        change(&mut state.machine);
        self.outputs(&mut state)
    }

    /// What the machine wants done without the lock. What is known to be so is told under it.
    fn outputs(&self, state: &mut State) -> Vec<Output> {
        let outputs = state.outputs();
        if outputs
            .iter()
            .any(|output| matches!(output, Output::Health(_)))
        {
            self.health.send_replace(state.machine.health().clone());
        }
        let has_begun = state.machine.has_begun();
        self.begun
            .send_if_modified(|begun| std::mem::replace(begun, has_begun) != has_begun);
        outputs
    }
}

impl State {
    /// What the machine wants done. Those that wait for answers are told here.
    fn outputs(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(output) = self.machine.poll() {
            match &output {
                Output::Owes {
                    question,
                    node,
                    is_over,
                } => {
                    if let Some(asking) = self.asking.get(question) {
                        asking.missing(node.clone());
                    }
                    if *is_over {
                        self.asking.remove(question);
                    }
                }
                Output::Expired { question } => {
                    self.asking.remove(question);
                }
                _ => outputs.push(output),
            }
        }
        outputs
    }

    /// Forgets questions that nobody waits for, now and then.
    fn sweep(&mut self) {
        if self.asking.len() < self.swept_at {
            return;
        }
        let Self {
            machine, asking, ..
        } = self;
        asking.retain(|question, asking| {
            let is_closed = asking.is_closed();
            if is_closed {
                machine.cancel(*question);
            }
            !is_closed
        });
        self.swept_at = 64.max(2 * self.asking.len());
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("me", &self.me)
            .field("health", &*self.health.borrow())
            .finish_non_exhaustive()
    }
}
