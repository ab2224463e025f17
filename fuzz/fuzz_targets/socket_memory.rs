//! Memory that a message takes when it has been decoded, against the bytes that were received. The
//! bound is one of each value and of each byte, whatever the type.
#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use antiphon_fuzz::Json;
use antiphon_protocol::engine::Revision;
use antiphon_protocol::socket::{Args, Decoder, Limits, Packet};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The allocator of the system, and how much of it is taken.
struct Counting;

static TAKEN: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is passed on to `System`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let taken = TAKEN.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(taken, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes of a value: a map with one entry has room for eleven, and a list grows to double its
/// size while it is copied.
const A_VALUE: usize = 1_000;

/// Most bytes of a byte that was received: the message, a copy in a type, one more in between.
const A_BYTE: usize = 6;

/// What is taken anyway.
const ALWAYS: usize = 64 << 10;

#[derive(Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "only read")]
enum Untagged {
    Data(Bytes),
    Many(Vec<Self>),
    Fields(BTreeMap<String, Self>),
    Any(Value),
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only read")]
struct Flat {
    a: Option<Bytes>,
    #[serde(flatten)]
    rest: BTreeMap<String, Untagged>,
}

// How often the values are repeated (2 bytes), how many attachments there are and how large (2
// bytes), and what is made of the rest: JSON, or JSON as it stands there, with a placeholder for `$`.
fuzz_target!(|data: &[u8]| {
    let [low, high, attachments, kilobytes, rest @ ..] = data else {
        return;
    };
    let values = match rest.split_first() {
        Some((b'=', text)) => {
            String::from_utf8_lossy(text).replace('$', r#"{"_placeholder":true,"num":0}"#)
        }
        _ => Json::new(rest).values(),
    };
    let times = 1 + usize::from(u16::from_le_bytes([*low, *high]));
    let times = times.min(1 + 16_000 / (values.len() + 1));
    let values = vec![values; times].join(",");
    let attachments = attachments % 4;
    let text = match attachments {
        0 => format!("2[\"e\",[{values}]]"),
        count => format!("5{count}-[\"e\",[{values}]]"),
    };
    let size = usize::from(*kilobytes) << 8;
    let received = text.len() + usize::from(attachments) * size;
    let before = TAKEN.load(Relaxed);
    MOST.store(before, Relaxed);
    let mut decoder = Decoder::new(Revision::V4, Limits::default());
    let Ok(packet) = decoder.text(&text) else {
        return;
    };
    let mut last = None;
    for _ in 0..attachments {
        last = decoder.binary(vec![7; size].into()).expect("outstanding");
    }
    let args = match (&last, packet) {
        (Some(assembled), _) => match assembled.packet() {
            Packet::Event { args, .. } => args,
            _ => return,
        },
        (None, Some(Packet::Event { args, .. })) => args,
        (None, _) => return,
    };
    let bound = before + ALWAYS + received * A_BYTE + count(&text) * A_VALUE;
    let mut check = Check { args, bound };
    check.read::<Value>();
    check.read::<Vec<Value>>();
    check.read::<Vec<Bytes>>();
    check.read::<Vec<Vec<u8>>>();
    check.read::<Vec<Vec<Bytes>>>();
    check.read::<Vec<String>>();
    check.read::<Vec<BTreeMap<String, Bytes>>>();
    check.read::<Vec<BTreeMap<String, Value>>>();
    check.read::<Untagged>();
    check.read::<Vec<Flat>>();
    check.read::<Vec<Option<Box<str>>>>();
});

/// Values that a decoder has counted, at least: what stands before a comma, or is closed.
fn count(text: &str) -> usize {
    let commas = text.bytes().filter(|byte| b",[{".contains(byte)).count();
    commas.min(Limits::default().values)
}

struct Check<'a> {
    args: Args<'a>,
    bound: usize,
}

impl Check<'_> {
    fn read<T: DeserializeOwned>(&mut self) {
        MOST.store(TAKEN.load(Relaxed), Relaxed);
        let read = self.args.deserialize::<T>();
        let most = MOST.load(Relaxed);
        assert!(
            most <= self.bound,
            "{most} bytes for {}, where {} are bounded",
            std::any::type_name::<T>(),
            self.bound
        );
        drop(read);
    }
}
