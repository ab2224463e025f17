//! How a session goes from the server that has it to the one that its client has come to.
//!
//! The one asks by a frame to the other's inbox; that one ends the session's socket, if it is
//! connected, and says what the session is. The router and the logs own what is waited for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use antiphon::{
    adapter::{Local, NodeId},
    recovery::LogError,
};
use antiphon_protocol::cluster::native::{Handed, Message};
use tokio::sync::oneshot;

use crate::member::Member;

/// So long a server may take to hand a session over: as long as its socket takes to end.
const TIME: Duration = Duration::from_secs(2);

/// Sessions that other servers were asked for.
pub(crate) struct HandingOver {
    member: Arc<Member>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    waiting: HashMap<u64, oneshot::Sender<Handed>>,
}

impl HandingOver {
    pub(crate) fn new(member: &Arc<Member>) -> Self {
        Self {
            member: Arc::clone(member),
            state: Mutex::default(),
        }
    }

    pub(super) const fn member(&self) -> &Arc<Member> {
        &self.member
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self) -> (u64, oneshot::Receiver<Handed>) {
        let (answer, waits) = oneshot::channel();
        let mut state = self.state();
        state.next += 1;
        let question = state.next;
        state.waiting.insert(question, answer);
        (question, waits)
    }

    /// Asks another server for a session that it has, for a client that came at this time. `None`: it
    /// doesn't answer.
    pub(super) async fn hand_over(
        &self,
        owner: &NodeId,
        namespace: &Arc<str>,
        pid: &Arc<str>,
        came: Instant,
    ) -> Option<Handed> {
        let (question, answer) = self.ask();
        let inbox = self.member.topics.inbox(owner.as_str());
        let message = Message::HandOver {
            question,
            waited: came.elapsed(),
            pid: Arc::clone(pid),
        };
        let asked = self.member.publish(&inbox, namespace, message);
        let answer = match asked {
            Ok(()) => tokio::time::timeout(TIME, answer).await.ok(),
            Err(_) => None,
        };
        self.state().waiting.remove(&question);
        answer?.ok()
    }

    /// A server has said what was asked for.
    pub(crate) fn answered(&self, question: u64, session: Handed) {
        if let Some(waits) = self.state().waiting.remove(&question) {
            // It may have waited for too long.
            let _ = waits.send(session);
        }
    }

    /// Another server wants a session of this one, where the namespace has these sockets, if it is here.
    pub(crate) fn gives_up(
        &self,
        local: Option<&Local>,
        (from, question): (&NodeId, u64),
        namespace: &Arc<str>,
        waited: Duration,
        pid: &str,
    ) {
        let gives = local.map(|local| local.hand_over(pid, waited));
        let (member, namespace) = (Arc::downgrade(&self.member), Arc::clone(namespace));
        let inbox = self.member.topics.inbox(from.as_str());
        self.member.link.runtime.spawn(async move {
            let session = match gives {
                Some(gives) => match gives.await {
                    Ok(session) => Handed::Over(session.to_json().into()),
                    Err(LogError::Elsewhere) => Handed::Elsewhere,
                    Err(_) => Handed::Unknown,
                },
                None => Handed::Unknown,
            };
            let message = Message::HandedOver { question, session };
            // The other takes what was saved, if it can't be told.
            let _ = member.upgrade()?.publish(&inbox, &namespace, message);
            Some(())
        });
    }
}
