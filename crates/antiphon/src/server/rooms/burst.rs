//! Bursts: broadcasts to the same sockets, one behind the other in one batch of work.
//!
//! The packets of a burst go into a [`Bundle`]: from the second on each costs one append for each
//! form, however many sockets there are. Where sockets join, leave or are sent something else in
//! between, the bundle has been sealed or isn't continued, and the next broadcast begins another,
//! so that everyone gets what they would have got, in the same order.

use std::sync::Arc;

use antiphon_protocol::{engine::Bundle, socket::Fanout};

use crate::{
    engine::{Sending, Sent, session::turn},
    server::{Socket, Target, rooms::Rooms},
};

/// Sends a message to all sockets of the target. One that can't take it has been counted and logged.
pub(crate) fn send(
    rooms: &Arc<Rooms>,
    target: &Target,
    message: &mut Fanout<'_>,
    sending: Sending,
) {
    match sending {
        Sending::SURE => Burst::send(rooms, target, message),
        // Each may take it or not.
        _ => {
            rooms.send_each(target, |socket| drop(socket.send_packet(message, sending)));
        }
    }
}

/// The latest broadcast of a batch of work, and what may follow it.
struct Burst {
    rooms: Arc<Rooms>,
    target: Target,
    bundle: Arc<Bundle>,
    /// The version of the memberships for which the bundle has been handed out.
    version: u64,
    /// Those of the target that don't share it.
    others: Vec<Socket>,
}

impl Burst {
    /// Sends a message to all sockets of the target. The next of this batch of work may follow.
    fn send(rooms: &Arc<Rooms>, target: &Target, message: &mut Fanout<'_>) {
        let latest: Option<Box<Self>> = turn::take();
        let latest = latest.filter(|it| Arc::ptr_eq(&it.rooms, rooms) && it.target == *target);
        let burst = match latest {
            Some(latest) if latest.append(message) => Some(latest),
            _ => Self::begin(rooms, target, message),
        };
        if let Some(burst) = burst {
            turn::keep(burst);
        }
    }

    /// Appends a message. Returns `false` if it is not to follow: nothing has been sent.
    fn append(&self, message: &mut Fanout<'_>) -> bool {
        // Within the same look at the memberships: nobody gets it who has left meanwhile.
        self.rooms.while_at(self.version, || {
            let appended = self.bundle.append(message);
            if appended {
                for socket in &self.others {
                    send_to_one(socket, message);
                }
            }
            appended
        })
    }

    /// Begins with a message. Returns `None` if it is too large to be followed.
    fn begin(rooms: &Arc<Rooms>, target: &Target, message: &mut Fanout<'_>) -> Option<Box<Self>> {
        let bundle = message.begin_bundle();
        let mut others = Vec::new();
        let version = rooms.send_each(target, |socket| {
            if send_to_one(socket, message) != Some(Sent::Shared) && bundle.is_some() {
                others.push(socket.clone());
            }
        });
        bundle.map(|bundle| {
            Box::new(Self {
                rooms: Arc::clone(rooms),
                target: target.clone(),
                bundle,
                version,
                others,
            })
        })
    }
}

/// Sends it to one. A socket that can't take it has been counted and logged.
fn send_to_one(socket: &Socket, message: &mut Fanout<'_>) -> Option<Sent> {
    socket.send_packet(message, Sending::SURE).ok()
}
