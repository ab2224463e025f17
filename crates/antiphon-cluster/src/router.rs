//! The router of a server: one for all its namespaces, between their adapters and the broker.
//!
//! Adapters publish through it and ask by it; what the broker hears is read by its one task, in
//! order, and given to the namespace that it concerns. The [`Machine`] says who is there and who
//! owes an answer; it isn't asked for events, which cost no lock here.
//!
//! The adapters own the router, and so does the user's [`Cluster`](crate::Cluster). Its tasks don't:
//! they end with it.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use antiphon::{
    adapter::{AdapterError, NodeId},
    recovery::Bounds,
};
use antiphon_protocol::cluster::native::{Asked, Digest, Frame, Message, Reply};
use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::{
    Address, Health, Topic, Trouble,
    broker::{Broker, Event},
    link::{Ears, Link},
    log::{HandingOver, Logs, Shared},
    machine::{Machine, Notice, Output, QuestionId},
    message::Asking,
    namespace::Namespace,
    passing::Passing,
    topics::Topics,
};

/// What a server's adapters have in common.
pub(crate) struct Router {
    me: NodeId,
    pub(crate) topics: Topics,
    link: Link,
    state: Mutex<State>,
    namespaces: RwLock<HashMap<Arc<str>, Weak<Namespace>>>,
    /// The shared logs, by the names of their topics.
    pub(crate) logs: Logs<Shared>,
    /// Whether a log has something to send that the broker had no room for.
    has_unsent: AtomicBool,
    /// Sessions that other servers were asked to hand over.
    pub(crate) handing: HandingOver,
    health: watch::Sender<Health>,
    /// It has been known once who is there.
    begun: watch::Sender<bool>,
    /// Where others find this server, if they do.
    address: Arc<str>,
    pub(crate) passing: Passing,
}

struct State {
    machine: Machine,
    asking: HashMap<QuestionId, Asking>,
    /// Questions that nobody waits for are looked for when there are so many.
    swept_at: usize,
}

impl Router {
    /// A router on the current runtime, which begins to connect.
    pub(crate) fn start(
        me: NodeId,
        prefix: &str,
        address: Option<&Address>,
        config: u64,
        broker: Arc<dyn Broker>,
    ) -> Arc<Self> {
        let topics = Topics::new(prefix);
        let echoes = broker.abilities().echoes;
        let link = Link::new(broker);
        link.wanted.want(topics.control.clone());
        link.wanted.want(topics.inbox(me.as_str()));
        let router = Arc::new(Self {
            state: Mutex::new(State {
                machine: Machine::new(config, echoes, Instant::now()),
                asking: HashMap::new(),
                swept_at: 64,
            }),
            passing: Passing::new(&me),
            address: address.map(Address::url).cloned().unwrap_or_default(),
            me,
            topics,
            link,
            namespaces: RwLock::default(),
            logs: Logs::default(),
            has_unsent: AtomicBool::new(false),
            handing: HandingOver::default(),
            health: watch::Sender::new(Health::Starting),
            begun: watch::Sender::new(false),
        });
        Link::start(&router);
        router
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

    /// A namespace begins to hear.
    pub(crate) fn enter(&self, namespace: &Arc<Namespace>) {
        let mut namespaces = self
            .namespaces
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let name = &namespace.name;
        let before = namespaces.insert(Arc::clone(name), Arc::downgrade(namespace));
        if before.is_some_and(|before| before.strong_count() > 0) {
            tracing::error!(
                namespace = &**name,
                "two servers have been given one cluster"
            );
        }
    }

    /// A namespace hears no more.
    pub(crate) fn leave(&self, namespace: &Arc<Namespace>) {
        let mut namespaces = self
            .namespaces
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let entered = namespaces.get(&namespace.name);
        if entered.is_some_and(|entered| entered.as_ptr() == Arc::as_ptr(namespace)) {
            namespaces.remove(&namespace.name);
        }
    }

    pub(crate) fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        let namespaces = self
            .namespaces
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        namespaces.get(name)?.upgrade()
    }

    /// The shared log of a namespace, if the broker keeps one. The same for each who asks.
    pub(crate) fn log(this: &Arc<Self>, name: &str, bounds: Bounds) -> Option<Arc<Shared>> {
        let journal = Arc::clone(&this.link.broker).journal()?;
        let topic = this.topics.log(name);
        let make = || Some(Shared::new(name, bounds, this, journal));
        this.logs.get_or(topic.name(), make)
    }

