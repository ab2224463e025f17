//! The sessions of a namespace that can be resumed, by their private ids.
//!
//! A session is live, as long as its socket is connected; parked, from then on until its time is
//! up; or taken, while somebody resumes it. A client that comes back claims it before its
//! middlewares are asked, and takes it when they have let it in; the latest claim counts. A live
//! session is ended when it is taken, so that one socket remains. What was taken and not resumed is
//! put back.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Map, Value};

use super::log::{LogError, SavedSession, Stays};
use crate::server::{Room, Socket, SocketId, Target, socket::values::Values};

/// What stays of a socket whose connection has gone.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) id: SocketId,
    pub(super) stays: Stays,
    pub(super) data: Option<Arc<Values>>,
    /// Values that were stored outside of this process.
    pub(super) stored: Map<String, Value>,
    /// When its time is up.
    pub(super) until: Instant,
}

/// A session that somebody has asked for.
#[derive(Debug)]
pub(super) struct Entry {
    state: State,
    /// The latest that has asked for it. It isn't dropped meanwhile.
    claim: Option<u64>,
    /// When its client has come for it the last time, as far as that is known.
    asked: Option<Instant>,
}

#[derive(Debug)]
enum State {
    Live(Socket),
    Parked(Box<Parked>),
    Taken(SocketId),
}

/// A session that is over: its private id, and the values that it had.
pub(super) type Over = (Room, Option<Arc<Values>>);

impl Entry {
    fn into_values(self) -> Option<Arc<Values>> {
        match self.state {
            State::Parked(parked) => parked.data,
            State::Live(_) | State::Taken(_) => None,
        }
    }
}

/// The sessions by their private ids.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_pid: HashMap<Room, Entry>,
    /// Those that are parked, in the order in which their time is up. One that has been claimed may
    /// lack while it is.
    expiring: BTreeSet<(Instant, Room)>,
    claims: u64,
    /// Those that are being asked for elsewhere: one connection asks, others wait for it.
    fetching: HashSet<Room>,
    /// Those that were given to other servers a moment ago.
    given: HashMap<Room, Given>,
}

/// A session that another server was given, until it has certainly taken it, or hasn't.
#[derive(Debug)]
struct Given {
    session: SavedSession,
    /// When its client has come to that server.
    asked: Instant,
    until: Instant,
}

/// So long it is known what was given. A server asks and takes within less, or it is dead.
const GIVEN: Duration = Duration::from_secs(5);

/// What a claim finds.
pub(super) struct Found {
    pub(super) claim: u64,
    pub(super) id: SocketId,
    /// Its socket, if that is still connected.
    pub(super) live: Option<Socket>,
    /// Where it has been, if it isn't live.
    pub(super) stays: Option<Stays>,
}

/// What taking a session comes to.
pub(super) enum Taking {
    /// It is the caller's, who resumes it or puts it back.
    Taken(Parked),
    /// It is live: its socket is to be ended first.
    Live(Socket),
    /// Another one resumes it at this moment.
    Busy,
    /// Another one has claimed it since.
    Lost,
    /// It has been ended.
    Gone,
}

impl Parked {
    /// The session as it is kept outside of this process.
    pub(super) fn saved(&self, pid: &Room) -> SavedSession {
        SavedSession {
            pid: pid.clone(),
            id: self.id.clone(),
            stays: self.stays.clone(),
            data: self.stored.clone(),
        }
    }
}

impl Sessions {
    /// Asks for a session, before anything is done with it. `asked`: when its client has come for it, to
    /// this server or another one. A client comes to one server after the other, so what is asked for a
    /// client that has come for it since is refused ([`LogError::Elsewhere`]): it is late, and that client
    /// has gone.
    pub(super) fn claim(&mut self, pid: &str, asked: Instant) -> Result<Found, LogError> {
        let entry = self.by_pid.get_mut(pid).ok_or(LogError::Unknown)?;
        if entry.asked.is_some_and(|last| last > asked) {
            return Err(LogError::Elsewhere);
        }
        entry.asked = Some(asked);
        self.claims += 1;
        entry.claim = Some(self.claims);
        let (id, live, stays) = match &entry.state {
            State::Live(socket) => (socket.id().clone(), Some(socket.clone()), None),
            State::Parked(parked) => (parked.id.clone(), None, Some(parked.stays.clone())),
            State::Taken(id) => (id.clone(), None, None),
        };
        Ok(Found {
            claim: self.claims,
            id,
            live,
            stays,
        })
    }

