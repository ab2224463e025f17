//! What a server knows of the others, without I/O: who is there, who owes an answer, and how well
//! it hears them.
//!
//! The router owns a [`Machine`], gives it what it hears and the time, and does what comes out
//! ([`Machine::poll`]). It has no clock, and no say over events: these go past it.
//!
//! ```text
//! heard, link, subscribed, dropped, ask, reply, tick -> Machine -> poll: say, owes, over, health
//! ```
//!
//! # Members
//! A server says a heartbeat every [`HEARTBEAT`], under a topic that all hear. One that hasn't been
//! heard for [`DEAD`] is dead. One that comes says hello, and all answer with a heartbeat at once;
//! one that goes says so. While the connection is lost nobody is buried: not hearing says nothing
//! then. A server that was frozen itself takes that for granted, too: it begins to listen anew.
//!
//! # Health
//! After each trouble that may have cost frames the machine resyncs: it says hello, and is ready
//! when its subscriptions hold, its own hello has come back, and all who were known have been heard.
//! It is told now and then which log something waits for: one that is silent is trouble, too.

mod bounds;
mod health;
mod questions;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use antiphon::adapter::NodeId;
use antiphon_protocol::cluster::native::Digest;

pub(crate) use bounds::{MEMBERS, SETTLE};
pub use health::{Health, Trouble};
pub(crate) use questions::{Heard, QuestionId};

use crate::log::Slow;
use bounds::{CLOSEST, DEAD, DROPPING, HEARTBEAT, REFUSING, SILENT, UNANSWERED};
use questions::Questions;

/// What a server says to all, of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// It is there, and doesn't know who else is.
    Hello,
    /// It is there.
    Heartbeat,
    /// It goes.
    Bye,
}

/// What the router has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// To say this to all, with its digest.
    Say(Notice),
    /// This server is dead and owes an answer to a question, which may be over by that.
    Owes {
        question: QuestionId,
        node: NodeId,
        is_over: bool,
    },
    /// The time of this question is up.
    Expired { question: QuestionId },
    /// A server has come, and advertises this address.
    Joined { node: NodeId, address: Arc<str> },
    /// A server is gone: it has said so, or else it is dead.
    Gone { node: NodeId, is_dead: bool },
    /// The health has changed.
    Health(Health),
}

#[derive(Debug)]
struct Member {
    heard: Instant,
    digest: Digest,
}

/// What has to be heard until all is well again.
#[derive(Debug)]
struct Resync {
    /// Whether this is the first: nobody is known.
    is_start: bool,
    /// The subscriptions of this version have to hold.
    version: u64,
    has_echo: bool,
    missing: BTreeSet<NodeId>,
    settled: Instant,
}

#[derive(Debug)]
enum Link {
    /// It has never been there.
    New,
    Up,
    Down {
        reason: String,
    },
}

/// What a server knows of the others.
#[derive(Debug)]
pub(crate) struct Machine {
    config: u64,
    echoes: bool,
    is_silent: bool,
    members: BTreeMap<NodeId, Member>,
    questions: Questions,
    link: Link,
    confirmed: u64,
    resync: Option<Resync>,
    /// The oldest heartbeat whose echo hasn't come.
    probe: Option<Instant>,
    dropping: Option<Instant>,
    /// Why the broker refuses what is published, and until when that is believed.
    refusal: Option<(String, Instant)>,
    is_lagging: bool,
    /// The log that something waits for.
    slow: Option<Slow>,
    /// What waits has been able to come since: before, the connection was lost, or this server frozen.
    hears_since: Instant,
    has_begun: bool,
    is_closed: bool,
    health: Health,
    last_said: Option<Instant>,
    next_heartbeat: Instant,
    last_tick: Instant,
    output: VecDeque<Output>,
}

