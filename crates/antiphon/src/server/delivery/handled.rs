//! Handled once: events that a client sends again until they are acknowledged, as one with the option
//! `retries` does.
//!
//! A namespace owns a [`Handled`] from the first [`handle_once`](crate::Namespace::handle_once) on. An
//! event is known by its name, by the id that is its last argument, and by all its other arguments:
//! so nobody gets another's answer by guessing an id. The first is handled; what comes again gets its
//! answer, also if that is yet to come. So much is remembered: 16,384 events and 16 MiB of answers, for
//! 10 min.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak},
    time::Duration,
};

use antiphon_protocol::socket::{self as codec, Args, OwnedArgs};
use serde::Deserialize;

use crate::server::{
    Rejection, Socket,
    acks::{Respond, Responder},
    handlers::permits,
};
use crate::{engine::Sending, recent::Recent};

/// How long an event is remembered.
const MEMORY: Duration = Duration::from_secs(600);

/// How many events are remembered.
const MOST_EVENTS: usize = 16_384;

/// Bytes of answers that are remembered.
const MOST_BYTES: usize = 16 << 20;

/// Bytes of an id.
const LONGEST_ID: usize = 128;

/// How many wait for one answer: who has asked more often has given up on the first.
const MOST_WAITING: usize = 8;

/// The events of late. Beyond a bound the oldest is forgotten.
pub(crate) struct Handled {
    names: RwLock<BTreeSet<Box<str>>>,
    events: Mutex<Recent<Key, Event>>,
    hasher: RandomState,
}

impl Default for Handled {
    fn default() -> Self {
        Self {
            names: RwLock::default(),
            events: Mutex::new(Recent::new(MOST_EVENTS, MOST_BYTES)),
            hasher: RandomState::new(),
        }
    }
}

/// The id, and a hash of the name and of all arguments. Keyed by this process, so that nobody can look
/// for an event that has the same.
type Key = (Box<str>, u64);

enum Event {
    /// Its handlers run; these wait for its answer.
    Running(Vec<(Socket, u64)>),
    Answered(OwnedArgs),
}

/// What is to be done with an event.
pub(crate) enum Admission {
    /// It is handled, with an answer that is remembered.
    First(Responder),
    /// It has been handled before.
    Again,
    /// It has no id.
    NoId(Rejection),
}

impl Handled {
    /// Events of this name are handled once from now on.
    pub(crate) fn add(&self, event: &str) {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        names.insert(event.into());
    }

    pub(crate) fn has(&self, event: &str) -> bool {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.contains(event)
    }

    fn lock(&self) -> MutexGuard<'_, Recent<Key, Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event has come. One that asks for an acknowledgement has an `ack`.
    pub(crate) fn admit(
        self: &Arc<Self>,
        socket: &Socket,
        ack: Option<u64>,
        event: &str,
        args: &Args<'_>,
    ) -> Admission {
        let Some(id) = id(args) else {
            return Admission::NoId(Rejection::new(
                "no_event_id",
                "the last argument must be the event's id: a text of 1 to 128 bytes",
            ));
        };
        let key = (
            id,
            self.hasher
                .hash_one((event, args.json(), args.attachments())),
        );
        let now = crate::clock::now();
        let mut events = self.lock();
        events.forget_expired(now);
        let answer = match events.get_mut(&key) {
            None => {
                let waiting = ack.map(|ack| (socket.clone(), ack));
                let running = Event::Running(waiting.into_iter().collect());
                events.insert(key.clone(), running, now + MEMORY);
                return Admission::First(Responder::to_caller(Handling {
                    handled: Arc::downgrade(self),
                    key,
                }));
            }
            Some(Event::Running(waiting)) => {
                if let Some(ack) = ack {
                    if waiting.len() == MOST_WAITING {
                        waiting.remove(0);
                    }
                    waiting.push((socket.clone(), ack));
                }
                return Admission::Again;
            }
            Some(Event::Answered(answer)) => answer.clone(),
        };
        drop(events);
        if let Some(ack) = ack {
            acknowledge(socket, ack, &answer);
        }
        Admission::Again
    }

    /// The handlers of an event have answered.
    fn answered(&self, key: &Key, answer: Result<OwnedArgs, Rejection>) {
        let mut events = self.lock();
        let Some(event) = events.get_mut(key) else {
            return;
        };
        let waiting = match (event, &answer) {
            (Event::Answered(_), _) => return,
            (event, Ok(args)) => match std::mem::replace(event, Event::Answered(args.clone())) {
                Event::Running(waiting) => waiting,
                Event::Answered(_) => return,
            },
            (Event::Running(waiting), Err(_)) => std::mem::take(waiting),
        };
        match &answer {
            Ok(args) => events.resize(key, permits::size(&args.as_args())),
            // It may be sent again: no handler has done it.
            Err(_) => events.remove(key),
        }
        drop(events);
        for (socket, ack) in waiting {
            match &answer {
                Ok(args) => acknowledge(&socket, ack, args),
                Err(rejection) => Responder::new(socket, ack).reject(rejection),
            }
        }
    }

    /// The handlers of an event have ended without an answer, and there will be none.
    fn unanswered(&self, key: &Key) {
        let mut events = self.lock();
        if matches!(events.get(key), Some(Event::Running(_))) {
            events.remove(key);
        }
    }
}

/// Who is told what the handlers of an event answer.
struct Handling {
    handled: Weak<Handled>,
    key: Key,
}

impl Respond for Handling {
    fn answer(&self, acknowledged: Result<OwnedArgs, Rejection>) {
        if let Some(handled) = self.handled.upgrade() {
            handled.answered(&self.key, acknowledged);
        }
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        if let Some(handled) = self.handled.upgrade() {
            handled.unanswered(&self.key);
        }
    }
}

fn acknowledge(socket: &Socket, ack: u64, args: &OwnedArgs) {
    let args = args.as_args();
    match codec::ack_from(socket.namespace().name(), ack, args) {
        // A socket that has left has no use for it.
        Ok(message) => drop(socket.send_message(message, Sending::SURE)),
        Err(error) => tracing::error!(%error, "an acknowledgement can't be encoded"),
    }
}

/// The id of an event: its last argument.
fn id(args: &Args<'_>) -> Option<Box<str>> {
    let list = format!("[{}]", args.json());
    let list: Vec<&serde_json::value::RawValue> = serde_json::from_str(&list).ok()?;
    let id = String::deserialize(*list.last()?).ok()?;
    (1..=LONGEST_ID).contains(&id.len()).then(|| id.into())
}
