//! Requests to other servers by Node's wires: whose answers go where, and who owes some.
//!
//! A request has a name, and answers repeat it. They don't say who answers on each wire, so servers
//! are counted and not named: what is missing is a number.

use std::{collections::HashMap, sync::Arc, time::Instant};

use antiphon::{
    SocketId,
    adapter::{AdapterError, NodeId},
};
use antiphon_protocol::cluster::{
    native,
    node::{Answer, Reply},
};

use crate::message::Asking;

#[derive(Debug)]
struct Request {
    asking: Asking,
    /// Servers that haven't answered.
    asked: usize,
    /// Acknowledgements that sockets of those that have answered owe.
    acks: u64,
    deadline: Instant,
}

impl Request {
    fn is_over(&self) -> bool {
        self.asked == 0 && self.acks == 0
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
        asked: usize,
        deadline: Instant,
    ) -> Option<Arc<str>> {
        if asked == 0 {
            return None;
        }
        self.sweep();
        asking.unnamed(asked);
        self.next += 1;
        let name: Arc<str> = format!("{}{}", self.me, self.next).into();
        let request = Request {
            asking,
            asked,
            acks: 0,
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
            (Asking::Acks(answers), Reply::Acknowledged(args)) if request.acks > 0 => {
                request.acks -= 1;
                answers.give((SocketId::new(""), args));
                None
            }
            (Asking::Acks(_), Reply::Clients(count)) => Some(native::Reply::Count(count)),
            (Asking::Sockets { .. }, Reply::Sockets(sockets)) => {
                Some(native::Reply::Found(sockets))
            }
            (Asking::Servers(_), Reply::Emitted(args)) => Some(native::Reply::Handled(args)),
            _ => return,
        };
        if let Some(reply) = reply
            && request.asked > 0
        {
            request.asked -= 1;
            if let native::Reply::Count(count) = reply {
                request.acks += count;
            }
            request.asking.take(node, reply);
            request.asking.unnamed(request.asked);
        }
        if request.is_over() {
            self.open.remove(&answer.request);
        }
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

    fn asked(asking: Asking, asked: usize) -> (Requests, Arc<str>) {
        let mut requests = Requests::new("me".into());
        let deadline = Instant::now() + Duration::from_secs(5);
        let name = requests.ask(asking, asked, deadline).unwrap();
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
            Some(AdapterError::Missing { count: 2 })
        );
    }
}
