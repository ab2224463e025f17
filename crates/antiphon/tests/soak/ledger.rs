//! What each client is owed, and whether it gets that.
//!
//! Events are numbered by their stream: everyone, a room, or one session alone. A stream's number is
//! taken and its event is emitted under one lock, and rooms are changed under it: so a stay in a room
//! is a range of numbers, of which the session's client must get each once and in order. The order of
//! streams among each other is that of the offsets, which the client checks (`faults/client.rs`).
//!
//! The server's side tells of sessions, of stays and of emits; the client's side of what it gets.
//! What is wrong is an error with a text, which the test collects.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use antiphon::Socket;
use serde::{Deserialize, Serialize};

/// The stream of everyone.
pub(crate) const ALL: usize = 0;

/// That of one session.
pub(crate) const OWN: usize = usize::MAX;

/// The first argument of each event: its number in each of its streams, and when it was emitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mark(pub(crate) Vec<(usize, u64)>, pub(crate) u64);

/// A time in a stream, of numbers from `next` on.
#[derive(Debug)]
struct Stay {
    first: u64,
    /// The next that its client must get.
    next: u64,
    /// The first that it must not get any more.
    end: Option<u64>,
    /// Those in between that are for all but it.
    skipped: VecDeque<u64>,
}

impl Stay {
    const fn from(first: u64) -> Self {
        Self {
            first,
            next: first,
            end: None,
            skipped: VecDeque::new(),
        }
    }

    fn pass_skipped(&mut self) {
        while self.skipped.front() == Some(&self.next) {
            self.skipped.pop_front();
            self.next += 1;
        }
    }

    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

/// What a change of a room has come to.
#[derive(Debug)]
pub(crate) enum Change {
    Joined,
    Left,
    /// Its connection was lost before, or its client has begun anew.
    Gone,
    /// Its connection was lost at that moment.
    Unsure,
}

/// One session of a client.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// Its latest socket, as the connect handler has had it.
    pub(crate) socket: Option<Socket>,
    /// When its connect handler ran.
    began: u64,
    stays: BTreeMap<usize, VecDeque<Stay>>,
    /// The last event to everyone that came before its connect handler ran.
    early: Option<u64>,
    own_sent: u64,
    /// Its client has heard of it.
    is_known: bool,
    /// Its connection was lost at the moment of a change of its rooms: nobody can say what it is
    /// owed.
    pub(crate) is_void: bool,
}

impl Session {
    /// Its rooms.
    pub(crate) fn rooms(&self) -> Vec<usize> {
        let open = |stays: &VecDeque<Stay>| stays.back().is_some_and(|stay| stay.end.is_none());
        let stays = self.stays.iter().filter(|(_, stays)| open(stays));
        let streams = stays.map(|(stream, _)| *stream);
        streams.filter(|it| ![ALL, OWN].contains(it)).collect()
    }

    fn enter(&mut self, stream: usize, first: u64) {
        let stays = self.stays.entry(stream).or_default();
        stays.push_back(Stay::from(first));
    }

    fn leave(&mut self, stream: usize, end: u64) {
        let stays = self.stays.entry(stream).or_default();
        if let Some(stay) = stays.back_mut() {
            stay.end = Some(end);
        }
    }

    /// Takes an event of a stream. `false` if it isn't for this session.
    fn take(&mut self, stream: usize, number: u64) -> Result<bool, String> {
        let early = self.early;
        let Some(stays) = self.stays.get_mut(&stream) else {
            return Ok(stream == ALL && self.take_early(number)?);
        };
        while let Some(stay) = stays.front_mut() {
            stay.pass_skipped();
            if stay.is_over() {
                stays.pop_front();
                continue;
            }
            if number < stay.first {
                return Ok(stream == ALL && self.take_early(number)?);
            }
            let is_first = number == stay.first && stay.next == number;
            if number != stay.next || stay.end.is_some_and(|end| number >= end) {
                return Err(format!("{number} came, and {} was to come", stay.next));
            }
            if is_first && stream == ALL && early.is_some_and(|early| early + 1 < number) {
                return Err(format!("{number} came behind {early:?}"));
            }
            stay.next += 1;
            return Ok(true);
        }
        Ok(false)
    }

