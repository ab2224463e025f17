//! An event as a log that servers share keeps it.

use std::sync::Arc;

use super::{Delivery, Malformed, Sockets, VERSION, read_event};
use crate::{
    record::{Reader, write, write_bytes, write_event},
    socket::Outgoing,
};

/// An event of a namespace whose log is shared: an entry of that log.
///
/// ```
/// use antiphon_protocol::{
///     cluster::native::Logged,
///     socket::Outgoing,
/// };
///
/// let entry = Logged {
///     from: "server-1".into(),
///     number: 1,
///     at: 1_764_000_000_000,
///     is_local: false,
///     to: Default::default(),
///     delivery: Default::default(),
///     event: Outgoing::event("news", &"it rains")?,
/// };
/// assert_eq!(Logged::decode(&entry.encode())?, entry);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Who has emitted it.
    pub from: Arc<str>,
    /// Its number, among those of the sender: what is appended again is known by that.
    pub number: u64,
    /// When it was emitted, in ms since the epoch of UNIX.
    pub at: u64,
    /// Whether it concerns the sender's own sockets alone.
    pub is_local: bool,
    /// For which sockets it is.
    pub to: Sockets,
    /// How it is to be delivered.
    pub delivery: Delivery,
    /// The event.
    pub event: Outgoing,
}

impl Logged {
    /// The bytes of an entry.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut to = vec![VERSION];
        write_bytes(&mut to, self.from.as_bytes());
        write(&mut to, self.number);
        write(&mut to, self.at);
        to.push(u8::from(self.is_local));
        self.to.write(&mut to);
        self.delivery.write(&mut to);
        write_event(&mut to, &self.event);
        to
    }

    /// An entry from its bytes.
    ///
    /// # Errors
    /// [`Malformed`] if they are none, or what they hold isn't what a server can have appended.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut rest = Reader::new(bytes);
        match rest.byte().ok_or(Malformed::Garbage)? {
            VERSION => {}
            version => return Err(Malformed::Version(version)),
        }
        let entry = Self {
            from: rest.text().ok_or(Malformed::Garbage)?.into(),
            number: rest.number().ok_or(Malformed::Garbage)?,
            at: rest.number().ok_or(Malformed::Garbage)?,
            is_local: match rest.byte() {
                Some(0) => false,
                Some(1) => true,
                _ => return Err(Malformed::Garbage),
            },
            to: Sockets::read(&mut rest)?,
            delivery: Delivery::read(&mut rest)?,
            event: read_event(&mut rest)?,
        };
        match rest.rest().is_empty() {
            true => Ok(entry),
            false => Err(Malformed::Garbage),
        }
    }
}
