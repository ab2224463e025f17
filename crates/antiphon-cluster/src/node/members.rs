//! The other servers of a namespace, on wires whose servers say that they are there: the rules of
//! Node's class `ClusterAdapterWithHeartbeat`.
//!
//! Each namespace of a server has a name of its own there, so its adapter owns one of these, tells
//! it what comes and what the time is, and says what it is told to. A server that begins says hello,
//! which all others answer with a heartbeat, and from then on says a heartbeat again and again.
//! Whatever else a server says is as good as a heartbeat. One that hasn't been heard for too long is
//! dead.
//!
//! Without a connection nobody can be heard, so nobody dies; with a new one all get their time anew.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use antiphon::adapter::NodeId;
use antiphon_protocol::cluster::node::{EMITTER, Message};

use crate::machine::{MEMBERS, SETTLE};

/// A server says a heartbeat each time that so much has passed: Node's `heartbeatInterval`.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);

/// A server that hasn't been heard for so long is dead: Node's `heartbeatTimeout`.
pub(crate) const DEAD: Duration = Duration::from_secs(10);

/// Heartbeats that answer a hello come no closer to each other: many servers may start at once.
const CLOSEST: Duration = Duration::from_millis(100);

/// Who else is in a namespace.
#[derive(Debug)]
pub(crate) struct Members {
    heard: BTreeMap<NodeId, Instant>,
    /// The connection is there, and hello has been said by it.
    is_connected: bool,
    /// When those that answer the first hello have done so.
    settled: Option<Instant>,
    last_said: Instant,
    next_heartbeat: Instant,
    last_tick: Instant,
}

/// What it is time for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// To be said to all others.
    pub(crate) say: Option<Message>,
    /// Servers that are dead.
    pub(crate) dead: Vec<NodeId>,
}

