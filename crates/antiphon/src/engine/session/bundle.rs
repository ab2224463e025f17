//! A bundle: frames that leave several sessions side by side, put together once for all of them.
//!
//! While it is the last thing that waits in its sessions, more can be appended, at the cost of one
//! append however many sessions there are. `Session::lock` seals it first:
//! nothing is appended behind what has been looked at or followed by something else.

use std::sync::{Mutex, PoisonError};

use antiphon_protocol::engine::EncodedPacket;
use bytes::Bytes;

/// The most bytes that may wait behind a session's queue, in a bundle or in frames of its own.
pub(crate) const LARGEST: usize = 16 << 10;

/// Frames for several sessions: WebSockets of revision 4.
pub(crate) struct Bundle(Mutex<Frames>);

enum Frames {
    /// More may come.
    Open(Vec<u8>),
    Sealed(Bytes),
}

impl Bundle {
    /// A bundle that begins with these packets. Returns `None` if they are too large for one.
    pub(crate) fn new<'p>(
        packets: impl Iterator<Item = &'p EncodedPacket> + Clone,
    ) -> Option<Self> {
        let bundle = Self(Mutex::new(Frames::Open(Vec::new())));
        bundle.append(packets).then_some(bundle)
    }

    /// Appends the packets of one message. Returns `false` if it is sealed, or would be too large.
    pub(crate) fn append<'p>(
        &self,
        packets: impl Iterator<Item = &'p EncodedPacket> + Clone,
    ) -> bool {
        let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Frames::Open(open) = &mut *frames else {
            return false;
        };
        let length: usize = packets.clone().map(|packet| packet.frame().len()).sum();
        if open.len() + length > LARGEST {
            return false;
        }
        packets.for_each(|packet| open.extend_from_slice(packet.frame()));
        true
    }

    /// The frames, to which nothing is appended any more.
    pub(crate) fn seal(&self) -> Bytes {
        let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sealed: Bytes = match &mut *frames {
            Frames::Sealed(sealed) => return sealed.clone(),
            // Without spare room: it may wait for a slow reader.
            Frames::Open(open) => std::mem::take(open).into_boxed_slice().into(),
        };
        *frames = Frames::Sealed(sealed.clone());
        sealed
    }
}

#[cfg(test)]
mod tests {
    use antiphon_protocol::engine::PacketType;

    use super::*;

    fn message(text: &str) -> EncodedPacket {
        EncodedPacket::text(PacketType::Message, text)
    }

    #[test]
    fn nothing_is_appended_to_what_was_sealed() {
        let [a, b] = [message("a"), message("b")];
        let bundle = Bundle::new([&a].into_iter()).unwrap();
        assert!(bundle.append([&b].into_iter()));
        let frames = [&a.frame()[..], b.frame()].concat();
        assert_eq!(bundle.seal(), frames);
        assert!(!bundle.append([&b].into_iter()));
        assert_eq!(bundle.seal(), frames);
    }

    #[test]
    fn a_bundle_is_bounded() {
        let half = message(&"x".repeat(LARGEST / 2));
        let bundle = Bundle::new([&half].into_iter()).unwrap();
        assert!(!bundle.append([&half].into_iter()));
        assert!(Bundle::new([&half, &half].into_iter()).is_none());
    }
}