impl Machine {
    /// A server of which nobody knows yet. `echoes`: whether it hears what it says.
    pub(crate) fn new(config: u64, echoes: bool, now: Instant) -> Self {
        Self {
            config,
            echoes,
            is_silent: false,
            members: BTreeMap::new(),
            questions: Questions::default(),
            link: Link::New,
            confirmed: 0,
            resync: None,
            probe: None,
            dropping: None,
            refusal: None,
            is_lagging: false,
            slow: None,
            hears_since: now,
            has_begun: false,
            is_closed: false,
            health: Health::Starting,
            last_said: None,
            next_heartbeat: now + HEARTBEAT,
            last_tick: now,
            output: VecDeque::new(),
        }
    }

    /// A server that says and hears nothing of others: its health is that of its connection.
    pub(crate) fn silent(now: Instant) -> Self {
        let mut machine = Self::new(0, false, now);
        machine.is_silent = true;
        machine
    }

    /// What is to be done next.
    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    /// When [`tick`](Self::tick) is to be called, whatever happens before.
    pub(crate) fn deadline(&self) -> Instant {
        let deaths = self.members.values().map(|member| member.heard + DEAD);
        let deaths = deaths.filter(|_| self.is_up()).min();
        let settled = self.resync.as_ref().map(|resync| resync.settled);
        let settled = settled.filter(|settled| *settled > self.last_tick);
        let refusal = self.refusal.as_ref().map(|(_, until)| *until);
        let times = [deaths, settled, self.dropping, refusal];
        let first = times.into_iter().flatten().min();
        first.map_or(self.next_heartbeat, |first| first.min(self.next_heartbeat))
    }

    /// What must be alike on all servers.
    pub(crate) const fn config(&self) -> u64 {
        self.config
    }

    /// Whether it has been known once who else is there, or never will be.
    pub(crate) const fn has_begun(&self) -> bool {
        self.has_begun || self.is_closed
    }

    pub(crate) const fn health(&self) -> &Health {
        &self.health
    }

    /// The other servers that are there.
    pub(crate) fn others(&self) -> impl Iterator<Item = (&NodeId, &Digest)> {
        self.members
            .iter()
            .map(|(node, member)| (node, &member.digest))
    }

    // The connection.

    /// Whether the connection is there.
    pub(crate) const fn is_up(&self) -> bool {
        matches!(self.link, Link::Up)
    }

    /// The version of what is wanted that has been subscribed to.
    pub(crate) const fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// The connection is there. The subscriptions of `version` are wanted by now.
    pub(crate) fn up(&mut self, version: u64, now: Instant) {
        self.link = Link::Up;
        self.hears_since = now;
        self.listen_anew(!self.has_begun, version, now);
        self.settle_health();
    }

    /// The connection is lost.
    pub(crate) fn down(&mut self, reason: String) {
        self.link = Link::Down { reason };
        self.probe = None;
        self.refusal = None;
        self.settle_health();
    }

    /// The subscriptions of this version hold.
    pub(crate) fn subscribed(&mut self, version: u64, now: Instant) {
        self.confirmed = self.confirmed.max(version);
        self.end_resync(now);
        self.settle_health();
    }

    /// Frames were lost, since they couldn't be read in time.
    pub(crate) fn dropped(&mut self, version: u64, now: Instant) {
        self.dropping = Some(now + DROPPING);
        if self.is_up() {
            self.listen_anew(false, version, now);
        }
        self.settle_health();
    }

    /// The broker refuses what is published while the connection holds, or takes it again.
    pub(crate) fn refusing(&mut self, reason: Option<String>, now: Instant) {
        let before = self.refusal.take();
        self.refusal = reason.map(|reason| {
            // The first reason stands for all.
            let reason = before.map_or(reason, |(before, _)| before);
            (reason, now + REFUSING)
        });
        self.settle_health();
    }

    /// Frames wait longer than they should, or no longer.
    pub(crate) fn lagging(&mut self, is_lagging: bool) {
        if self.is_lagging != is_lagging {
            self.is_lagging = is_lagging;
            self.settle_health();
        }
    }

    /// This log is the one that something has waited for the longest, or that refuses.
    pub(crate) fn logs(&mut self, slowest: Option<Slow>) {
        self.slow = slowest;
        self.settle_health();
    }

    /// The server goes.
    pub(crate) fn close(&mut self) {
        if !self.is_closed {
            self.is_closed = true;
            self.output.push_back(Output::Say(Notice::Bye));
            self.settle_health();
        }
    }

