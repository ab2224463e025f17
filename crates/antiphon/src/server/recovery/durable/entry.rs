//! Events as a file has them: a codec.
//!
//! The writer's thread writes entries; opening a namespace reads them. Of what can't be read the
//! reader gives `None`, and says that something is missing.

use antiphon_protocol::{
    record::{Reader, write, write_event, write_texts},
    socket::Outgoing,
};

use crate::server::Target;

/// The first byte of an event, by which another form could be told from this one.
const FORM: u8 = 1;

/// An event of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// When it was emitted, in ms since the epoch of UNIX.
    pub(super) at: u64,
    pub(super) target: Target,
    pub(super) event: Outgoing,
}

impl Entry {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut to = vec![FORM];
        write(&mut to, self.at);
        write_texts(&mut to, &self.target.rooms);
        write_texts(&mut to, &self.target.except);
        write_event(&mut to, &self.event);
        to
    }

    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        let rooms = self.target.rooms.iter().chain(&self.target.except);
        64 + self.event.len_bytes() + rooms.map(|room| room.len()).sum::<usize>()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (at, target, mut rest) = Self::read_address(bytes)?;
        let event = rest.event()?;
        Some(Self { at, target, event })
    }

    /// What an event was for.
    pub(super) fn read_target(bytes: &[u8]) -> Option<Target> {
        Self::read_address(bytes).map(|(_, target, _)| target)
    }

    fn read_address(bytes: &[u8]) -> Option<(u64, Target, Reader<'_>)> {
        let mut rest = Reader::new(bytes.strip_prefix(&[FORM])?);
        let at = rest.number()?;
        let target = Target {
            rooms: rest.texts()?,
            except: rest.texts()?,
        };
        Some((at, target, rest))
    }
}
