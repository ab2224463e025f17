//! One namespace on this server, as other servers speak to it.
//!
//! Its adapter owns a [`Namespace`], and the router holds it weakly: what others say comes by
//! [`heard`](Namespace::heard), and what they ask by [`asked`](Namespace::asked). Both are done on
//! [`Local`] alone, or, with a shared log, given to that. It knows neither the router nor the adapter.

use std::{fmt, sync::Arc, time::Duration};

use antiphon::{
    Target,
    adapter::{Answers, Flags, Local, Outgoing, OwnedArgs},
};
use antiphon_protocol::cluster::native::{Asked, Message, Reply};
use tokio::sync::mpsc;

use crate::{log::Shared, message};

/// About so many bytes of sockets are told in one frame.
const FOUND: usize = 64 * 1_024;

/// One namespace on this server.
pub(crate) struct Namespace {
    pub(crate) name: Arc<str>,
    pub(crate) local: Local,
    /// What carries its logged events, if it is shared.
    pub(crate) log: Option<Arc<Shared>>,
}

impl Namespace {
    /// Whether an event is carried by the shared log.
    pub(crate) fn logs(&self, flags: Flags) -> Option<&Arc<Shared>> {
        let log = self.log.as_ref();
        log.filter(|_| !flags.volatile && flags.at_least_once.is_none())
    }

    /// Gives what a server has emitted to this parent to the logs that its children share. Returns
    /// whether there are any.
    pub(crate) fn append_once(
        &self,
        from: &str,
        number: u64,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
    ) -> bool {
        // What the server emits to a child itself has other numbers.
        let sender = format!("{from}{}", self.name);
        self.local
            .append_once(event, target, flags, (&sender, number))
    }

    /// Delivers what is emitted to this parent, but for what the logs of its children deliver.
    pub(crate) fn broadcast_to_children(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
        is_logged: bool,
    ) {
        match is_logged {
            true => self.local.broadcast_beside_logs(event, target, flags),
            false => self.local.broadcast(event, target, flags),
        }
    }

    /// Another server has said something about this namespace.
    pub(crate) fn heard(&self, from: &str, message: Message) {
        let local = &self.local;
        match message {
            Message::Broadcast {
                to,
                delivery,
                event,
                number,
            } => {
                let (target, mut flags) = (message::target(to), message::flags(delivery));
                if local.is_parent() {
                    let is_logged = self.append_once(from, number, &event, &target, flags);
                    return self.broadcast_to_children(&event, &target, flags, is_logged);
                }
                match self.logs(flags) {
                    None => local.broadcast(&event, &target, flags),
                    Some(log) if number > 0 => log.emitted(from, number, &event, &target, flags),
                    Some(_) => {
                        // Its sender doesn't share the log, and others get it, too: it can't be in it.
                        flags.volatile = true;
                        local.broadcast(&event, &target, flags);
                    }
                }
            }
            Message::Join { who, rooms } => local.join(&message::target(who), &rooms),
            Message::Leave { who, rooms } => local.leave(&message::target(who), &rooms),
            Message::Disconnect { who, close } => local.disconnect(&message::target(who), close),
            Message::Emit { event } => {
                tokio::spawn(local.server_side_emit(&event));
            }
            // What concerns the server itself is the router's.
            _ => {}
        }
    }

    /// Another server asks something. Its replies are numbered, in the order of the channel.
    pub(crate) fn asked(&self, what: Asked, time: Duration, replies: mpsc::UnboundedSender<Reply>) {
        let reply = move |reply| {
            // The task that sends them reads until this end is dropped.
            let _ = replies.send(reply);
        };
        match what {
            Asked::Acks {
                to,
                delivery,
                event,
            } => {
                let (answers, mut answered) = Answers::channel(time);
                let (to, flags) = (message::target(to), message::flags(delivery));
                let count = self.local.broadcast_with_ack(&event, &to, flags, &answers);
                drop(answers);
                reply(Reply::Count(count as u64));
                tokio::spawn(async move {
                    while let Some((socket, args)) = answered.next().await {
                        let socket = socket.as_str().into();
                        reply(Reply::Ack { socket, args });
                    }
                });
            }
            Asked::Fetch { who } => {
                let found = self.local.fetch(&message::target(who));
                message::found(found, FOUND).into_iter().for_each(reply);
            }
            Asked::Handle { event } => {
                let handled = self.local.server_side_emit(&event);
                tokio::spawn(async move {
                    let answer: Option<OwnedArgs> = handled.await;
                    answer.into_iter().map(Reply::Handled).for_each(reply);
                });
            }
        }
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
