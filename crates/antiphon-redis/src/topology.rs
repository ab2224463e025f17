//! Which node of a Redis Cluster has which slots, as one of them says.
//!
//! Without I/O: a reply to `CLUSTER SLOTS` comes in, and the node that has a key or a sharded channel
//! is asked for. A node may not know yet what has changed, so what is said here can be old: the node
//! that is wrongly asked answers `MOVED`.

use std::{collections::BTreeSet, fmt, sync::Arc};

use redis::Value;

/// So many slots a Redis Cluster has.
const SLOTS: u16 = 16_384;

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address {
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Which node has which slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topology {
    /// In the order of their slots.
    ranges: Vec<Range>,
    replicas: BTreeSet<Address>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    master: Address,
}

impl Topology {
    /// What a node has answered to `CLUSTER SLOTS`. A node that doesn't know its own address is at the
    /// host that was `asked`. What isn't understood is left out: its slots have no master.
    pub(crate) fn parse(reply: &Value, asked: &str) -> Self {
        let mut topology = Self {
            ranges: Vec::new(),
            replicas: BTreeSet::new(),
        };
        let Value::Array(ranges) = reply else {
            return topology;
        };
        for range in ranges {
            let Value::Array(parts) = range else {
                continue;
            };
            let [first, last, master, replicas @ ..] = parts.as_slice() else {
                continue;
            };
            if let (Some(first), Some(last), Some(master)) =
                (number(first), number(last), address(master, asked))
                && first <= last
                && last < SLOTS
            {
                topology.ranges.push(Range {
                    first,
                    last,
                    master,
                });
            }
            let replicas = replicas.iter().filter_map(|node| address(node, asked));
            topology.replicas.extend(replicas);
        }
        topology.ranges.sort_by_key(|range| range.first);
        topology
    }

    /// The node that has a key, or a sharded channel. Returns `None` if no node has its slot.
    pub(crate) fn master_of(&self, key: &str) -> Option<&Address> {
        let slot = slot(key.as_bytes());
        let next = self.ranges.partition_point(|range| range.first <= slot);
        let range = self.ranges.get(next.checked_sub(1)?)?;
        (slot <= range.last).then_some(&range.master)
    }

    /// The nodes that have slots, each once.
    pub(crate) fn masters(&self) -> BTreeSet<&Address> {
        self.ranges.iter().map(|range| &range.master).collect()
    }

    /// The nodes that follow a master.
    pub(crate) const fn replicas(&self) -> &BTreeSet<Address> {
        &self.replicas
    }

    /// So many slots no node has.
    pub(crate) fn uncovered(&self) -> usize {
        let covered = self.ranges.iter();
        let covered = covered.map(|range| usize::from(range.last - range.first) + 1);
        usize::from(SLOTS).saturating_sub(covered.sum())
    }
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    }
}

/// The address of a node: its host, or nothing if it doesn't know its own, and its port.
fn address(node: &Value, asked: &str) -> Option<Address> {
    let Value::Array(parts) = node else {
        return None;
    };
    let [host, port, ..] = parts.as_slice() else {
        return None;
    };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        Value::Nil => "",
        _ => return None,
    };
    // "?" stands for a host name that a node hasn't been told.
    let host = if matches!(host, "" | "?") {
        asked
    } else {
        host
    };
    Some(Address {
        host: host.into(),
        port: number(port)?,
    })
}

/// The slot of a key or a channel: the CRC of what stands between its first `{` and the next `}`, if
/// there is something, or of all of it (Redis Cluster specification, "Hash tags").
fn slot(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')?;
        let behind = key.get(open + 1..)?;
        let length = behind.iter().position(|byte| *byte == b'}')?;
        behind.get(..length).filter(|tag| !tag.is_empty())
    };
    crc(tag().unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM.
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc: u16, _| {
            let polynomial = if crc & 0x8000 == 0 { 0 } else { 0x1021 };
            (crc << 1) ^ polynomial
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn node(host: Value, port: i64) -> Value {
        Value::Array(vec![
            host,
            Value::Int(port),
            text("id"),
            Value::Array(vec![]),
        ])
    }

    fn range(first: i64, last: i64, nodes: &[Value]) -> Value {
        let slots = [Value::Int(first), Value::Int(last)];
        Value::Array(slots.into_iter().chain(nodes.iter().cloned()).collect())
    }

    fn at(host: &str, port: u16) -> Address {
        let host = host.into();
        Address { host, port }
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc(b"123456789"), 0x31c3);
        for (key, expected) in [
            ("foo", 12_182),
            ("bar", 5_061),
            ("", 0),
            ("somekey", 11_058),
        ] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn the_first_tag_that_says_something_counts() {
        for (one, other) in [
            ("{user1000}.following", "user1000"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{bar}{zap}", "bar"),
            ("a:{106}log:/:state", "a:{106}log:/"),
        ] {
            assert_eq!(slot(one.as_bytes()), slot(other.as_bytes()), "{one}");
        }
        // An empty tag is none.
        let whole = "foo{}{bar}";
        assert_eq!(slot(whole.as_bytes()), crc(whole.as_bytes()) % SLOTS);
    }

    #[test]
    fn each_slot_has_its_master_and_what_nobody_has_is_counted() {
        let reply = Value::Array(vec![
            range(8_192, 16_000, &[node(text("10.0.0.2"), 7_000)]),
            range(
                0,
                8_191,
                &[node(text("10.0.0.1"), 7_000), node(text("10.0.0.3"), 7_001)],
            ),
        ]);
        let topology = Topology::parse(&reply, "asked");
        // Slots 12182 and 5061.
        assert_eq!(topology.master_of("foo"), Some(&at("10.0.0.2", 7_000)));
        assert_eq!(topology.master_of("bar"), Some(&at("10.0.0.1", 7_000)));
        assert_eq!(topology.uncovered(), 383);
        let nobody = (0..)
            .map(|n| n.to_string())
            .find(|key| slot(key.as_bytes()) > 16_000);
        assert_eq!(topology.master_of(&nobody.unwrap()), None);
        assert_eq!(topology.masters().len(), 2);
        assert!(topology.replicas().iter().eq([&at("10.0.0.3", 7_001)]));
    }

    #[test]
    fn a_node_that_doesnt_know_its_host_is_where_it_was_asked() {
        for host in [Value::Nil, text(""), text("?")] {
            let reply = Value::Array(vec![range(0, 16_383, &[node(host, 7_000)])]);
            let topology = Topology::parse(&reply, "asked");
            assert_eq!(topology.master_of("any"), Some(&at("asked", 7_000)));
            assert_eq!(topology.uncovered(), 0);
        }
    }

    proptest! {
        #[test]
        fn whatever_a_node_says_is_a_topology(
            ranges in prop::collection::vec((any::<i64>(), any::<i64>(), any::<i64>()), 0..8),
            key in ".*",
        ) {
            let ranges = ranges
                .into_iter()
                .map(|(first, last, port)| range(first, last, &[node(text("h"), port)]));
            let topology = Topology::parse(&Value::Array(ranges.collect()), "asked");
            let _ = (topology.master_of(&key), topology.uncovered());
        }
    }
}
