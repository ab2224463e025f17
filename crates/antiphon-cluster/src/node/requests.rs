//! Requests to other servers by Node's wires: whose answers go where, and who owes some.
//!
//! A request has a name, and answers repeat it. On wires where servers say that they are there, those
//! that are asked are known by name. On the others they are counted, and what is missing is a
//! number.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};

use antiphon::{
    SocketId,
    adapter::{AdapterError, NodeId},
};
use antiphon_protocol::cluster::{
    native,
    node::{Answer, Reply},
};

use crate::{machine::MEMBERS, message::Asking};

/// The other servers, which a request goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Others {
    /// So many.
    Counted(usize),
    /// These.
    Named(Vec<NodeId>),
}

impl Others {
    pub(crate) const fn len(&self) -> usize {
        match self {
            Self::Counted(count) => *count,
            Self::Named(nodes) => nodes.len(),
        }
    }
}

#[derive(Debug)]
struct Request {
    asking: Asking,
    owed: Owed,
    deadline: Instant,
}

/// What hasn't come.
#[derive(Debug)]
enum Owed {
    Counted {
        /// Servers that haven't answered.
        servers: usize,
        /// Acknowledgements that sockets of those that have answered owe. Below zero while more have come: those
        /// of servers whose answer is still on its way, as over a Redis Cluster, to any node of which Node's
        /// clients publish.
        acks: i64,
    },
    Named(BTreeMap<NodeId, Debt>),
}

/// What one server owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Debt {
    /// Its answer. So many of its sockets have acknowledged before it: Node's adapter for Postgres
    /// sends by several connections, which overtake each other.
    Answer {
        early: u64,
    },
    /// So many of its sockets owe acknowledgements.
    Acks(u64),
    Nothing,
}

impl Owed {
    fn is_nothing(&self) -> bool {
        match self {
            Self::Counted { servers, acks } => *servers == 0 && *acks <= 0,
            Self::Named(debts) => debts.values().all(|debt| *debt == Debt::Nothing),
        }
    }

    /// A server answers, by which so many of its sockets owe acknowledgements. Returns whether it
    /// owed the answer. One that wasn't known when it was asked is as welcome.
    fn answers(&mut self, node: &NodeId, more: u64) -> bool {
        match self {
            Self::Counted { servers: 0, .. } => false,
            Self::Counted { servers, acks } => {
                *servers -= 1;
                *acks = acks.saturating_add_unsigned(more);
                true
            }
            Self::Named(debts) => {
                if !debts.contains_key(node) && debts.len() >= MEMBERS {
                    return false;
                }
                let debt = debts
                    .entry(node.clone())
                    .or_insert(Debt::Answer { early: 0 });
                let Debt::Answer { early } = *debt else {
                    return false;
                };
                *debt = Debt::after(more.saturating_sub(early));
                true
            }
        }
    }

    /// A socket of a server acknowledges. Returns whether that was owed.
    fn acknowledges(&mut self, node: &NodeId) -> bool {
        match self {
            Self::Counted { servers: 0, acks } if *acks <= 0 => false,
            Self::Counted { acks, .. } => {
                *acks = acks.saturating_sub(1);
                true
            }
            Self::Named(debts) => {
                let Some(debt) = debts.get_mut(node) else {
                    return false;
                };
                *debt = match *debt {
                    Debt::Answer { early } => Debt::Answer {
                        early: early.saturating_add(1),
                    },
                    Debt::Acks(count) => Debt::after(count.saturating_sub(1)),
                    Debt::Nothing => return false,
                };
                true
            }
        }
    }
}

impl Debt {
    const fn after(acks: u64) -> Self {
        match acks {
            0 => Self::Nothing,
            acks => Self::Acks(acks),
        }
    }
}

/// All requests of one server in one namespace that aren't over.
#[derive(Debug)]
pub(crate) struct Requests {
    /// What their names begin with.
    me: Arc<str>,
    next: u64,
    open: HashMap<Arc<str>, Request>,
    swept_at: usize,
}

