//! Messages that wait where some of them may still be dropped.
//!
//! They are the end of a queue: from the first message that may be dropped or replaced on, all that
//! follows waits here, whole, until the transport can take it. The queue owns it only while there
//! is something in it. Each message has a number, in the order of which they leave, so that one
//! from the middle is found and taken out without a look at the others.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;

use super::{ConflateKey, QueuePolicy};
use crate::engine::Encoded;

#[derive(Debug, Default)]
pub(super) struct Held {
    messages: BTreeMap<u64, Message>,
    /// Of the message that comes next.
    number: u64,
    /// The one that waits of each key.
    keys: HashMap<ConflateKey, u64>,
    /// Those that may be dropped, the oldest first.
    droppable: VecDeque<u64>,
    packets: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Message {
    encoded: Encoded,
    key: Option<ConflateKey>,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) const fn packets(&self) -> usize {
        self.packets
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// All frames.
    pub(super) fn buffers(&self) -> impl Iterator<Item = &Bytes> {
        let messages = self.messages.values();
        messages.flat_map(|message| message.encoded.buffers())
    }

    /// Puts a message behind the others.
    pub(super) fn push(&mut self, encoded: Encoded, policy: QueuePolicy) {
        let number = self.number;
        self.number += 1;
        let key = match policy {
            QueuePolicy::Conflate(key) => Some(key),
            QueuePolicy::DropOldest => {
                self.droppable.push_back(number);
                None
            }
            QueuePolicy::Close | QueuePolicy::DropNewest => None,
        };
        if let Some(key) = key {
            self.keys.insert(key, number);
        }
        self.packets += encoded.count();
        self.bytes += encoded.len_bytes();
        self.messages.insert(number, Message { encoded, key });
    }

    /// The message that leaves first.
    pub(super) fn pop(&mut self) -> Option<Encoded> {
        let (number, message) = self.messages.pop_first()?;
        if self.droppable.front() == Some(&number) {
            self.droppable.pop_front();
        }
        Some(self.taken(message))
    }

    /// Drops what waits of a key. Returns whether there was something.
    pub(super) fn drop_key(&mut self, key: ConflateKey) -> bool {
        let number = self.keys.get(&key);
        let message = number.and_then(|number| self.messages.remove(number));
        message.map(|message| self.taken(message)).is_some()
    }

    /// Drops the oldest message that may be. Returns whether there was one.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let number = self.droppable.pop_front();
        let message = number.and_then(|number| self.messages.remove(&number));
        message.map(|message| self.taken(message)).is_some()
    }

    fn taken(&mut self, message: Message) -> Encoded {
        if let Some(key) = message.key {
            self.keys.remove(&key);
        }
        self.packets -= message.encoded.count();
        self.bytes -= message.encoded.len_bytes();
        message.encoded
    }
}
