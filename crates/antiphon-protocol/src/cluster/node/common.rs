//! What the messages of all of Node's adapters have in common: packets, flags, lists of sockets.

use std::cell::Cell;
use std::time::Duration;

use super::value::{Value, id, need, some};
use super::{Flags, MOST_ENTRIES, Malformed, SocketDetails};
use crate::socket::{Limits, Outgoing, OwnedArgs};

/// The types of packets that are events. The second one, with binary values, is written by old
/// emitters.
const EVENT: u64 = 2;
const BINARY_EVENT: u64 = 5;

/// A packet that is broadcast: where its parts stand.
pub(super) struct Packet<'a> {
    data: Value<'a>,
    namespace: Option<Value<'a>>,
}

impl<'a> Packet<'a> {
    pub(super) fn of(packet: Option<Value<'a>>) -> Result<Self, Malformed> {
        let packet = need(packet, "packet", "an object")?;
        let [kind, data, namespace] = packet.fields("packet", ["type", "data", "nsp"])?;
        match kind.and_then(Value::integer) {
            Some(EVENT | BINARY_EVENT) => Ok(Self {
                data: need(data, "packet.data", "an array")?,
                namespace: some(namespace),
            }),
            _ => Err(Malformed::Field {
                field: "packet.type",
                expected: "the type of an event",
            }),
        }
    }

    /// Whether it is for this namespace. Without one it is for the main namespace.
    pub(super) fn is_for(&self, namespace: &str) -> bool {
        match self.namespace {
            Some(found) => found.text().is_some_and(|found| found == namespace),
            None => namespace == "/",
        }
    }

    pub(super) fn event(&self, limits: &Limits) -> Result<Outgoing, Malformed> {
        self.data.event(limits)
    }
}

/// The flags of a broadcast. What they don't say, or say in a way that Node doesn't, isn't set.
pub(super) fn flags(flags: Option<Value<'_>>) -> Result<Flags, Malformed> {
    let Some(flags) = flags else {
        return Ok(Flags::new());
    };
    let [volatile, compress, timeout] =
        flags.fields("flags", ["volatile", "compress", "timeout"])?;
    let timeout = timeout
        .and_then(Value::number)
        .and_then(|millis| Duration::try_from_secs_f64(millis / 1000.0).ok());
    Ok(Flags::new()
        .volatile(volatile.is_some_and(Value::is_true))
        .compress(some(compress).map(Value::is_true))
        .timeout(timeout))
}

/// The value that a field holds, as the one argument, or none if it is missing.
pub(super) fn argument(value: Option<Value<'_>>, limits: &Limits) -> Result<OwnedArgs, Malformed> {
    value.map_or_else(|| Ok(OwnedArgs::default()), |value| value.argument(limits))
}

/// The sockets that another server has found, with so many rooms altogether as one list may have.
pub(super) fn sockets(list: Value<'_>, limits: &Limits) -> Result<Vec<SocketDetails>, Malformed> {
    let entries = Cell::new(0);
    let limit = MOST_ENTRIES;
    list.elements("sockets", |socket| {
        let [name, handshake, rooms, data] =
            socket.fields("sockets", ["id", "handshake", "rooms", "data"])?;
        let rooms = need(some(rooms), "sockets.rooms", "an array")?;
        let rooms = rooms.rooms("sockets.rooms")?;
        entries.set(entries.get() + 1 + rooms.len());
        if entries.get() > limit {
            let field = "sockets";
            return Err(Malformed::TooMany { field, limit });
        }
        Ok(SocketDetails {
            id: id(need(name, "sockets.id", "a string")?, "sockets.id")?,
            handshake: argument(handshake, limits)?,
            rooms,
            data: argument(data, limits)?,
        })
    })
}
