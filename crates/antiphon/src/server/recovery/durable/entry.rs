//! Events and sessions as a file has them.
//!
//! Written by the writer, read when a namespace is opened. What can't be read gives `None`; the
//! reader says that something is missing.

use antiphon_protocol::socket::Outgoing;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::server::{
    Room, SocketId, Target,
    recovery::{
        log::{SavedSession, Stay, Stays},
        record::{Reader, write, write_bytes},
    },
};

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
        for rooms in [&self.target.rooms, &self.target.except] {
            write(&mut to, rooms.len() as u64);
            rooms
                .iter()
                .for_each(|room| write_bytes(&mut to, room.as_bytes()));
        }
        let (list, name) = self.event.written();
        write(&mut to, name as u64);
        write_bytes(&mut to, list.as_bytes());
        write(&mut to, self.event.attachments().count() as u64);
        for attachment in self.event.attachments() {
            write_bytes(&mut to, &attachment);
        }
        to
    }

    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        let rooms = self.target.rooms.iter().chain(&self.target.except);
        64 + self.event.len_bytes() + rooms.map(|room| room.len()).sum::<usize>()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (at, target, mut rest) = Self::read_address(bytes)?;
        let name = usize::try_from(rest.number()?).ok()?;
        let list = Bytes::copy_from_slice(rest.bytes()?);
        let attachments = (0..rest.number()?).map(|_| rest.bytes().map(Bytes::copy_from_slice));
        let attachments = attachments.collect::<Option<Vec<_>>>()?;
        let event = Outgoing::from_written(list, name, attachments)?;
        Some(Self { at, target, event })
    }

    /// What an event was for.
    pub(super) fn read_target(bytes: &[u8]) -> Option<Target> {
        Self::read_address(bytes).map(|(_, target, _)| target)
    }

    fn read_address(bytes: &[u8]) -> Option<(u64, Target, Reader<'_>)> {
        let mut rest = Reader(bytes.strip_prefix(&[FORM])?);
        let at = rest.number()?;
        let mut rooms = || {
            let names = (0..rest.number()?)
                .map(|_| Some(Room::from(std::str::from_utf8(rest.bytes()?).ok()?)));
            names.collect::<Option<Vec<_>>>()
        };
        let target = Target {
            rooms: rooms()?,
            except: rooms()?,
        };
        Some((at, target, rest))
    }
}

/// A session of a file, as JSON.
#[derive(Serialize, Deserialize)]
struct Kept {
    id: String,
    came: u64,
    /// Room, after, and upto where it was left.
    stays: Vec<(String, u64, Option<u64>)>,
    known_from: u64,
    data: Map<String, Value>,
}

pub(super) fn write_session(session: &SavedSession) -> Vec<u8> {
    let stays = session.stays.stays.iter();
    let kept = Kept {
        id: session.id.as_str().to_owned(),
        came: session.stays.came,
        stays: stays
            .map(|stay| (stay.room.to_string(), stay.after, stay.upto))
            .collect(),
        known_from: session.stays.known_from,
        data: session.data.clone(),
    };
    // A map with texts as keys can be written.
    serde_json::to_vec(&kept).unwrap_or_default()
}

pub(super) fn read_session(pid: &str, bytes: &[u8]) -> Option<SavedSession> {
    let kept: Kept = serde_json::from_slice(bytes).ok()?;
    let stays = kept.stays.into_iter();
    let stays = stays.map(|(room, after, upto)| Stay {
        room: room.into(),
        after,
        upto,
    });
    Some(SavedSession {
        pid: pid.into(),
        id: SocketId::new(kept.id),
        stays: Stays {
            came: kept.came,
            stays: stays.collect(),
            known_from: kept.known_from,
        },
        data: kept.data,
    })
}
