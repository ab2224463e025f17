//! What servers of ours, or who claims to be one, publish at a broker.
#![no_main]

use antiphon_protocol::cluster::native::{Frame, Logged};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(frame) = Frame::decode(bytes) {
        // Each frame is written in one way.
        assert_eq!(frame.encode(), bytes);
        let others = Frame::decode_of_others(bytes, &frame.from);
        assert_eq!(others, Ok(None));
    }
    if let Ok(entry) = Logged::decode(bytes) {
        assert_eq!(entry.encode(), bytes);
    }
});
