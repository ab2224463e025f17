//! What the reading and the writing side of one connection have in common.
//!
//! The session owns a [`Common`] while it runs, and lends it to both sides. The writer notes a
//! [`Fence`] for each write before it is written; what is read tells here what the server has taken,
//! refused or published. What ends the connection is an [`Error`].

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};

use antiphon_cluster::broker::{Inbox, Size};
use tokio::{sync::Notify, time::Instant};

use crate::{
    entries,
    error::{Complaint, Error},
    replies::Replies,
    shared::Shared,
    subject::Subject,
    wire::{Message, Op},
};

/// So many writes may be unanswered.
const UNANSWERED: usize = 16;

/// The subscription to responses. Those of topics begin with 1.
pub(super) const RESPONSES: u64 = 0;

/// What reading and writing have in common.
pub(super) struct Common<'s> {
    pub(super) shared: &'s Shared,
    pub(super) inbox: &'s Inbox,
    pub(super) address: &'s str,
    pub(super) subscriptions: Mutex<HashMap<u64, (Subject, Arc<str>)>>,
    pub(super) fences: Mutex<Fences>,
    /// There is room for another fence.
    pub(super) answered: Notify,
    /// The server wants to know whether we are there.
    pub(super) asks: AtomicBool,
    pub(super) asked: Notify,
    /// Frames that the user may not publish.
    refused: Mutex<u64>,
    pub(super) replies: Replies,
}

pub(super) struct Fences {
    pub(super) waiting: VecDeque<Fence>,
    /// When the server answered last.
    pub(super) heard: Instant,
}

/// What holds when the server answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fence {
    pub(super) since: Instant,
    /// So much has been published.
    pub(super) sent: Size,
    /// What is wanted as of this version is subscribed to.
    pub(super) version: Option<u64>,
}

impl<'s> Common<'s> {
    pub(super) fn new(
        shared: &'s Shared,
        inbox: &'s Inbox,
        address: &'s str,
        replies: Replies,
    ) -> Self {
        Self {
            shared,
            inbox,
            address,
            subscriptions: Mutex::default(),
            fences: Mutex::new(Fences {
                waiting: VecDeque::new(),
                heard: Instant::now(),
            }),
            answered: Notify::new(),
            asks: AtomicBool::new(false),
            asked: Notify::new(),
            refused: Mutex::new(0),
            replies,
        }
    }
}

impl Common<'_> {
    pub(super) fn fences(&self) -> MutexGuard<'_, Fences> {
        self.fences.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn subscriptions(&self) -> MutexGuard<'_, HashMap<u64, (Subject, Arc<str>)>> {
        let subscriptions = self.subscriptions.lock();
        subscriptions.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn message(&self, message: Message) -> Result<(), Error> {
        if message.sid == RESPONSES {
            self.replies.came(message, self.inbox, self.address)?;
            self.answered.notify_one();
            return Ok(());
        }
        // One that has just been given up is known to the server yet.
        let Some((subject, topic)) = self.subscriptions().get(&message.sid).cloned() else {
            return Ok(());
        };
        let place = match message.headers.is_empty() {
            true => None,
            false => entries::heard(&topic, &message),
        };
        let mut frame = subject.frame(&topic, message.payload);
        if let Some(place) = place {
            frame = Some(entries::placed(place, frame).encode());
        }
        if let Some(frame) = frame {
            self.inbox.frame(topic, frame);
        }
        Ok(())
    }

    /// The oldest write has been answered.
    pub(super) fn pong(&self) {
        let fence = {
            let mut fences = self.fences();
            fences.heard = Instant::now();
            fences.waiting.pop_front()
        };
        self.answered.notify_one();
        let Some(fence) = fence else { return };
        self.shared.line.queue().done(fence.sent);
        if let Some(version) = fence.version {
            self.inbox.subscribed(version);
            self.shared.line.up(self.inbox);
        }
    }

    /// The server says what is wrong. Most of it ends the connection.
    pub(super) fn complains(&self, op: &Op) -> Result<(), Error> {
        let error = complaint(self.shared, self.address, op);
        let Op::Error(text) = op else {
            return Err(error);
        };
        match Complaint::of(text) {
            Complaint::Publish(subject)
                if self
                    .replies
                    .forbidden(subject, &error.to_string(), self.inbox) =>
            {
                Ok(())
            }
            Complaint::Publish(subject) if subject != self.shared.subjects.probe() => {
                self.inbox.lost(1);
                let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                *refused += 1;
                // The first of many says what is to be said, and then each time that they have
                // doubled.
                if refused.is_power_of_two() {
                    tracing::warn!(refused = *refused, "NATS refused frames: {error}");
                }
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Resolves when another write may be made.
    pub(super) async fn room(&self) {
        while self.fences().waiting.len() >= UNANSWERED || !self.replies.has_room() {
            self.answered.notified().await;
        }
    }
}

/// What an operation means that ends the connection.
pub(super) fn complaint(shared: &Shared, address: &str, op: &Op) -> Error {
    let address = address.to_owned();
    let Op::Error(answer) = op else {
        let answer = "something out of turn".to_owned();
        return Error::NotNats { address, answer };
    };
    let answer = answer.clone();
    match Complaint::of(&answer) {
        Complaint::Login => Error::Login { address, answer },
        Complaint::Publish(subject) if subject.starts_with("$JS.") => Error::ForbiddenJetStream {
            address,
            answer: answer.clone(),
            subjects: shared.subjects.all(),
        },
        Complaint::Publish(_) | Complaint::Subscription => Error::Forbidden {
            address,
            answer,
            subjects: shared.subjects.all(),
        },
        Complaint::Other => Error::Other { address, answer },
    }
}
