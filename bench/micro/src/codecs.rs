//! The codecs of `antiphon-protocol`.

use std::{fmt, hint::black_box};

use antiphon_protocol::{
    engine::{EncodedPacket, PacketType, Revision, payload},
    socket::{self, Limits, OwnedArgs},
    websocket::{self, Event, Opcode, Role, masked_frame},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::TEXT;

/// One codec with one input; `make` prepares the input and returns what is measured.
#[derive(Debug, Clone, Copy)]
pub struct Codec {
    pub name: &'static str,
    pub make: fn() -> Box<dyn FnMut()>,
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

const fn codec(name: &'static str, make: fn() -> Box<dyn FnMut()>) -> Codec {
    Codec { name, make }
}

/// All of them.
pub const CODECS: &[Codec] = &[
    codec("ws_decode_frame", || ws_decode(1)),
    codec("ws_decode_32_frames", || ws_decode(32)),
    codec("ws_decode_64k_binary", ws_decode_binary),
    codec("ws_encode_64_bytes", || ws_encode(64)),
    codec("ws_encode_64k_bytes", || ws_encode(64 << 10)),
    codec("payload_encode_v4", || payload_encode(Revision::V4, false)),
    codec("payload_encode_v3_text", || {
        payload_encode(Revision::V3, false)
    }),
    codec("payload_encode_v3_binary", || {
        payload_encode(Revision::V3, true)
    }),
    codec("payload_decode_v4", || payload_decode(Revision::V4, false)),
    codec("payload_decode_v3_text", || {
        payload_decode(Revision::V3, false)
    }),
    codec("payload_decode_v3_binary", || {
        payload_decode(Revision::V3, true)
    }),
    codec("packet_decode_event", || {
        packet_decode(format!(r#"2["echo","{TEXT}"]"#))
    }),
    codec("packet_decode_ack", || {
        packet_decode(format!(r#"37["{TEXT}"]"#))
    }),
    codec("packet_decode_attachments", packet_decode_attachments),
    codec("packet_encode_event", || {
        Box::new(|| {
            drop(black_box(socket::event(
                "/",
                None,
                "move",
                &black_box(Move::SAMPLE),
            )))
        })
    }),
    codec("packet_encode_event_raw", packet_encode_event_raw),
    codec("packet_encode_ack", || {
        Box::new(|| drop(black_box(socket::ack("/", 7, &black_box(Move::SAMPLE)))))
    }),
    codec("packet_encode_ack_raw", packet_encode_ack_raw),
    codec("packet_encode_attachments", packet_encode_attachments),
    codec("args_deserialize", args_deserialize),
];

/// Arguments as an application has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Move<'a> {
    player: &'a str,
    x: f64,
    y: f64,
    path: [u32; 4],
    done: bool,
}

impl Move<'static> {
    const SAMPLE: Self = Self {
        player: "alice",
        x: 12.5,
        y: -3.25,
        path: [1, 20, 300, 4000],
        done: false,
    };
}

/// Text frames of 64 bytes. The input is copied first: decoding unmasks it in place.
fn ws_decode(frames: usize) -> Box<dyn FnMut()> {
    let input = masked_frame(Opcode::Text, TEXT.as_bytes(), [1, 2, 3, 4]).repeat(frames);
    let mut buffer = input.clone();
    let mut decoder = websocket::Decoder::new(Role::Server, 1_000_000);
    Box::new(move || {
        buffer.copy_from_slice(&input);
        let mut rest = &mut buffer[..];
        let mut seen = 0;
        while !rest.is_empty() {
            let decoded = decoder.decode(rest).expect("the frame is valid");
            let consumed = decoded.consumed;
            assert!(matches!(black_box(decoded.event), Some(Event::Text(_))));
            rest = &mut rest[consumed..];
            seen += 1;
        }
        assert_eq!(seen, frames);
    })
}

/// Nearly all of it is unmasking, since bytes aren't looked at: the same buffer is masked and
/// unmasked in turn.
fn ws_decode_binary() -> Box<dyn FnMut()> {
    let mut buffer = masked_frame(Opcode::Binary, &[7; 64 << 10], [1, 2, 3, 4]);
    let mut decoder = websocket::Decoder::new(Role::Server, 1_000_000);
    Box::new(move || {
        let decoded = decoder.decode(&mut buffer).expect("the frame is valid");
        assert!(matches!(black_box(decoded.event), Some(Event::Binary(_))));
    })
}

/// A header, and a copy of the data.
fn ws_encode(length: usize) -> Box<dyn FnMut()> {
    let data = "a".repeat(length);
    Box::new(move || {
        let packet = EncodedPacket::text(PacketType::Message, black_box(&data));
        drop(black_box(packet));
    })
}

/// Sixteen messages of 64 bytes; where `binary`, four of them are bytes.
fn messages(revision: Revision, binary: bool) -> Vec<EncodedPacket> {
    let message = |index| {
        if binary && index % 4 == 0 {
            EncodedPacket::binary(TEXT.as_bytes(), revision)
        } else {
            EncodedPacket::text(PacketType::Message, TEXT)
        }
    };
    (0..16).map(message).collect()
}

fn payload_encode(revision: Revision, binary: bool) -> Box<dyn FnMut()> {
    let packets = messages(revision, binary);
    Box::new(move || {
        let body = payload::encode(black_box(&packets), revision, binary);
        assert_eq!(black_box(body).binary, binary);
    })
}

fn payload_decode(revision: Revision, binary: bool) -> Box<dyn FnMut()> {
    let body = payload::encode(&messages(revision, binary), revision, binary).body;
    Box::new(move || {
        let packets = payload::decode(black_box(&body), revision, binary, 100);
        let packets = packets.expect("the payload is valid");
        let mut count = 0;
        for packet in packets {
            black_box(packet.expect("the packet is valid"));
            count += 1;
        }
        assert_eq!(count, 16);
    })
}

fn packet_decode(text: String) -> Box<dyn FnMut()> {
    let mut decoder = socket::Decoder::new(Revision::V4, Limits::default());
    Box::new(move || {
        let packet = decoder.text(black_box(&text)).expect("the packet is valid");
        assert!(black_box(packet).is_some());
    })
}

fn packet_decode_attachments() -> Box<dyn FnMut()> {
    let text = r#"52-["file",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
    let data = Bytes::from_static(TEXT.as_bytes());
    let mut decoder = socket::Decoder::new(Revision::V4, Limits::default());
    Box::new(move || {
        let first = decoder.text(black_box(text)).expect("the packet is valid");
        assert!(first.is_none());
        for is_last in [false, true] {
            let packet = decoder.binary(data.clone()).expect("it was announced");
            assert_eq!(black_box(packet).is_some(), is_last);
        }
    })
}

fn sample() -> OwnedArgs {
    OwnedArgs::new(&Move::SAMPLE).expect("the arguments can be written")
}

fn packet_encode_event_raw() -> Box<dyn FnMut()> {
    let args = sample();
    Box::new(move || {
        let packet = socket::event_from("/", None, "move", black_box(&args).as_args());
        drop(black_box(packet));
    })
}

fn packet_encode_ack_raw() -> Box<dyn FnMut()> {
    let args = sample();
    Box::new(move || {
        let packet = socket::ack_from("/", 7, black_box(&args).as_args());
        drop(black_box(packet));
    })
}

/// Two attachments, each a placeholder in the text.
fn packet_encode_attachments() -> Box<dyn FnMut()> {
    let data = Bytes::from_static(TEXT.as_bytes());
    let args = (data.clone(), data);
    Box::new(move || {
        let packet = socket::event("/", None, "file", black_box(&args));
        let packet = packet.expect("the arguments can be written");
        assert_eq!(black_box(packet).attachments().len(), 2);
    })
}

fn args_deserialize() -> Box<dyn FnMut()> {
    let args = sample();
    // The text is checked once, so that it isn't part of the count.
    let read: Result<(Move<'_>,), _> = args.as_args().deserialize();
    assert_eq!(read.expect("the arguments fit").0, Move::SAMPLE);
    Box::new(move || {
        let read: Result<(Move<'_>,), _> = black_box(&args).as_args().deserialize();
        assert!(black_box(read).is_ok());
    })
}