    /// A connection asks for a session elsewhere, until that is [over](Self::fetch_over).
    pub(super) fn fetch(&mut self, pid: &str) {
        self.fetching.insert(pid.into());
    }

    /// Whether a connection asks for a session elsewhere.
    pub(super) fn is_fetched(&self, pid: &str) -> bool {
        self.fetching.contains(pid)
    }

    pub(super) fn fetch_over(&mut self, pid: &str) {
        self.fetching.remove(pid);
    }

    /// A session goes to another server, whose client came there at this time.
    pub(super) fn give(&mut self, session: SavedSession, asked: Instant, now: Instant) {
        let given = Given {
            session,
            asked,
            until: now + GIVEN,
        };
        self.given.insert(given.session.pid.clone(), given);
    }

    /// A session that was given a moment ago. It is given again to who asks for a client that has come
    /// later: what both take is decided where sessions are kept.
    pub(super) fn give_again(
        &mut self,
        pid: &str,
        asked: Instant,
        now: Instant,
    ) -> Result<SavedSession, LogError> {
        let given = self.given.get_mut(pid).filter(|given| given.until > now);
        let given = given.ok_or(LogError::Unknown)?;
        if given.asked > asked {
            return Err(LogError::Elsewhere);
        }
        given.asked = asked;
        Ok(given.session.clone())
    }

    /// Whether a session was given to another server a moment ago.
    pub(super) fn is_given(&self, pid: &str, now: Instant) -> bool {
        self.given.get(pid).is_some_and(|given| given.until > now)
    }

    /// A claim is over. Gives the session if it waits again.
    pub(super) fn unclaim(&mut self, pid: &Room, claim: u64) -> Option<SavedSession> {
        let entry = self.by_pid.get_mut(pid)?;
        if entry.claim != Some(claim) {
            return None;
        }
        entry.claim = None;
        let State::Parked(parked) = &entry.state else {
            return None;
        };
        self.expiring.insert((parked.until, pid.clone()));
        Some(parked.saved(pid))
    }

    /// Whether somebody has claimed it.
    pub(super) fn is_claimed(&self, pid: &str) -> bool {
        let entry = self.by_pid.get(pid);
        entry.is_some_and(|entry| entry.claim.is_some())
    }

    pub(super) fn take(&mut self, pid: &str, claim: u64) -> Taking {
        let Some(entry) = self.by_pid.get_mut(pid) else {
            return Taking::Gone;
        };
        if entry.claim != Some(claim) {
            return Taking::Lost;
        }
        let id = match &entry.state {
            State::Live(socket) => return Taking::Live(socket.clone()),
            State::Taken(_) => return Taking::Busy,
            State::Parked(parked) => parked.id.clone(),
        };
        match std::mem::replace(&mut entry.state, State::Taken(id)) {
            State::Parked(parked) => {
                self.expiring.remove(&(parked.until, pid.into()));
                Taking::Taken(*parked)
            }
            _ => Taking::Gone,
        }
    }

    /// Whether nobody has claimed it since.
    pub(super) fn is_claimed_by(&self, pid: &str, claim: u64) -> bool {
        let entry = self.by_pid.get(pid);
        entry.is_some_and(|entry| entry.claim == Some(claim))
    }

    /// A session in this state. Whoever has asked for it still has.
    fn with(&self, pid: &Room, state: State) -> Entry {
        let before = self.by_pid.get(pid);
        Entry {
            state,
            claim: before.and_then(|entry| entry.claim),
            asked: before.and_then(|entry| entry.asked),
        }
    }

    /// A session is live: a new one, or one that was taken. Gives what was there.
    pub(super) fn insert(&mut self, pid: &Room, socket: &Socket) -> Option<Entry> {
        self.given.remove(pid);
        let entry = self.with(pid, State::Live(socket.clone()));
        self.by_pid.insert(pid.clone(), entry)
    }

    /// It isn't, after all: puts back what was there. A claim that was made meanwhile holds.
    pub(super) fn restore(&mut self, pid: &Room, before: Option<Entry>) {
        let now = self.by_pid.remove(pid);
        if let (Some(before), Some(now)) = (before, now) {
            let state = before.state;
            self.by_pid.insert(pid.clone(), Entry { state, ..now });
        }
    }

