//! For which sockets an event is, and how it is to be delivered.

use std::time::Duration;

use super::{Malformed, Sockets, read_time, write_time};
use crate::{
    engine::{ConflateKey, QueuePolicy},
    record::{Reader, write_texts},
};

/// How an event is to be delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Receivers that can't take it at once don't get it.
    pub volatile: bool,
    /// Who joins one of the rooms later gets it.
    pub retain: bool,
    /// What becomes of it for receivers that read slowly, if the event says so.
    pub policy: Option<QueuePolicy>,
    /// It is kept until it is acknowledged, and sent again after this pause, in ms.
    pub at_least_once: Option<Duration>,
}

// The bits of a delivery.
const VOLATILE: u8 = 1;
const RETAIN: u8 = 2;
const AT_LEAST_ONCE: u8 = 4;
/// What begins here is the number of the policy.
const POLICY: u8 = 3;

impl Sockets {
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        write_texts(to, &self.rooms);
        write_texts(to, &self.except);
    }

    pub(super) fn read(rest: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut texts = || rest.texts().ok_or(Malformed::Garbage);
        Ok(Self {
            rooms: texts()?,
            except: texts()?,
        })
    }
}

impl Delivery {
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        let mut bits = 0;
        for (is_set, bit) in [
            (self.volatile, VOLATILE),
            (self.retain, RETAIN),
            (self.at_least_once.is_some(), AT_LEAST_ONCE),
        ] {
            bits |= if is_set { bit } else { 0 };
        }
        let policy = match self.policy {
            None => 0,
            Some(QueuePolicy::Close) => 1,
            Some(QueuePolicy::DropNewest) => 2,
            Some(QueuePolicy::DropOldest) => 3,
            Some(QueuePolicy::Conflate(_)) => 4,
        };
        to.push(bits | policy << POLICY);
        if let Some(QueuePolicy::Conflate(key)) = self.policy {
            to.extend_from_slice(key.as_bytes());
        }
        if let Some(pause) = self.at_least_once {
            write_time(to, pause);
        }
    }

    pub(super) fn read(rest: &mut Reader<'_>) -> Result<Self, Malformed> {
        let bits = rest.byte().ok_or(Malformed::Garbage)?;
        let policy = match bits >> POLICY {
            0 => None,
            1 => Some(QueuePolicy::Close),
            2 => Some(QueuePolicy::DropNewest),
            3 => Some(QueuePolicy::DropOldest),
            4 => {
                let key = rest.array().ok_or(Malformed::Garbage)?;
                Some(QueuePolicy::Conflate(ConflateKey::from_bytes(key)))
            }
            _ => return Err(Malformed::Garbage),
        };
        let pause = (bits & AT_LEAST_ONCE != 0).then(|| read_time(rest));
        Ok(Self {
            volatile: bits & VOLATILE != 0,
            retain: bits & RETAIN != 0,
            policy,
            at_least_once: pause.transpose()?,
        })
    }
}
