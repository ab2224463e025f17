//! What Node's adapter for sharded channels, or who claims to be one, publishes on Redis.
#![no_main]

use antiphon_fuzz::cluster::{all, check};
use antiphon_protocol::cluster::node::{Content, Mode, Sharded};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let sender = Sharded::new("socket.io", "/", "sender", Mode::Dynamic);
    let reader = Sharded::new("socket.io", "/", "reader", Mode::Dynamic);
    check(
        |limits| reader.decode("socket.io#/#", payload, limits, &all),
        |content, limits| {
            let frame = match content {
                Content::Message(message) => sender.encode(message),
                Content::Answer(answer) => sender.encode_answer("reader", answer),
            };
            let frame = frame.expect("can be sent on");
            reader.decode(&frame.channel, &frame.payload, limits, &all)
        },
    );
});