impl Requests {
    pub(crate) fn new(me: Arc<str>) -> Self {
        Self {
            me,
            next: 0,
            open: HashMap::new(),
            swept_at: 64,
        }
    }

    /// Begins a request, and gives its name. Returns `None` if nobody is asked: it is over.
    pub(crate) fn ask(
        &mut self,
        asking: Asking,
        others: Others,
        deadline: Instant,
    ) -> Option<Arc<str>> {
        if others.len() == 0 {
            return None;
        }
        self.sweep();
        let owed = match others {
            Others::Counted(servers) => {
                asking.unnamed(servers);
                Owed::Counted { servers, acks: 0 }
            }
            Others::Named(nodes) => {
                nodes.iter().cloned().for_each(|node| asking.missing(node));
                let debts = nodes.into_iter();
                let debts = debts.map(|node| (node, Debt::Answer { early: 0 }));
                Owed::Named(debts.collect())
            }
        };
        self.next += 1;
        let name: Arc<str> = format!("{}{}", self.me, self.next).into();
        let request = Request {
            asking,
            owed,
            deadline,
        };
        self.open.insert(Arc::clone(&name), request);
        Some(name)
    }

    /// The request couldn't be sent.
    pub(crate) fn fail(&mut self, name: &str, error: AdapterError) {
        if let Some(request) = self.open.remove(name) {
            request.asking.fail(error);
        }
    }

    /// Whether this is the name of this server.
    pub(crate) fn is_mine(&self, name: &str) -> bool {
        name == &*self.me
    }