    /// Something that this server has said to all has come back to it.
    pub(crate) fn echoed(&mut self, now: Instant) {
        self.probe = None;
        if let Some(resync) = &mut self.resync {
            resync.has_echo = true;
        }
        self.end_resync(now);
        self.settle_health();
    }

    // Members.

    /// A server has said something of itself.
    pub(crate) fn heard(&mut self, from: &NodeId, notice: Notice, digest: Digest, now: Instant) {
        if notice == Notice::Bye {
            self.gone(from, false);
        } else {
            self.member(from, digest, now);
            if notice == Notice::Hello {
                let soonest = self.last_said.map_or(now, |said| now.max(said + CLOSEST));
                self.next_heartbeat = self.next_heartbeat.min(soonest);
                self.say_heartbeat(now);
            }
        }
        self.end_resync(now);
        self.settle_health();
    }

    fn member(&mut self, node: &NodeId, digest: Digest, now: Instant) {
        if let Some(resync) = &mut self.resync {
            resync.missing.remove(node);
        }
        if let Some(member) = self.members.get_mut(node) {
            (member.heard, member.digest) = (now, digest);
        } else if self.members.len() < MEMBERS {
            let node = node.clone();
            self.output.push_back(Output::Joined {
                node: node.clone(),
                address: Arc::clone(&digest.address),
            });
            let heard = now;
            self.members.insert(node, Member { heard, digest });
        }
    }

    fn gone(&mut self, node: &NodeId, is_dead: bool) {
        if self.members.remove(node).is_none() {
            return;
        }
        let node = node.clone();
        if let Some(resync) = &mut self.resync {
            resync.missing.remove(&node);
        }
        for (question, is_over) in self.questions.dead(&node) {
            let node = node.clone();
            self.output.push_back(Output::Owes {
                question,
                node,
                is_over,
            });
        }
        self.output.push_back(Output::Gone { node, is_dead });
    }

    // Questions.

    /// A question to all other servers begins. Returns those that are asked: they owe an answer.
    pub(crate) fn ask(&mut self, deadline: Instant) -> (QuestionId, Vec<NodeId>) {
        let nodes: Vec<_> = self.members.keys().cloned().collect();
        let question = self.questions.ask(nodes.iter().cloned(), deadline);
        (question, nodes)
    }

    /// A server has replied for the `number`th time, from 0.
    pub(crate) fn reply(&mut self, question: QuestionId, node: &NodeId, number: u32) -> Heard {
        let heard = self.questions.reply(question, node, number);
        self.settle_health();
        heard
    }

    /// A server has replied `total` times, and says no more.
    pub(crate) fn total(&mut self, question: QuestionId, node: &NodeId, total: u32) -> Heard {
        let heard = self.questions.total(question, node, total);
        self.settle_health();
        heard
    }

    /// The question couldn't be asked, or nobody waits for it any more.
    pub(crate) fn cancel(&mut self, question: QuestionId) {
        self.questions.cancel(question);
    }

    // Time.

    /// Does what it is time for. The subscriptions of `version` are wanted by now.
    pub(crate) fn tick(&mut self, version: u64, now: Instant) {
        let slept = now.saturating_duration_since(self.last_tick);
        self.last_tick = now;
        if self.is_closed {
            return;
        }
        if slept > SILENT {
            // What has come meanwhile is read first. Without logs nobody looks so often.
            self.hears_since = now;
        }
        if slept > DEAD && self.is_up() {
            // This server was frozen: what it hasn't read says nothing of others.
            self.listen_anew(false, version, now);
        }
        if self.is_up() {
            self.bury(now);
        }
        self.say_heartbeat(now);
        for question in self.questions.expire(now) {
            self.output.push_back(Output::Expired { question });
        }
        self.dropping = self.dropping.filter(|until| *until > now);
        self.refusal.take_if(|(_, until)| *until <= now);
        self.end_resync(now);
        self.settle_health();
    }

