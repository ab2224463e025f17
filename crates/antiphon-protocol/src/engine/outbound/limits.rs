//! The bounds of a queue, and what becomes of a message that finds it full.
//!
//! An application chooses both. A queue beyond its limits belongs to a client that is behind; one
//! beyond what a burst may have is full.

use std::fmt;

use sha1::{Digest as _, Sha1};

/// What may wait in a session's outbound queue.
///
/// There are two bounds. Beyond the limits a client is behind: it is cut if it takes nothing for
/// `ping_timeout`, and messages that [may be dropped](QueuePolicy) are. A client that goes on
/// taking is kept up to [`burst`](Self::burst) times the limits, where it is cut at once: a burst
/// of emits says nothing of its reader yet.
///
/// ```
/// use antiphon_protocol::engine::QueueLimits;
///
/// let limits = QueueLimits::new().packets(1_000).bytes(1 << 20).burst(4);
/// assert_eq!(limits.packets, 1_000);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueLimits {
    /// Packets. An attachment is one; so are small messages or broadcasts of one batch of work that
    /// leave a WebSocket's session side by side, up to 16 KiB together.
    pub packets: usize,
    /// Bytes, frame headers included.
    pub bytes: usize,
    /// How many times as much may wait for a client that goes on taking. 1 (or 0): it is cut at the
    /// limits.
    pub burst: usize,
}

impl QueueLimits {
    /// 16,384 packets, 16 MiB; in a burst 8 times as much: 131,072 packets, 128 MiB.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            packets: 16_384,
            bytes: 16 << 20,
            burst: 8,
        }
    }

    /// So many packets.
    #[must_use]
    pub const fn packets(mut self, count: usize) -> Self {
        self.packets = count;
        self
    }

    /// So many bytes.
    #[must_use]
    pub const fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// So many times as much in a burst.
    #[must_use]
    pub const fn burst(mut self, times: usize) -> Self {
        self.burst = times;
        self
    }

    /// Whether so much is within the limits.
    pub(super) const fn hold(self, packets: usize, bytes: usize) -> bool {
        packets <= self.packets && bytes <= self.bytes
    }

    /// What a burst may have.
    pub(super) const fn of_burst(self) -> Self {
        let times = if self.burst == 0 { 1 } else { self.burst };
        Self {
            packets: self.packets.saturating_mul(times),
            bytes: self.bytes.saturating_mul(times),
            burst: 1,
        }
    }

    /// Half of the limits.
    pub(super) const fn half(self) -> Self {
        Self {
            packets: self.packets / 2,
            bytes: self.bytes / 2,
            burst: self.burst,
        }
    }
}

impl Default for QueueLimits {
    /// Those of [`QueueLimits::new`].
    fn default() -> Self {
        Self::new()
    }
}

/// What becomes of a message for a client that reads slowly.
///
/// A message and its attachments are one: they wait and are dropped together. Of a message that has
/// begun to leave nothing is dropped. Nor is a packet that a client with offsets may ask for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum QueuePolicy {
    /// It waits, and is never dropped. A client that is too far behind is cut.
    #[default]
    Close,
    /// It is dropped if it finds the queue beyond its limits.
    DropNewest,
    /// It waits, and is dropped, the oldest first, where others find the queue beyond its limits.
    DropOldest,
    /// It takes the place of what waits under the same key, whether the queue is full or not, and
    /// leaves in its own turn. Otherwise as [`Close`](Self::Close): the last of each key arrives.
    Conflate(ConflateKey),
}

/// What a message is the newest state of.
///
/// It is made of the namespace and a text of the application's, and has the same 16 bytes on every
/// server: a digest (SHA-1, shortened), so that it is cheap to pass on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConflateKey([u8; 16]);

impl ConflateKey {
    /// The key of this name in this namespace.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        let digest = Sha1::new()
            .chain_update((namespace.len() as u64).to_le_bytes())
            .chain_update(namespace)
            .chain_update(name)
            .finalize();
        Self::shortened(&digest)
    }

    /// What this key of several namespaces together is in one of them: other than in any other.
    #[must_use]
    pub fn within(self, namespace: &str) -> Self {
        let digest = Sha1::new()
            .chain_update(self.0)
            .chain_update(namespace)
            .finalize();
        Self::shortened(&digest)
    }

    fn shortened(digest: &[u8]) -> Self {
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        Self(key)
    }

    /// The key with these bytes, as another server has it.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes, for other servers.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for ConflateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConflateKey({:032x})", u128::from_be_bytes(self.0))
    }
}

/// What became of a message that was sent, and of others for its sake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queued {
    /// The message itself was dropped, as its policy says.
    pub is_dropped: bool,
    /// Older messages that were dropped.
    pub dropped: usize,
    /// Older messages of the same key whose place it took.
    pub conflated: usize,
    /// The queue is beyond its limits.
    pub is_behind: bool,
}

/// The queue has no room: the peer reads more slowly than it is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the outbound queue is full: {packets} packets, {bytes} bytes wait for a slow reader")]
pub struct QueueFull {
    /// Packets that wait.
    pub packets: usize,
    /// Bytes that wait.
    pub bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_to_its_namespace() {
        assert_eq!(ConflateKey::new("/", "a"), ConflateKey::new("/", "a"));
        assert_ne!(ConflateKey::new("/", "ab"), ConflateKey::new("/a", "b"));
    }

    #[test]
    fn a_burst_never_has_less_than_the_limits() {
        let limits = QueueLimits::new();
        assert_eq!(limits.burst(0).of_burst().packets, limits.packets);
        assert_eq!(limits.burst(2).of_burst().bytes, limits.bytes * 2);
        assert_eq!(limits.burst(usize::MAX).of_burst().bytes, usize::MAX);
    }
}