    /// Whether this request isn't over.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.open.contains_key(name)
    }

    /// A server, or a socket of one, has answered.
    pub(crate) fn answer(&mut self, from: Option<&NodeId>, answer: Answer) {
        let Some(request) = self.open.get_mut(&answer.request) else {
            return;
        };
        let unknown = NodeId::new("");
        let node = from.unwrap_or(&unknown);
        let reply = match (&request.asking, answer.reply) {
            // These wires don't say whose it is.
            (Asking::Acks(answers), Reply::Acknowledged(args)) => {
                if request.owed.acknowledges(node) {
                    answers.give((SocketId::new(""), args));
                }
                None
            }
            (Asking::Acks(_), Reply::Clients(count)) => Some(native::Reply::Count(count)),
            (Asking::Sockets { .. }, Reply::Sockets(sockets)) => {
                Some(native::Reply::Found(sockets))
            }
            (Asking::Servers(_), Reply::Emitted(args)) => Some(native::Reply::Handled(args)),
            _ => return,
        };
        let acks = match reply {
            Some(native::Reply::Count(count)) => count,
            _ => 0,
        };
        if let Some(reply) = reply
            && request.owed.answers(node, acks)
        {
            request.asking.take(node, reply);
            request.asking.heard(node);
            if let Owed::Counted { servers, .. } = &request.owed {
                request.asking.unnamed(*servers);
            }
        }
        if request.owed.is_nothing() {
            self.open.remove(&answer.request);
        }
    }

    /// A server is dead or has left: what it owes is missing, and nobody waits for it.
    pub(crate) fn gone(&mut self, node: &NodeId) {
        self.open.retain(|_, request| {
            if let Owed::Named(debts) = &mut request.owed
                && debts.remove(node).is_some_and(|debt| debt != Debt::Nothing)
            {
                request.asking.missing(node.clone());
            }
            !request.owed.is_nothing()
        });
    }

    /// Forgets the requests whose time is up.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.open.retain(|_, request| request.deadline > now);
    }

    /// When the first one's time is up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.open.values().map(|request| request.deadline).min()
    }

    /// Forgets requests that nobody waits for, now and then.
    fn sweep(&mut self) {
        if self.open.len() >= self.swept_at {
            self.open.retain(|_, request| !request.asking.is_closed());
            self.swept_at = 64.max(2 * self.open.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use antiphon::{
        RemoteSocket,
        adapter::{Answered, Answers, OwnedArgs, SocketAnswer},
    };
    use antiphon_protocol::cluster::node::SocketDetails;

    use super::*;

    fn acks() -> (Asking, Answered<SocketAnswer>) {
        let (answers, answered) = Answers::channel(Duration::from_secs(5));
        (Asking::Acks(answers), answered)
    }

    fn fetch() -> (Asking, Answered<RemoteSocket>) {
        let (found, fetched) = Answers::channel(Duration::from_secs(5));
        let given = Default::default();
        (Asking::Sockets { found, given }, fetched)
    }

    fn asked(asking: Asking, count: usize) -> (Requests, Arc<str>) {
        asked_of(asking, Others::Counted(count))
    }

    fn asked_of(asking: Asking, others: Others) -> (Requests, Arc<str>) {
        let mut requests = Requests::new("me".into());
        let deadline = Instant::now() + Duration::from_secs(5);
        let name = requests.ask(asking, others, deadline).unwrap();
        (requests, name)
    }

    fn answer(requests: &mut Requests, name: &Arc<str>, from: Option<&str>, reply: Reply) {
        let from = from.map(NodeId::new);
        let request = Arc::clone(name);
        requests.answer(from.as_ref(), Answer { request, reply });
    }

    fn one() -> OwnedArgs {
        OwnedArgs::new(&1).unwrap()
    }

    #[tokio::test]
    async fn a_broadcast_is_over_when_all_have_counted_and_these_clients_have_answered() {
        let (asking, mut answered) = acks();
        let (mut requests, name) = asked(asking, 2);
        answer(&mut requests, &name, None, Reply::Clients(1));
        answer(&mut requests, &name, None, Reply::Acknowledged(one()));
        assert!(requests.has(&name));
        answer(&mut requests, &name, None, Reply::Clients(1));
        answer(&mut requests, &name, None, Reply::Acknowledged(one()));
        assert!(!requests.has(&name));
        assert_eq!(answered.expected(), Some(2));
        let mut count = 0;
        while answered.next().await.is_some() {
            count += 1;
        }
        assert_eq!((count, answered.take_error()), (2, None));
    }

    #[tokio::test]
    async fn acknowledgements_may_come_before_it_is_said_how_many() {
        let (asking, mut answered) = acks();
        let (mut requests, name) = asked(asking, 2);
        for _ in 0..3 {
            answer(&mut requests, &name, None, Reply::Acknowledged(one()));
        }
        answer(&mut requests, &name, None, Reply::Clients(2));
        assert!(requests.has(&name));
        answer(&mut requests, &name, None, Reply::Clients(1));
        assert!(!requests.has(&name));
        let mut count = 0;
        while answered.next().await.is_some() {
            count += 1;
        }
        assert_eq!((count, answered.expected()), (3, Some(3)));
        assert_eq!(answered.take_error(), None);
    }

    #[tokio::test]
    async fn more_answers_than_were_asked_for_are_left_out() {
        let (asking, mut answered) = acks();
        let (mut requests, name) = asked(asking, 1);
        answer(&mut requests, &name, None, Reply::Acknowledged(one()));
        answer(&mut requests, &name, None, Reply::Clients(2));
        answer(&mut requests, &name, None, Reply::Clients(9));
        for _ in 0..5 {
            answer(&mut requests, &name, None, Reply::Acknowledged(one()));
        }
        let mut count = 0;
        while answered.next().await.is_some() {
            count += 1;
        }
        assert_eq!((count, answered.expected()), (2, Some(2)));
    }

    #[tokio::test]
    async fn servers_that_are_counted_are_missing_by_their_number() {
        let (asking, mut fetched) = fetch();
        let (mut requests, name) = asked(asking, 3);
        let found = Reply::Sockets(vec![SocketDetails::default()]);
        answer(&mut requests, &name, None, found);
        requests.expire(Instant::now() + Duration::from_secs(6));
        assert!(!requests.has(&name));
        assert_eq!(
            fetched.take_error(),
            Some(AdapterError::Missing { count: 2, of: 3 })
        );
    }

    fn named<const N: usize>(nodes: [&str; N]) -> Others {
        Others::Named(nodes.map(NodeId::new).into())
    }

    fn found(ids: &[&str]) -> Reply {
        let sockets = ids.iter().map(|id| SocketDetails {
            id: (*id).into(),
            ..SocketDetails::default()
        });
        Reply::Sockets(sockets.collect())
    }

    #[tokio::test]
    async fn servers_with_names_are_missing_by_them() {
        let (asking, fetched) = fetch();
        let (mut requests, name) = asked_of(asking, named(["a", "b"]));
        answer(&mut requests, &name, Some("a"), found(&["1"]));
        answer(&mut requests, &name, Some("a"), found(&["2"]));
        assert!(requests.has(&name));
        assert_eq!(fetched.missing(), [NodeId::new("b")]);
        answer(&mut requests, &name, Some("b"), found(&[]));
        assert!(!requests.has(&name));
        assert_eq!(fetched.missing(), []);
    }

    #[tokio::test]
    async fn a_server_that_dies_is_missing_and_not_waited_for() {
        let (asking, mut fetched) = fetch();
        let (mut requests, name) = asked_of(asking, named(["a", "b"]));
        requests.gone(&NodeId::new("c"));
        requests.gone(&NodeId::new("b"));
        assert!(requests.has(&name));
        answer(&mut requests, &name, Some("a"), found(&["1"]));
        assert!(!requests.has(&name));
        assert!(fetched.next().await.is_some());
        assert!(fetched.next().await.is_none());
        assert_eq!(fetched.missing(), [NodeId::new("b")]);
    }

    #[tokio::test]
    async fn who_came_after_the_request_is_welcome_once() {
        let (asking, mut fetched) = fetch();
        let (mut requests, name) = asked_of(asking, named(["a"]));
        answer(&mut requests, &name, Some("new"), found(&["1"]));
        answer(&mut requests, &name, Some("new"), found(&["2"]));
        answer(&mut requests, &name, Some("a"), found(&[]));
        assert!(fetched.next().await.is_some());
        assert!(fetched.next().await.is_none());
    }

    #[tokio::test]
    async fn acknowledgements_may_overtake_the_number_of_clients() {
        let (asking, mut answered) = acks();
        let (mut requests, name) = asked_of(asking, named(["a"]));
        answer(&mut requests, &name, Some("a"), Reply::Acknowledged(one()));
        assert!(requests.has(&name));
        answer(&mut requests, &name, Some("a"), Reply::Clients(2));
        assert!(requests.has(&name));
        answer(&mut requests, &name, Some("a"), Reply::Acknowledged(one()));
        assert!(!requests.has(&name));
        let mut count = 0;
        while answered.next().await.is_some() {
            count += 1;
        }
        assert_eq!((count, answered.expected()), (2, Some(2)));
    }

    #[tokio::test]
    async fn sockets_of_a_server_that_dies_are_waited_for_no_longer() {
        let (asking, mut answered) = acks();
        let (mut requests, name) = asked_of(asking, named(["a", "b"]));
        answer(&mut requests, &name, Some("a"), Reply::Clients(2));
        answer(&mut requests, &name, Some("b"), Reply::Clients(1));
        assert_eq!(answered.missing(), []);
        answer(&mut requests, &name, Some("a"), Reply::Acknowledged(one()));
        // That of another server isn't its.
        answer(&mut requests, &name, Some("b"), Reply::Acknowledged(one()));
        answer(&mut requests, &name, Some("b"), Reply::Acknowledged(one()));
        assert!(requests.has(&name));
        requests.gone(&NodeId::new("a"));
        assert!(!requests.has(&name));
        let mut count = 0;
        while answered.next().await.is_some() {
            count += 1;
        }
        assert_eq!((count, answered.expected()), (2, Some(3)));
        assert_eq!(answered.missing(), [NodeId::new("a")]);
    }
}