impl Members {
    /// Nobody is known, and nobody can be heard yet.
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            heard: BTreeMap::new(),
            is_connected: false,
            settled: None,
            last_said: now,
            next_heartbeat: now,
            last_tick: now,
        }
    }

    /// Whether others can be heard now. Returns what is to be said to them.
    pub(crate) fn connected(&mut self, is_connected: bool, now: Instant) -> Option<Message> {
        let begins = is_connected && !self.is_connected;
        self.is_connected = is_connected;
        begins.then(|| self.greet(now))
    }

    /// This server says hello, and all others are to be heard again.
    fn greet(&mut self, now: Instant) -> Message {
        self.heard.values_mut().for_each(|heard| *heard = now);
        self.settled.get_or_insert(now + SETTLE);
        self.said(now);
        Message::Hello
    }

    fn said(&mut self, now: Instant) {
        self.last_said = now;
        self.next_heartbeat = now + HEARTBEAT;
    }

    /// A server has said something. Returns whether it is new.
    pub(crate) fn heard(&mut self, node: &NodeId, message: Option<&Message>, now: Instant) -> bool {
        if node.as_str() == EMITTER || matches!(message, Some(Message::Bye)) {
            return false;
        }
        if matches!(message, Some(Message::Hello)) {
            let soonest = now.max(self.last_said + CLOSEST);
            self.next_heartbeat = self.next_heartbeat.min(soonest);
        }
        if let Some(heard) = self.heard.get_mut(node) {
            *heard = now;
            return false;
        }
        let has_room = self.heard.len() < MEMBERS;
        if has_room {
            self.heard.insert(node.clone(), now);
        }
        has_room
    }

    /// A server goes. Returns whether it was there.
    pub(crate) fn left(&mut self, node: &NodeId) -> bool {
        self.heard.remove(node).is_some()
    }

    /// What it is time for.
    pub(crate) fn tick(&mut self, now: Instant) -> Due {
        let slept = now.saturating_duration_since(self.last_tick);
        self.last_tick = now;
        if !self.is_connected {
            return Due::default();
        }
        if slept >= DEAD {
            // This server was frozen: what it hasn't read says nothing of others.
            return Due {
                say: Some(self.greet(now)),
                dead: Vec::new(),
            };
        }
        let is_dead = |heard: &Instant| now.saturating_duration_since(*heard) >= DEAD;
        let dead = self.heard.iter().filter(|(_, heard)| is_dead(heard));
        let dead: Vec<_> = dead.map(|(node, _)| node.clone()).collect();
        self.heard.retain(|_, heard| !is_dead(heard));
        let say = (now >= self.next_heartbeat).then(|| {
            self.said(now);
            Message::Heartbeat
        });
        Due { say, dead }
    }

    /// When to call [`tick`](Self::tick) again, whatever happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let deaths = self.heard.values().map(|heard| *heard + DEAD);
        let first = deaths.chain([self.next_heartbeat]).min();
        first.filter(|_| self.is_connected)
    }

    /// When it is known who is there. Returns `None` if no connection has been there so far.
    pub(crate) const fn settled(&self) -> Option<Instant> {
        self.settled
    }

    /// The other servers that are there.
    pub(crate) fn names(&self) -> Vec<NodeId> {
        self.heard.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers that hear each other, and the time.
    struct Servers {
        now: Instant,
        members: Vec<(&'static str, Members)>,
        /// What was said, and by whom.
        said: Vec<(&'static str, Message)>,
    }

    impl Servers {
        fn new() -> Self {
            Self {
                now: Instant::now(),
                members: Vec::new(),
                said: Vec::new(),
            }
        }

        fn start(&mut self, name: &'static str) {
            let mut members = Members::new(self.now);
            let hello = members.connected(true, self.now).unwrap();
            self.members.push((name, members));
            self.tell(name, hello);
        }

        fn tell(&mut self, from: &'static str, message: Message) {
            for (name, members) in &mut self.members {
                if *name != from {
                    members.heard(&NodeId::new(from), Some(&message), self.now);
                }
            }
            self.said.push((from, message));
        }

        /// Lets time pass. Returns who died, by whom.
        fn pass(&mut self, time: Duration) -> Vec<(&'static str, NodeId)> {
            let (end, mut died) = (self.now + time, Vec::new());
            while self.now < end {
                self.now += Duration::from_millis(50);
                let mut says = Vec::new();
                for (name, members) in &mut self.members {
                    let due = members.tick(self.now);
                    died.extend(due.dead.into_iter().map(|dead| (*name, dead)));
                    says.extend(due.say.map(|message| (*name, message)));
                }
                for (name, message) in says {
                    self.tell(name, message);
                }
            }
            died
        }

        fn of(&mut self, name: &str) -> &mut Members {
            let found = self.members.iter_mut().find(|(it, _)| *it == name);
            &mut found.unwrap().1
        }

        fn known_by(&mut self, name: &str) -> Vec<NodeId> {
            self.of(name).names()
        }
    }

    fn nodes<const N: usize>(names: [&str; N]) -> [NodeId; N] {
        names.map(NodeId::new)
    }

    #[test]
    fn who_comes_and_who_is_there_know_each_other_soon() {
        let mut servers = Servers::new();
        servers.start("a");
        servers.pass(Duration::from_secs(3));
        servers.start("b");
        assert_eq!(servers.known_by("a"), nodes(["b"]));
        assert_eq!(servers.known_by("b"), []);
        servers.pass(SETTLE);
        assert_eq!(servers.known_by("b"), nodes(["a"]));
        let settled = servers.of("b").settled();
        assert_eq!(settled, Some(servers.now));
    }

    #[test]
    fn heartbeats_keep_alive_and_who_says_none_is_dead() {
        let mut servers = Servers::new();
        for name in ["a", "b", "c"] {
            servers.start(name);
        }
        assert_eq!(servers.pass(Duration::from_secs(60)), []);
        servers.members.pop();
        let died = servers.pass(DEAD + HEARTBEAT);
        let [c, _] = nodes(["c", ""]);
        assert_eq!(died, [("a", c.clone()), ("b", c)]);
        assert_eq!(servers.known_by("a"), nodes(["b"]));
    }

    #[test]
    fn a_heartbeat_comes_every_five_seconds() {
        let mut servers = Servers::new();
        servers.start("a");
        servers.pass(Duration::from_secs(51));
        let heartbeats = servers
            .said
            .iter()
            .filter(|(_, it)| *it == Message::Heartbeat);
        assert_eq!(heartbeats.count(), 10);
    }

    #[test]
    fn many_hellos_are_answered_by_few_heartbeats() {
        let mut servers = Servers::new();
        servers.start("a");
        servers.pass(Duration::from_secs(1));
        let names = ["b", "c", "d", "e", "f"];
        for name in names {
            let now = servers.now;
            let hello = Some(&Message::Hello);
            servers.of("a").heard(&NodeId::new(name), hello, now);
        }
        servers.pass(Duration::from_secs(1));
        let heartbeats = servers
            .said
            .iter()
            .filter(|(_, it)| *it == Message::Heartbeat);
        assert_eq!(heartbeats.count(), 1);
        assert_eq!(servers.known_by("a"), nodes(names));
    }

    #[test]
    fn whatever_a_server_says_keeps_it_alive() {
        let start = Instant::now();
        let mut members = Members::new(start);
        members.connected(true, start);
        for second in 0..30 {
            let now = start + Duration::from_secs(second);
            members.heard(&NodeId::new("a"), None, now);
            assert_eq!(members.tick(now).dead, []);
        }
    }

    #[test]
    fn who_says_goodbye_is_gone_and_an_emitter_was_never_there() {
        let now = Instant::now();
        let mut members = Members::new(now);
        members.connected(true, now);
        assert!(members.heard(&NodeId::new("a"), Some(&Message::Hello), now));
        assert!(!members.heard(&NodeId::new("a"), Some(&Message::Heartbeat), now));
        assert!(!members.heard(&NodeId::new(EMITTER), None, now));
        let [a] = nodes(["a"]);
        assert!(members.left(&a));
        assert!(!members.heard(&NodeId::new("a"), Some(&Message::Bye), now));
        assert!(!members.left(&a));
        assert_eq!(members.names(), []);
    }

    #[test]
    fn without_a_connection_nobody_dies_and_with_a_new_one_all_have_their_time() {
        let start = Instant::now();
        let mut members = Members::new(start);
        assert_eq!(members.deadline(), None);
        assert_eq!(members.connected(true, start), Some(Message::Hello));
        assert_eq!(members.connected(true, start), None);
        members.heard(&NodeId::new("a"), None, start);
        assert_eq!(members.connected(false, start), None);
        for second in 0..30 {
            let due = members.tick(start + Duration::from_secs(second));
            assert_eq!(due, Due::default());
        }
        let back = start + Duration::from_secs(30);
        assert_eq!(members.connected(true, back), Some(Message::Hello));
        assert_eq!(members.tick(back + DEAD / 2).dead, []);
        assert_eq!(members.tick(back + DEAD).dead, nodes(["a"]));
        // It has been known once who is there.
        assert_eq!(members.settled(), Some(start + SETTLE));
    }

    #[test]
    fn a_server_that_was_frozen_holds_nobody_for_dead() {
        let start = Instant::now();
        let mut members = Members::new(start);
        members.connected(true, start);
        members.heard(&NodeId::new("a"), None, start);
        let woken = start + 10 * DEAD;
        let due = members.tick(woken);
        assert_eq!((due.say, due.dead), (Some(Message::Hello), Vec::new()));
        assert_eq!(members.tick(woken + DEAD - HEARTBEAT).dead, []);
    }

    #[test]
    fn more_servers_than_any_cluster_has_are_not_believed() {
        let now = Instant::now();
        let mut members = Members::new(now);
        for number in 0..2 * MEMBERS {
            members.heard(&NodeId::new(number.to_string()), None, now);
        }
        assert_eq!(members.names().len(), MEMBERS);
    }
}