    /// An event to everyone that was emitted when it had joined, and before that was noted.
    fn take_early(&mut self, number: u64) -> Result<bool, String> {
        match self.early {
            Some(early) if early + 1 != number => Err(format!("{number} came behind {early}")),
            _ => {
                self.early = Some(number);
                Ok(true)
            }
        }
    }
}

/// What is known of one client.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// By the ids of their sockets. One that its client hasn't heard of may be among them.
    pub(crate) sessions: HashMap<String, Session>,
    /// The session that its client has.
    pub(crate) sid: Option<String>,
    /// When the newest event was emitted that it has had.
    had: u64,
    /// It has stayed away since for longer than the log keeps.
    is_away: bool,
    /// The last that has happened to it, for whoever reads an error.
    trail: VecDeque<String>,
}

impl Account {
    /// The session that the client has.
    pub(crate) fn session(&mut self) -> Option<&mut Session> {
        self.sessions.get_mut(self.sid.as_ref()?)
    }

    pub(crate) fn trail(&self) -> String {
        Vec::from_iter(self.trail.iter().cloned()).join("\n    ")
    }
}

/// The account of each client, and the streams.
pub(crate) struct Ledger {
    /// The next number of each.
    streams: Vec<Mutex<u64>>,
    accounts: Vec<Mutex<Account>>,
    began: Instant,
}

impl Ledger {
    pub(crate) fn new(streams: usize, clients: usize) -> Self {
        Self {
            streams: (0..streams).map(|_| Mutex::new(0)).collect(),
            accounts: (0..clients).map(|_| Mutex::default()).collect(),
            began: Instant::now(),
        }
    }

    /// Milliseconds since the beginning.
    pub(crate) fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// A stream is still as long as this is held.
    fn stream(&self, stream: usize) -> MutexGuard<'_, u64> {
        self.streams[stream].lock().unwrap()
    }

    pub(crate) fn account(&self, client: usize) -> MutexGuard<'_, Account> {
        self.accounts[client].lock().unwrap()
    }

    /// Notes what has happened to a client.
    pub(crate) fn note(&self, client: usize, what: impl std::fmt::Display) {
        let now = self.now();
        let mut account = self.account(client);
        if account.trail.len() == 40 {
            account.trail.pop_front();
        }
        account.trail.push_back(format!("{now} ms: {what}"));
    }
}

/// The server's side.
impl Ledger {
    /// Emits an event to streams, which must be in ascending order; to all of them but this session.
    pub(crate) fn emit(
        &self,
        to: &[usize],
        except: Option<(usize, &str)>,
        send: impl FnOnce(Mark),
    ) {
        let mut held: Vec<_> = to.iter().map(|stream| self.stream(*stream)).collect();
        let places: Vec<_> = to.iter().copied().zip(held.iter().map(|it| **it)).collect();
        for number in &mut held {
            **number += 1;
        }
        if let Some((client, sid)) = except
            && let Some(session) = self.account(client).sessions.get_mut(sid)
        {
            for (stream, number) in &places {
                let stay = session.stays.get_mut(stream).and_then(VecDeque::back_mut);
                if let Some(stay) = stay.filter(|stay| stay.end.is_none()) {
                    stay.skipped.push_back(*number);
                }
            }
        }
        send(Mark(places, self.now()));
    }

    /// Emits an event to the session that a client has. `send` returns `false` if that was refused.
    pub(crate) fn emit_own(&self, client: usize, send: impl FnOnce(&Socket, Mark) -> bool) {
        let mut account = self.account(client);
        let Some(session) = account.session() else {
            return;
        };
        if let Some(socket) = &session.socket
            && send(socket, Mark(vec![(OWN, session.own_sent)], self.now()))
        {
            session.own_sent += 1;
        }
    }

    /// A session's connect handler: it is a new one.
    pub(crate) fn begun(&self, client: usize, socket: &Socket) {
        let everyone = self.stream(ALL);
        let mut account = self.account(client);
        let sid = socket.id().as_str().to_owned();
        let session = account.sessions.entry(sid).or_default();
        if session.socket.is_some() {
            // The one before, of the same id: it could not be resumed after all.
            *session = Session::default();
        }
        session.socket = Some(socket.clone());
        session.began = self.now();
        session.enter(ALL, *everyone);
        session.enter(OWN, 0);
    }

