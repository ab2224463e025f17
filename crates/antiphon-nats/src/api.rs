//! The interface of JetStream: requests and responses in JSON, under subjects of core NATS.
//!
//! A codec, without I/O. It knows what this crate uses: see the
//! [reference](https://docs.nats.io/reference/reference-protocols/nats_api_reference).

use std::time::Duration;

use antiphon_cluster::broker::Refused;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::wire::Message;

/// How a stream is to be. What is compared with what JetStream says that it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    pub(crate) name: String,
    pub(crate) subjects: Vec<String>,
    pub(crate) retention: String,
    pub(crate) discard: String,
    pub(crate) storage: String,
    pub(crate) num_replicas: u8,
    pub(crate) max_msgs: i64,
    pub(crate) max_bytes: i64,
    /// In nanoseconds.
    pub(crate) max_age: i64,
    pub(crate) max_msgs_per_subject: i64,
    /// In nanoseconds.
    pub(crate) duplicate_window: i64,
    pub(crate) allow_direct: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) republish: Option<Republish>,
}

/// Where JetStream publishes what it has stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Republish {
    pub(crate) src: String,
    pub(crate) dest: String,
}

/// How streams are stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Storage {
    pub(crate) replicas: u8,
    pub(crate) in_memory: bool,
}

/// So long JetStream knows which entries it has: its default.
const DUPLICATES: Duration = Duration::from_secs(120);

/// What JetStream stores besides an event: its subject, its headers, and what the log says of it.
const OVERHEAD: usize = 256;

/// More than a disk has: no bound.
const MOST: usize = 1 << 40;

impl Config {
    /// A stream that keeps what is under a subject for so long.
    pub(crate) fn new(name: String, subject: String, age: Duration, storage: Storage) -> Self {
        // JetStream takes no less than 100 ms.
        let age = age.max(Duration::from_millis(100));
        Self {
            name,
            subjects: vec![subject],
            retention: "limits".to_owned(),
            discard: "old".to_owned(),
            storage: if storage.in_memory { "memory" } else { "file" }.to_owned(),
            num_replicas: storage.replicas,
            max_msgs: -1,
            max_bytes: -1,
            max_age: nanos(age),
            max_msgs_per_subject: -1,
            duplicate_window: nanos(age.min(DUPLICATES)),
            allow_direct: true,
            republish: None,
        }
    }

    /// That of a log: what is stored is published with its place.
    pub(crate) fn log(self, heard: String, events: usize, bytes: usize) -> Self {
        let bound = |number: usize| match number {
            ..MOST => i64::try_from(number).unwrap_or(-1),
            _ => -1,
        };
        let bytes = events.saturating_mul(OVERHEAD).saturating_add(bytes);
        let src = self.subjects.concat();
        Self {
            max_msgs: bound(events),
            max_bytes: bound(bytes),
            republish: Some(Republish { src, dest: heard }),
            ..self
        }
    }

    /// That of sessions: it keeps the last of each.
    pub(crate) fn sessions(self) -> Self {
        Self {
            max_msgs_per_subject: 1,
            ..self
        }
    }
}

/// 0, which is no bound, if it is longer than JetStream knows.
fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(0)
}

/// What JetStream says of a stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Info {
    pub(crate) config: Config,
    pub(crate) state: State,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
}

/// The streams that have a subject.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Names {
    pub(crate) streams: Option<Vec<String>>,
}

/// A response of which only matters that it is no error.
#[derive(Debug, Deserialize)]
pub(crate) struct Done {}

/// That something is stored, or done.
#[derive(Debug, Deserialize)]
pub(crate) struct Ack {
    /// The number in the stream of what was stored.
    #[serde(default)]
    pub(crate) seq: u64,
}

impl Ack {
    pub(crate) fn of(message: &Message) -> Result<Self, Failed> {
        response(message)
    }
}

/// An error as JetStream tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Complaint {
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

/// Why a request isn't fulfilled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failed {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("JetStream hasn't answered in time")]
    Silent,
    #[error(
        "JetStream doesn't listen: it is being started, its leader is being elected, or it isn't enabled"
    )]
    Nobody,
    #[error("JetStream says: {}", .0.description)]
    Complaint(Complaint),
    #[error("JetStream says what isn't understood: {0}")]
    Garbage(String),
    #[error("the stream {name} has the subject {subject}, and isn't Antiphon's")]
    Foreign { name: String, subject: String },
}

// Codes of JetStream's errors.
const UNAVAILABLE: u32 = 10_008;
const NO_LEADER: u32 = 10_009;
const NOT_ENABLED: [u32; 2] = [10_039, 10_076];
const NO_ROOM: [u32; 5] = [10_002, 10_023, 10_028, 10_047, 10_077];
const NO_PEERS: [u32; 2] = [10_005, 10_074];
pub(crate) const NAME_IN_USE: u32 = 10_058;
pub(crate) const SUBJECTS_OVERLAP: u32 = 10_065;
pub(crate) const NOT_FOUND: u32 = 10_059;
pub(crate) const NO_MESSAGE: u32 = 10_037;
pub(crate) const NOT_DELETED: u32 = 10_057;
pub(crate) const OTHER_SEQUENCE: [u32; 2] = [10_071, 10_164];