    fn bury(&mut self, now: Instant) {
        let members = self.members.iter();
        let dead =
            members.filter(|(_, member)| now.saturating_duration_since(member.heard) >= DEAD);
        let dead: Vec<_> = dead.map(|(node, _)| node.clone()).collect();
        for node in dead {
            self.gone(&node, true);
        }
    }

    fn say_heartbeat(&mut self, now: Instant) {
        if now < self.next_heartbeat {
            return;
        }
        match self.link {
            Link::Up => self.say(Notice::Heartbeat, now),
            _ => self.next_heartbeat = now + HEARTBEAT,
        }
    }

    fn say(&mut self, notice: Notice, now: Instant) {
        self.last_said = Some(now);
        self.next_heartbeat = now + HEARTBEAT;
        if self.echoes {
            self.probe.get_or_insert(now);
        }
        if !self.is_silent {
            self.output.push_back(Output::Say(notice));
        }
    }

    /// All others are to be heard again.
    fn listen_anew(&mut self, is_start: bool, version: u64, now: Instant) {
        for member in self.members.values_mut() {
            member.heard = now;
        }
        let was_start = self.resync.as_ref().is_some_and(|resync| resync.is_start);
        self.resync = Some(Resync {
            is_start: is_start || was_start,
            version,
            has_echo: !self.echoes,
            missing: self.members.keys().cloned().collect(),
            settled: if self.is_silent { now } else { now + SETTLE },
        });
        self.probe = None;
        self.say(Notice::Hello, now);
    }

    fn end_resync(&mut self, now: Instant) {
        let is_over = self.resync.as_ref().is_some_and(|resync| {
            let has_settled = !resync.is_start || now >= resync.settled;
            has_settled
                && resync.has_echo
                && resync.missing.is_empty()
                && self.confirmed >= resync.version
        });
        if is_over {
            self.resync = None;
            self.has_begun = true;
        }
    }

    fn settle_health(&mut self) {
        let health = self.how_it_is();
        if health != self.health {
            self.health = health.clone();
            self.output.push_back(Output::Health(health));
        }
    }

    fn trouble_of_logs(&self) -> Option<Trouble> {
        let slow = self.slow.as_ref()?;
        let namespace = Arc::clone(&slow.namespace);
        if let Some(reason) = slow.refusal.clone() {
            return Some(Trouble::LogRefused { namespace, reason });
        }
        let since = slow.since.max(self.hears_since);
        let is_silent = self.last_tick.saturating_duration_since(since) >= SILENT;
        is_silent.then_some(Trouble::LogSilent { namespace })
    }

    fn how_it_is(&self) -> Health {
        if self.is_closed {
            return Health::Closed;
        }
        if let Link::Down { reason } = &self.link {
            let reason = reason.clone();
            return Health::Degraded(Trouble::Down { reason });
        }
        if let Some((reason, _)) = &self.refusal {
            let reason = reason.clone();
            return Health::Degraded(Trouble::Refused { reason });
        }
        let lost = |sent| self.last_tick.saturating_duration_since(sent) >= DEAD;
        if self.probe.is_some_and(lost) {
            return Health::Degraded(Trouble::ProbeLost);
        }
        if self.dropping.is_some() {
            return Health::Degraded(Trouble::Dropping);
        }
        match &self.resync {
            Some(resync) if resync.is_start => return Health::Starting,
            None if matches!(self.link, Link::New) => return Health::Starting,
            _ => {}
        }
        if let Some(trouble) = self.trouble_of_logs() {
            return Health::Degraded(trouble);
        }
        if let Some(resync) = &self.resync {
            let missing = resync.missing.iter().cloned().collect();
            return Health::Resyncing { missing };
        }
        let mut members = self.members.iter();
        if let Some((node, _)) = members.find(|(_, member)| member.digest.config != self.config) {
            let node = node.clone();
            return Health::Degraded(Trouble::OtherConfig { node });
        }
        match self {
            _ if self.is_lagging => Health::Degraded(Trouble::Lagging),
            _ if self.questions.unanswered >= UNANSWERED => {
                Health::Degraded(Trouble::NobodyAnswers)
            }
            _ => Health::Ready,
        }
    }
}