    /// A session waits to be resumed. Gives those whose place it takes.
    pub(super) fn park(&mut self, pid: &Room, parked: Parked, most: usize) -> Vec<Over> {
        let until = parked.until;
        self.given.remove(pid);
        let entry = self.with(pid, State::Parked(Box::new(parked)));
        self.by_pid.insert(pid.clone(), entry);
        self.expiring.insert((until, pid.clone()));
        let mut dropped = Vec::new();
        while self.expiring.len() > most
            && let Some((_, oldest)) = self.expiring.pop_first()
        {
            let values = self.by_pid.remove(&oldest).and_then(Entry::into_values);
            dropped.push((oldest, values));
        }
        dropped
    }

    /// A session that waits has come here since its client asked for it.
    pub(super) fn fetched(&mut self, pid: &str, asked: Instant) {
        if let Some(entry) = self.by_pid.get_mut(pid) {
            entry.asked = entry.asked.max(Some(asked));
        }
    }

    /// Removes a session. Gives the values that it has had, if it was parked.
    pub(super) fn remove(&mut self, pid: &Room) -> Option<Arc<Values>> {
        let entry = self.by_pid.remove(pid)?;
        if let State::Parked(parked) = &entry.state {
            self.expiring.remove(&(parked.until, pid.clone()));
        }
        entry.into_values()
    }

    /// Removes a session that waits, if nobody has claimed it. Gives the values that it has had.
    pub(super) fn remove_parked(&mut self, pid: &Room) -> Option<Arc<Values>> {
        if self.waits(pid) {
            self.remove(pid)
        } else {
            None
        }
    }

    /// Whether a session waits to be resumed, and nobody has claimed it.
    pub(super) fn waits(&self, pid: &str) -> bool {
        let entry = self.by_pid.get(pid);
        entry.is_some_and(|entry| matches!(entry.state, State::Parked(_)) && entry.claim.is_none())
    }

    /// The sockets of those that are live, and those that are parked.
    pub(super) fn all(&self) -> (Vec<Socket>, Vec<SavedSession>) {
        let (mut live, mut saved) = (Vec::new(), Vec::new());
        for (pid, entry) in &self.by_pid {
            match &entry.state {
                State::Live(socket) => live.push(socket.clone()),
                State::Parked(parked) => saved.push(parked.saved(pid)),
                // Whoever has it saves it.
                State::Taken(_) => {}
            }
        }
        (live, saved)
    }

    /// Whether there is one of this private id.
    pub(super) fn contains(&self, pid: &str) -> bool {
        self.by_pid.contains_key(pid)
    }

    /// The socket that a session has now.
    pub(super) fn live(&self, pid: &str) -> Option<&Socket> {
        match &self.by_pid.get(pid)?.state {
            State::Live(socket) => Some(socket),
            State::Parked(_) | State::Taken(_) => None,
        }
    }

    /// Those of `target` that are parked, and their values.
    pub(super) fn parked(&mut self, target: &Target) -> Vec<(SocketId, Arc<Values>)> {
        let parked = self.by_pid.iter_mut().filter_map(|(pid, entry)| {
            let State::Parked(parked) = &mut entry.state else {
                return None;
            };
            if !target.selects(&parked.stays.rooms(pid)) {
                return None;
            }
            let values = parked.data.get_or_insert_default();
            Some((parked.id.clone(), Arc::clone(values)))
        });
        parked.collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_pid.is_empty()
    }

    /// Drops those whose time is up, and gives them.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Over> {
        self.given.retain(|_, given| given.until > now);
        let mut expired = Vec::new();
        while let Some((until, _)) = self.expiring.first()
            && *until <= now
            && let Some((_, pid)) = self.expiring.pop_first()
        {
            let is_over = self.by_pid.get(&pid).is_some_and(|entry| {
                entry.claim.is_none()
                    && matches!(&entry.state, State::Parked(parked) if parked.until <= now)
            });
            if is_over {
                let values = self.by_pid.remove(&pid).and_then(Entry::into_values);
                expired.push((pid, values));
            }
        }
        if self.by_pid.capacity() > 1_024 && self.by_pid.len() < self.by_pid.capacity() / 4 {
            self.by_pid.shrink_to(2 * self.by_pid.len());
        }
        expired
    }
}

