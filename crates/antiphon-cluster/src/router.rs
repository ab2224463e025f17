//! The router of a server: one for all its namespaces, between their adapters and the broker.
//!
//! Adapters publish and ask by its [`Member`], which is this server in the cluster; what the broker
//! hears is read by its one task, in order, and given to the namespace that it concerns. The machine
//! of the member says who is there and who owes an answer, and the router does what it wants; it isn't
//! asked for events, which cost no lock here.
//!
//! The adapters own the router, and so does the user's [`Cluster`](crate::Cluster). Its tasks don't:
//! they end with it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock, Weak},
    time::{Duration, Instant},
};

use antiphon::{adapter::NodeId, recovery::Bounds};
use antiphon_protocol::cluster::native::{Asked, Digest, Frame, Message};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    Address,
    broker::{Broker, Event},
    link::{Ears, Link},
    log::{HandingOver, Logs, Shared},
    machine::{Machine, Notice, Output, QuestionId},
    member::Member,
    namespace::Namespace,
    passing::Passing,
    topics::Topics,
};

/// What a server's adapters have in common.
pub(crate) struct Router {
    pub(crate) member: Arc<Member>,
    namespaces: RwLock<HashMap<Arc<str>, Weak<Namespace>>>,
    /// The shared logs, by the names of their topics.
    pub(crate) logs: Logs<Shared>,
    /// Sessions that other servers were asked to hand over.
    handing: Arc<HandingOver>,
    /// Where others find this server, if they do.
    address: Arc<str>,
    pub(crate) passing: Passing,
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
        let passing = Passing::new(&me);
        let member = Member::new(me, Topics::new(prefix), config, Link::new(broker));
        let member = Arc::new(member);
        let router = Arc::new(Self {
            handing: Arc::new(HandingOver::new(&member)),
            member,
            namespaces: RwLock::default(),
            logs: Logs::default(),
            address: address.map(Address::url).cloned().unwrap_or_default(),
            passing,
        });
        Link::start(&router);
        router
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

    fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        let namespaces = self
            .namespaces
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        namespaces.get(name)?.upgrade()
    }

    /// The shared log of a namespace, if the broker keeps one. The same for each who asks.
    pub(crate) fn log(&self, name: &str, bounds: Bounds) -> Option<Arc<Shared>> {
        let journal = Arc::clone(&self.member.link.broker).journal()?;
        let topic = self.member.topics.log(name);
        let make = || Some(Shared::new(name, bounds, &self.handing, journal));
        self.logs.get_or(topic.name(), make)
    }

    /// The shared log of a namespace, if it has one.
    pub(crate) fn log_of(&self, name: &str) -> Option<Arc<Shared>> {
        self.logs.get(self.member.topics.log(name).name())
    }

    /// Resolves when no event of others is missed any more that concerns sockets which are here now.
    pub(crate) async fn subscribed(&self) {
        self.member.link.subscribed().await;
        for log in self.logs.all() {
            log.begun().await;
        }
    }

    /// Says to the others that this server goes, and gives up the connection.
    pub(crate) async fn close(&self) {
        let outputs = self.member.with_machine(Machine::close);
        self.act(outputs);
        self.member.link.close().await;
    }

    // What comes.

    fn frame(&self, topic: &str, bytes: Bytes) {
        // Entries of logs begin with a number in decimal digits, and frames with that of a version.
        if bytes.first().is_some_and(u8::is_ascii_digit) {
            if let Some(log) = self.logs.get(topic) {
                log.heard(bytes);
            }
            return;
        }
        match Frame::decode_of_others(&bytes, self.member.me().as_str()) {
            Ok(Some(frame)) => self.says(frame),
            // What all hear comes back, and shows that this server is heard.
            Ok(None) if topic == self.member.topics.control.name() => {
                let outputs = self
                    .member
                    .with_machine(|machine| machine.echoed(Instant::now()));
                self.act(outputs);
            }
            Ok(None) => {}
            Err(error) => self.member.link.malformed(topic, &error),
        }
    }

    fn says(&self, frame: Frame) {
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
            } => self.act(self.member.replied(&from, question, number, reply)),
            Message::Total { question, replies } => {
                self.act(self.member.total(&from, question, replies));
            }
            Message::HandOver {
                question,
                waited,
                pid,
            } => {
                let namespace = self.namespace(&frame.namespace);
                let local = namespace.as_ref().map(|namespace| &namespace.local);
                let name = &frame.namespace;
                self.handing
                    .gives_up(local, (&from, question), name, waited, &pid);
            }
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
        let outputs = self
            .member
            .with_machine(|machine| machine.heard(from, notice, digest, now));
        self.act(outputs);
    }

    /// Another server asks: what the namespace replies is sent to it, numbered, and then how much
    /// that was.
    fn asked(
        &self,
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
        let (member, name) = (Arc::downgrade(&self.member), Arc::clone(name));
        let inbox = self.member.topics.inbox(from.as_str());
        let answer = move |message| {
            let member = member.upgrade()?;
            // Who asks will say that something is missing.
            member.publish(&inbox, &name, message).ok()
        };
        self.member.link.runtime.spawn(async move {
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

    // What the machine wants.

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
            config: self.member.config(),
            address: Arc::clone(&self.address),
        };
        let message = match notice {
            Notice::Hello => Message::Hello(digest),
            Notice::Heartbeat => Message::Heartbeat(digest),
            Notice::Bye => Message::Bye,
        };
        // Refused, others miss it, and the health says why.
        let _ = self
            .member
            .publish(&self.member.topics.control, &Arc::default(), message);
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
        &self.member.link
    }

    fn heard(self: &Arc<Self>, event: Event) {
        let now = Instant::now();
        let version = self.member.link.wanted.version();
        let outputs = match event {
            Event::Frame { topic, bytes, .. } => return self.frame(&topic, bytes),
            Event::Subscribed { version } => {
                self.logs
                    .all()
                    .iter()
                    .for_each(|log| log.subscribed(version));
                self.member
                    .with_machine(|machine| machine.subscribed(version, now))
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
            Event::Refusing { reason } => self
                .member
                .with_machine(|machine| machine.refusing(reason, now)),
            Event::Up => {
                self.logs.all().iter().for_each(|log| log.up());
                self.member.with_machine(|machine| machine.up(version, now))
            }
            Event::Down { reason } => {
                self.logs.all().iter().for_each(|log| log.down());
                self.member.with_machine(|machine| machine.down(reason))
            }
            Event::Dropped { .. } => {
                self.logs.all().iter().for_each(|log| log.up());
                self.member
                    .with_machine(|machine| machine.dropped(version, now))
            }
        };
        self.act(outputs);
    }

    fn late(&self, is_late: bool) {
        let outputs = self.member.with_machine(|machine| machine.lagging(is_late));
        self.act(outputs);
    }

    fn look(&self) {
        let slowest = self.logs.slowest();
        let outputs = self.member.with_machine(|machine| machine.logs(slowest));
        self.act(outputs);
    }

    fn tick(&self, now: Instant) -> Instant {
        let version = self.member.link.wanted.version();
        let outputs = self
            .member
            .with_machine(|machine| machine.tick(version, now));
        self.act(outputs);
        // Asked for each batch of what is heard.
        if self.member.takes_retry() {
            self.logs.all().iter().for_each(|log| log.tick());
        }
        self.member.deadline()
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}