    /// As [`begun`](Self::begun), of one that was recovered: its socket, and the names of rooms.
    /// Nothing is known if its connection has gone again, or is closed before all was sent that it
    /// has missed: then it has no rooms.
    pub(crate) fn resumed(
        &self,
        client: usize,
        socket: &Socket,
        names: impl Fn(usize) -> String,
    ) -> Result<(), String> {
        // Nobody changes its rooms meanwhile.
        let held: Vec<_> = (0..self.streams.len()).map(|it| self.stream(it)).collect();
        let mut account = self.account(client);
        let sid = socket.id().as_str();
        let Some(session) = account.sessions.get_mut(sid) else {
            // Its client has begun anew.
            return Ok(());
        };
        let has = socket.rooms();
        let owed = session.rooms();
        let is_right = has.len() == owed.len() + 1
            && owed
                .iter()
                .all(|it| has.iter().any(|room| **room == *names(*it)));
        if socket.is_connected() && !has.is_empty() {
            session.socket = Some(socket.clone());
            if !session.is_void && !is_right {
                return Err(format!("{has:?} are its rooms instead of {owed:?}"));
            }
        }
        drop(held);
        Ok(())
    }

    /// How long ago the newest event was emitted that a client has had.
    pub(crate) fn age(&self, client: usize) -> Duration {
        let had = self.account(client).had;
        Duration::from_millis(self.now().saturating_sub(had))
    }

    /// That a session isn't recovered must have a cause: the newest event that its client has had is
    /// older than the log keeps. `true` if the client has stayed away for so long; else it could not
    /// come back in time.
    pub(crate) fn not_recovered(&self, client: usize, kept: Duration) -> Result<bool, String> {
        let age = self.age(client);
        match age >= kept {
            true => Ok(self.account(client).is_away),
            false => Err(format!("not recovered {age:?} after it had had an event")),
        }
    }

    /// Changes whether a session's socket is in a room, unless its connection has gone.
    pub(crate) fn change_room(
        &self,
        client: usize,
        socket: &Socket,
        room: usize,
        name: &str,
    ) -> Change {
        let next = self.stream(room);
        let is_in = || socket.rooms().iter().any(|one| **one == *name);
        let was_in = is_in();
        if !socket.is_connected() {
            return Change::Gone;
        }
        match was_in {
            true => socket.leave(name.to_owned()),
            false => socket.join(name.to_owned()),
        }
        let is_sure = is_in() != was_in && socket.is_connected();
        let mut account = self.account(client);
        let Some(session) = account.sessions.get_mut(socket.id().as_str()) else {
            return Change::Gone;
        };
        match (is_sure, was_in) {
            (false, _) => {
                session.is_void = true;
                Change::Unsure
            }
            (true, true) => {
                session.leave(room, *next);
                Change::Left
            }
            (true, false) => {
                session.enter(room, *next);
                Change::Joined
            }
        }
    }
}

/// The client's side.
impl Ledger {
    /// A client has heard that it is connected, on a connection that it began to open then.
    pub(crate) fn connected(
        &self,
        client: usize,
        sid: &str,
        recovered: bool,
        opened: u64,
    ) -> Result<(), String> {
        let mut account = self.account(client);
        if recovered {
            return match account.sid.as_deref() == Some(sid) {
                true => Ok(()),
                false => Err(format!("recovered as {sid} instead of {:?}", account.sid)),
            };
        }
        account.sid = Some(sid.to_owned());
        account.sessions.retain(|known, _| known == sid);
        let session = account.sessions.entry(sid.to_owned()).or_default();
        if session.is_known {
            // As in `begun`, which is yet to come.
            *session = Session::default();
        }
        session.is_known = true;
        account.had = match session.socket {
            Some(_) => session.began,
            None => opened,
        };
        Ok(())
    }