impl Failed {
    pub(crate) const fn code(&self) -> u32 {
        match self {
            Self::Complaint(complaint) => complaint.err_code,
            _ => 0,
        }
    }

    /// Whether the same may succeed in a moment.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Silent | Self::Nobody => true,
            Self::Complaint(complaint) => [UNAVAILABLE, NO_LEADER].contains(&complaint.err_code),
            _ => false,
        }
    }

    /// What has happened and what to do.
    pub(crate) fn reason(&self, address: &str) -> String {
        let code = self.code();
        let what = match self {
            Self::Refused(refused) => return refused.to_string(),
            Self::Foreign { name, .. } => {
                format!("Take the subject from the stream, or delete it: nats stream rm {name}")
            }
            Self::Garbage(_) => "See who else publishes under these subjects".to_owned(),
            _ if self.passes() || NOT_ENABLED.contains(&code) => "Enable JetStream in the server \
                and the account (nats-server -js), and see in its log whether it has a leader; or \
                go without shared logs, by NatsBuilder::jetstream(false) on all servers"
                .to_owned(),
            _ if NO_ROOM.contains(&code) => "Give JetStream more room (max_file_store, \
                max_memory_store, the account's limits), or let Recovery keep less"
                .to_owned(),
            _ if NO_PEERS.contains(&code) => {
                "Have as many NATS servers with JetStream as NatsBuilder::replicas says, or lower it"
                    .to_owned()
            }
            _ => "See the log of the NATS server".to_owned(),
        };
        match code {
            0 => format!("NATS at {address}: {self}. {what}"),
            code => format!("NATS at {address}: {self} (error {code}). {what}"),
        }
    }
}

/// What a response says.
pub(crate) fn response<R: DeserializeOwned>(message: &Message) -> Result<R, Failed> {
    #[derive(Deserialize)]
    struct Outcome {
        error: Option<Complaint>,
    }

    match message.headers.status() {
        None => {}
        Some(503) => return Err(Failed::Nobody),
        Some(status) => return Err(Failed::Garbage(format!("status {status}"))),
    }
    let garbage = |error: serde_json::Error| Failed::Garbage(error.to_string());
    let outcome: Outcome = serde_json::from_slice(&message.payload).map_err(garbage)?;
    match outcome.error {
        Some(complaint) => Err(Failed::Complaint(complaint)),
        None => serde_json::from_slice(&message.payload).map_err(garbage),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::Headers;

    fn message(headers: Headers, payload: impl Into<bytes::Bytes>) -> Message {
        Message {
            sid: 0,
            subject: "r".into(),
            headers,
            payload: payload.into(),
        }
    }

    const STORAGE: Storage = Storage {
        replicas: 1,
        in_memory: false,
    };

    #[test]
    fn errors_say_what_to_do() {
        for (said, passes, advice) in [
            (
                r#"{"error":{"err_code":10039,"description":"d"}}"#,
                false,
                "jetstream(false)",
            ),
            (
                r#"{"error":{"err_code":10008,"description":"d"}}"#,
                true,
                "leader",
            ),
            (r#"{"error":{"err_code":10047}}"#, false, "max_file_store"),
            (r#"{"error":{"err_code":10074}}"#, false, "replicas"),
            (r#"{"error":{"err_code":1}}"#, false, "the log of"),
            ("nonsense", false, "who else"),
        ] {
            let failed = Ack::of(&message(Headers::default(), said)).unwrap_err();
            assert_eq!(failed.passes(), passes, "{failed:?}");
            let reason = failed.reason("host:1");
            assert!(
                reason.contains(advice) && reason.contains("host:1"),
                "{reason}"
            );
        }
        let nobody = message(Headers::of("NATS/1.0 503\r\n\r\n"), "");
        assert_eq!(Ack::of(&nobody).unwrap_err(), Failed::Nobody);
    }

    #[test]
    fn a_stream_has_the_bounds_of_the_log() {
        let of = |age, events, bytes| {
            let config = Config::new("n".to_owned(), "a".to_owned(), age, STORAGE);
            config.log("b".to_owned(), events, bytes)
        };
        let minute = 60_000_000_000;
        let config = of(Duration::from_secs(60), 100, 1_000);
        assert_eq!((config.max_msgs, config.max_bytes), (100, 26_600));
        assert_eq!((config.max_age, config.duplicate_window), (minute, minute));
        let endless = of(Duration::MAX, usize::MAX, usize::MAX);
        assert_eq!((endless.max_msgs, endless.max_bytes), (-1, -1));
        assert_eq!((endless.max_age, endless.duplicate_window), (0, 2 * minute));
        let said = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&said).unwrap(), config);
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_no_panic(payload in ".*", headers in ".*") {
            let _ = response::<Info>(&message(Headers::default(), payload.clone()));
            let _ = response::<Names>(&message(Headers::default(), payload));
            let _ = message(Headers::default(), headers).headers.get("a");
        }
    }
}
