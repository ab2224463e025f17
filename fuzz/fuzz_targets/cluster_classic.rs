//! What the classic adapter of Node, or who claims to be one, publishes on Redis. The first byte
//! chooses the channel.
#![no_main]

use antiphon_fuzz::cluster::{all, check};
use antiphon_protocol::cluster::node::{Classic, Content};
use libfuzzer_sys::fuzz_target;

const CHANNELS: [&str; 4] = [
    "socket.io#/#",
    "socket.io#/#room#",
    "socket.io-request#/#",
    "socket.io-response#/#",
];

fuzz_target!(|data: &[u8]| {
    let Some((&channel, payload)) = data.split_first() else {
        return;
    };
    let channel = CHANNELS[usize::from(channel) % CHANNELS.len()];
    let sender = Classic::new("socket.io", "/", "sender");
    let reader = Classic::new("socket.io", "/", "reader");
    check(
        |limits| reader.decode(channel, payload, limits, &all),
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