    /// A client has had an event.
    pub(crate) fn had(&self, client: usize, mark: &Mark) -> Result<(), String> {
        let mut account = self.account(client);
        account.had = account.had.max(mark.1);
        account.is_away = false;
        let Some(session) = account.session() else {
            return Err("an event before the first CONNECT".to_owned());
        };
        if session.is_void {
            return Ok(());
        }
        let mut is_for_it = false;
        for (stream, number) in &mark.0 {
            let taken = session.take(*stream, *number);
            is_for_it |= taken.map_err(|error| format!("{mark:?}, of {stream}: {error}"))?;
        }
        match is_for_it {
            true => Ok(()),
            false => Err(format!("{mark:?} isn't for it, or it had that before")),
        }
    }

    /// What a client still has to get, if anything. Only where nobody emits.
    pub(crate) fn owed(&self, client: usize) -> Option<String> {
        // Streams are asked before an account is held, never the other way round.
        let streams = self.streams.iter().map(|it| *it.lock().unwrap());
        let streams: Vec<_> = streams.collect();
        let mut account = self.account(client);
        let Some(session) = account.session() else {
            return Some("it was never connected".to_owned());
        };
        if session.is_void || session.socket.is_none() {
            return Some("its session has not begun".to_owned());
        }
        let own_sent = session.own_sent;
        for (stream, stays) in &mut session.stays {
            for stay in stays {
                stay.pass_skipped();
                let end = stay.end.unwrap_or_else(|| match *stream {
                    OWN => own_sent,
                    stream => streams[stream],
                });
                if stay.next < end {
                    return Some(format!("{} to {end} of {stream}", stay.next));
                }
            }
        }
        None
    }

    /// A client stays away for longer than the log keeps.
    pub(crate) fn leaves(&self, client: usize) {
        self.account(client).is_away = true;
    }

    /// What a client had is over: it begins anew.
    pub(crate) fn forget(&self, client: usize) {
        let mut account = self.account(client);
        account.sessions.clear();
        account.sid = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session that is in the streams of everyone, of its own, and from 10 to 14 of the room 1
    /// without 12.
    fn ledger() -> Ledger {
        let ledger = Ledger::new(2, 1);
        ledger.connected(0, "a", false, 0).unwrap();
        let mut account = ledger.account(0);
        let session = account.session().unwrap();
        session.enter(ALL, 5);
        session.enter(OWN, 0);
        session.enter(1, 10);
        session.leave(1, 14);
        session.stays.get_mut(&1).unwrap()[0].skipped.push_back(12);
        drop(account);
        ledger
    }

    fn take(ledger: &Ledger, places: &[(usize, u64)]) -> Result<(), String> {
        ledger.had(0, &Mark(places.to_vec(), 0))
    }

    #[test]
    fn what_is_owed_is_taken() {
        let ledger = ledger();
        for number in [10, 11, 13] {
            take(&ledger, &[(1, number)]).unwrap();
        }
        take(&ledger, &[(ALL, 4)]).unwrap();
        take(&ledger, &[(ALL, 5)]).unwrap();
        take(&ledger, &[(OWN, 0)]).unwrap();
    }

    #[test]
    fn one_that_is_lost_is_noticed() {
        assert!(take(&ledger(), &[(1, 11)]).is_err());
        // At the end of a stay, too.
        let ledger = ledger();
        take(&ledger, &[(1, 10)]).unwrap();
        assert!(take(&ledger, &[(ALL, 5), (1, 14)]).is_err());
        let owed = ledger.owed(0);
        assert!(owed.is_some());
    }

    #[test]
    fn one_that_comes_twice_is_noticed() {
        let ledger = ledger();
        for number in [10, 11, 13] {
            take(&ledger, &[(1, number)]).unwrap();
            assert!(take(&ledger, &[(1, number)]).is_err(), "{number}");
        }
    }

    #[test]
    fn one_that_is_for_others_is_noticed() {
        for number in [9, 12, 14] {
            let ledger = ledger();
            assert!(take(&ledger, &[(1, number)]).is_err(), "{number}");
        }
    }

    #[test]
    fn that_a_session_is_not_recovered_needs_a_cause() {
        let ledger = ledger();
        ledger.had(0, &Mark(vec![(OWN, 0)], ledger.now())).unwrap();
        assert!(ledger.not_recovered(0, Duration::from_secs(6)).is_err());
        assert!(ledger.not_recovered(0, Duration::ZERO).is_ok());
    }
}
