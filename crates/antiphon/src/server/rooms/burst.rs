//! Bursts: broadcasts to the same sockets, one behind the other in one batch of work.
//!
//! The packets of a burst go into a [`Bundle`]: from the second on each costs one append, however many
//! sockets there are. Where sockets join, leave or are sent something else in between, the bundle has
//! been sealed or isn't continued, and the next broadcast begins another, so that everyone gets what
//! they would have got, in the same order.

use std::sync::Arc;

use antiphon_protocol::socket::EncodedMessage;

use crate::engine::{Bundle, session::turn};
use crate::server::{Socket, Target, rooms::Rooms};

/// The latest broadcast of a batch of work, and what may follow it.
pub(crate) struct Burst {
    rooms: Arc<Rooms>,
    target: Target,
    bundle: Option<Open>,
}

/// A bundle that may be continued.
struct Open {
    bundle: Arc<Bundle>,
    /// The version of the memberships for which the bundle has been handed out.
    version: u64,
    /// Those of the target that can't take it.
    others: Vec<Socket>,
}

impl Burst {
    /// A burst that begins.
    pub(crate) fn begin(rooms: &Arc<Rooms>, target: &Target) -> Box<Self> {
        Box::new(Self {
            rooms: Arc::clone(rooms),
            target: target.clone(),
            bundle: None,
        })
    }

    /// The latest of this batch of work, if it was to the same sockets.
    pub(crate) fn resume(rooms: &Arc<Rooms>, target: &Target) -> Option<Box<Self>> {
        let latest: Box<Self> = turn::take()?;
        (Arc::ptr_eq(&latest.rooms, rooms) && latest.target == *target).then_some(latest)
    }

    /// The next broadcast of this batch of work may follow.
    pub(crate) fn keep(self: Box<Self>) {
        turn::keep(self);
    }

    /// Sends another packet, to all sockets that can take bundles; the others are given to `each`.
    /// Returns `false` if it is too large for one.
    pub(crate) fn send(&mut self, packet: &EncodedMessage, mut each: impl FnMut(&Socket)) -> bool {
        if let Some(open) = &self.bundle {
            // Within the same look at the memberships: nobody gets it who has left meanwhile.
            let appended = self.rooms.while_at(open.version, || {
                let appended = open.bundle.append(packet.packets());
                if appended {
                    open.others.iter().for_each(&mut each);
                }
                appended
            });
            if appended {
                return true;
            }
        }
        let Some(bundle) = Bundle::new(packet.packets()).map(Arc::new) else {
            self.bundle = None;
            return false;
        };
        let mut others = Vec::new();
        let version = self.rooms.for_each(&self.target, |socket| {
            if socket.is_connected() && !socket.session().push_bundle(&bundle) {
                each(socket);
                others.push(socket.clone());
            }
        });
        self.bundle = Some(Open {
            bundle,
            version,
            others,
        });
        true
    }
}