    /// The shared log of a namespace, if it has one.
    pub(crate) fn log_of(&self, name: &str) -> Option<Arc<Shared>> {
        self.logs.get(self.topics.log(name).name())
    }

    /// A log has something to send that the broker has no room for now.
    pub(crate) fn retries(&self) {
        self.has_unsent.store(true, Ordering::Release);
    }

    /// Resolves when no event of others is missed any more that concerns sockets which are here now.
    pub(crate) async fn subscribed(&self) {
        self.link.subscribed().await;
        for log in self.logs.all() {
            log.begun().await;
        }
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
        let (router, namespace) = (Arc::clone(this), Arc::clone(namespace));
        this.link.runtime.spawn(async move {
            tokio::select! {
                () = router.started() => router.ask_now(&namespace, what, asking),
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

    /// Says to the others that this server goes, and gives up the connection.
    pub(crate) async fn close(&self) {
        let outputs = self.with_machine(Machine::close);
        self.act(outputs);
        self.link.close().await;
    }

    // What comes.

    fn frame(self: &Arc<Self>, topic: &str, bytes: Bytes) {
        // Entries of logs begin with a number in decimal digits, and frames with that of a version.
        if bytes.first().is_some_and(u8::is_ascii_digit) {
            if let Some(log) = self.logs.get(topic) {
                log.heard(bytes);
            }
            return;
        }
        match Frame::decode_of_others(&bytes, self.me.as_str()) {
            Ok(Some(frame)) => self.says(frame),
            // What all hear comes back, and shows that this server is heard.
            Ok(None) if topic == self.topics.control.name() => {
                let outputs = self.with_machine(|machine| machine.echoed(Instant::now()));
                self.act(outputs);
            }
            Ok(None) => {}
            Err(error) => self.link.malformed(topic, &error),
        }
    }

    fn says(self: &Arc<Self>, frame: Frame) {
        let from = NodeId::new(frame.from);
        match frame.message {
            Message::Hello(digest) => self.notice(&from, Notice::Hello, digest),
            Message::Heartbeat(digest) => self.notice(&from, Notice::Heartbeat, digest),
            Message::Bye => self.notice(&from, Notice::Bye, Digest::default()),
            Message::Ask {
                question,
                time,
                what,
            } => self.asked(&from, &frame.namespace, question, time, what),
            Message::Reply {
                question,
                number,
                reply,
            } => self.replied(&from, question, number, reply),
            Message::Total { question, replies } => self.total(&from, question, replies),
            Message::HandOver {
                question,
                waited,
                pid,
            } => self.gives_up(&from, &frame.namespace, question, waited, &pid),
            Message::HandedOver { question, session } => self.handing.answered(question, session),
            message => {
                if let Some(namespace) = self.namespace(&frame.namespace) {
                    namespace.heard(from.as_str(), message);
                }
            }
        }
    }

    fn notice(&self, from: &NodeId, notice: Notice, digest: Digest) {
        let now = Instant::now();
        let outputs = self.with_machine(|machine| machine.heard(from, notice, digest, now));
        self.act(outputs);
    }

    /// Another server asks: what the namespace replies is sent to it, numbered, and then how much
    /// that was.
    fn asked(
        self: &Arc<Self>,
        from: &NodeId,
        name: &Arc<str>,
        question: QuestionId,
        time: Duration,
        what: Asked,
    ) {
        let (sender, mut replies) = mpsc::unbounded_channel();
        match self.namespace(name) {
            Some(namespace) => namespace.asked(what, time, sender),
            // Without the namespace there is nothing to reply.
            None => drop(sender),
        }
        let (router, name) = (Arc::downgrade(self), Arc::clone(name));
        let inbox = self.topics.inbox(from.as_str());
        let answer = move |message| {
            let router = router.upgrade()?;
            // Who asks will say that something is missing.
            router.publish(&inbox, &name, message).ok()
        };
        self.link.runtime.spawn(async move {
            let mut number = 0;
            while let Some(reply) = replies.recv().await {
                let reply = Message::Reply {
                    question,
                    number,
                    reply,
                };
                number += 1;
                answer(reply)?;
            }
            let replies = number;
            answer(Message::Total { question, replies })
        });
    }

    fn replied(&self, from: &NodeId, question: QuestionId, number: u32, reply: Reply) {
        let mut state = self.state();
        let heard = state.machine.reply(question, from, number);
        if heard.is_new
            && let Some(asking) = state.asking.get_mut(&question)
        {
            asking.take(from, reply);
        }
        self.done(state, from, question, heard.is_done, heard.is_over);
    }

    fn total(&self, from: &NodeId, question: QuestionId, replies: u32) {
        let mut state = self.state();
        let heard = state.machine.total(question, from, replies);
        self.done(state, from, question, heard.is_done, heard.is_over);
    }

    fn done(
        &self,
        mut state: MutexGuard<'_, State>,
        from: &NodeId,
        question: QuestionId,
        is_done: bool,
        is_over: bool,
    ) {
        if is_done && let Some(asking) = state.asking.get(&question) {
            asking.heard(from);
        }
        if is_over {
            state.asking.remove(&question);
        }
        let outputs = self.outputs(&mut state);
        drop(state);
        self.act(outputs);
    }

    // What the machine wants.

    /// Changes the machine, and returns what is to be done without the lock.
    fn with_machine(&self, change: impl FnOnce(&mut Machine)) -> Vec<Output> {
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

    fn act(&self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Say(notice) => self.say(notice),
                Output::Health(health) => health.log(),
                Output::Joined { node, address } => {
                    self.passing.joined(&node, &address);
                    tracing::info!(%node, "a server has joined the cluster");
                }
                Output::Gone { node, is_dead } => {
                    self.passing.gone(&node);
                    match is_dead {
                        false => tracing::info!(%node, "a server has left the cluster"),
                        true => tracing::warn!(
                            %node,
                            "a server hasn't been heard for too long: it counts as dead"
                        ),
                    }
                }
                // Those that wait for answers have been told.
                Output::Owes { .. } | Output::Expired { .. } => {}
            }
        }
    }

    fn say(&self, notice: Notice) {
        let digest = Digest {
            sockets: self.sockets(),
            config: self.state().machine.config(),
            address: Arc::clone(&self.address),
        };
        let message = match notice {
            Notice::Hello => Message::Hello(digest),
            Notice::Heartbeat => Message::Heartbeat(digest),
            Notice::Bye => Message::Bye,
        };
        // Refused, others miss it, and the health says why.
        let _ = self.publish(&self.topics.control, &Arc::default(), message);
    }

    fn sockets(&self) -> u64 {
        let namespaces = self
            .namespaces
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let namespaces = namespaces.values().filter_map(Weak::upgrade);
        namespaces
            .map(|namespace| namespace.local.len() as u64)
            .sum()
    }
}

impl Ears for Router {
    fn link(&self) -> &Link {
        &self.link
    }

    fn heard(self: &Arc<Self>, event: Event) {
        let now = Instant::now();
        let version = self.link.wanted.version();
        let outputs = match event {
            Event::Frame { topic, bytes, .. } => return self.frame(&topic, bytes),
            Event::Subscribed { version } => {
                self.logs
                    .all()
                    .iter()
                    .for_each(|log| log.subscribed(version));
                self.with_machine(|machine| machine.subscribed(version, now))
            }
            // The link has counted it.
            Event::Lost { .. } => return,
            Event::Refused {
                log,
                from,
                number,
                reason,
            } => {
                if let Some(log) = self.logs.get(log.name()) {
                    log.refused(&from, number, &reason);
                }
                return;
            }
            Event::Up => {
                self.logs.all().iter().for_each(|log| log.up());
                self.with_machine(|machine| machine.up(version, now))
            }
            Event::Down { reason } => {
                self.logs.all().iter().for_each(|log| log.down());
                self.with_machine(|machine| machine.down(reason))
            }
            Event::Dropped { .. } => {
                self.logs.all().iter().for_each(|log| log.up());
                self.with_machine(|machine| machine.dropped(version, now))
            }
        };
        self.act(outputs);
    }

    fn late(&self, is_late: bool) {
        let outputs = self.with_machine(|machine| machine.lagging(is_late));
        self.act(outputs);
    }

    fn look(&self) {
        let slowest = self.logs.slowest();
        let outputs = self.with_machine(|machine| machine.logs(slowest));
        self.act(outputs);
    }

    fn tick(&self, now: Instant) -> Instant {
        let version = self.link.wanted.version();
        let outputs = self.with_machine(|machine| machine.tick(version, now));
        self.act(outputs);
        // Asked for each batch of what is heard.
        if self.has_unsent.swap(false, Ordering::AcqRel) {
            self.logs.all().iter().for_each(|log| log.tick());
        }
        self.state().machine.deadline()
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

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("me", &self.me)
            .field("health", &*self.health.borrow())
            .finish_non_exhaustive()
    }
}