/// When a session's time is up that is parked now.
pub(super) fn until(duration: Duration) -> Instant {
    crate::clock::now() + duration
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{Handshake, Server, client::handshake::Kept, handlers::permits::Permits};

    fn parked(until: Instant) -> Parked {
        Parked {
            id: SocketId::new("its id"),
            stays: Stays::default(),
            data: None,
            stored: Map::new(),
            until,
        }
    }

    fn socket(io: &Server) -> Socket {
        let (request, ()) = http::Request::new(()).into_parts();
        let permits = Arc::new(Permits::new(1));
        let handshake = Handshake::new(&request, &Kept::default());
        Socket::of_call(io.of("/"), io.engine(), &permits, Arc::new(handshake), None)
    }

    #[test]
    fn claims_leave_nothing_behind() {
        let now = Instant::now();
        let mut sessions = Sessions::default();
        let pid = Room::from("pid");
        assert!(sessions.park(&pid, parked(now), 10).is_empty());
        for _ in 0..1_000 {
            let claim = sessions.claim(&pid, now).expect("a session").claim;
            let unknown = sessions.claim("unknown", now);
            assert!(matches!(unknown, Err(LogError::Unknown)));
            // Its time is up, and it stays as long as somebody asks for it.
            assert!(sessions.expire(now).is_empty());
            sessions.unclaim(&pid, claim);
            assert_eq!((sessions.by_pid.len(), sessions.expiring.len()), (1, 1));
        }
        // One whose claim was overtaken takes back nothing of the one that counts.
        let first = sessions.claim(&pid, now).expect("a session").claim;
        let second = sessions.claim(&pid, now).expect("a session").claim;
        sessions.unclaim(&pid, first);
        assert!(sessions.is_claimed_by(&pid, second));
        sessions.unclaim(&pid, second);
        assert_eq!(sessions.expire(now).len(), 1);
        assert_eq!((sessions.by_pid.len(), sessions.expiring.len()), (0, 0));
    }

    #[test]
    fn a_session_that_is_put_back_belongs_to_its_latest_claim() {
        let io = Server::new();
        let socket = socket(&io);
        let mut sessions = Sessions::default();
        let pid = Room::from("pid");
        let now = Instant::now();
        sessions.park(&pid, parked(until(Duration::from_secs(60))), 10);
        let first = sessions.claim(&pid, now).expect("a session").claim;
        let Taking::Taken(taken) = sessions.take(&pid, first) else {
            panic!("it is there");
        };
        // While it is about to be resumed, its client claims it on another connection.
        let before = sessions.insert(&pid, &socket);
        let second = sessions.claim(&pid, now).expect("a session").claim;
        sessions.restore(&pid, before);
        assert!(sessions.is_claimed_by(&pid, second));
        sessions.park(&pid, taken, 10);
        assert!(sessions.is_claimed_by(&pid, second));
        assert!(matches!(sessions.take(&pid, first), Taking::Lost));
        assert!(matches!(sessions.take(&pid, second), Taking::Taken(_)));
    }

    #[test]
    fn who_is_late_does_not_get_what_its_client_has_asked_for_since() {
        let now = Instant::now();
        let [early, late] = [1, 2].map(|second| now + Duration::from_secs(second));
        let mut sessions = Sessions::default();
        let pid = Room::from("pid");
        sessions.park(&pid, parked(now), 10);
        sessions.fetched(&pid, late);
        let is_late = |claimed| matches!(claimed, Err(LogError::Elsewhere));
        assert!(is_late(sessions.claim(&pid, early)));
        let claim = sessions.claim(&pid, late).expect("a session").claim;
        // Whatever becomes of it, it is known when its client came.
        let Taking::Taken(taken) = sessions.take(&pid, claim) else {
            panic!("it is there");
        };
        sessions.park(&pid, taken, 10);
        assert!(is_late(sessions.claim(&pid, early)));
        assert!(sessions.is_claimed_by(&pid, claim));
    }

    #[test]
    fn what_was_given_is_given_again_to_who_comes_later_and_not_for_long() {
        let now = Instant::now();
        let [early, late] = [1, 2].map(|second| now + Duration::from_secs(second));
        let mut sessions = Sessions::default();
        let pid = Room::from("pid");
        let session = parked(now).saved(&pid);
        sessions.give(session.clone(), early, now);
        assert_eq!(sessions.give_again(&pid, late, now), Ok(session.clone()));
        let again = sessions.give_again(&pid, early, now);
        assert_eq!(again, Err(LogError::Elsewhere));
        assert!(sessions.is_given(&pid, now));
        let over = now + GIVEN;
        let again = sessions.give_again(&pid, late, over);
        assert_eq!(again, Err(LogError::Unknown));
        sessions.expire(over);
        assert!(sessions.given.is_empty());
        // It has come back, and is another one when it goes again.
        sessions.give(session, early, now);
        sessions.park(&pid, parked(over), 10);
        assert!(!sessions.is_given(&pid, now));
    }
}
