//! Topics as subjects of NATS.
//!
//! ```text
//! antiphon:control                 antiphon.control
//! antiphon:node:V1StGXR8           antiphon.node:V1StGXR8
//! antiphon:{17}room:5:/chata b     antiphon.17.room:5:/chata%20b
//! ```
//!
//! The prefix is one token, so that a user's rights are `antiphon.>`; a hash tag is another, by which
//! an operator may route parts of the rooms. What NATS doesn't take in a token is escaped, and what
//! would be longer than it should be is a hash. A hash isn't trusted: each frame under one begins
//! with the name of its topic, and receivers compare.

use antiphon_cluster::Topic;
use bytes::{BufMut, Bytes};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

/// What separates tokens, is a wildcard, ends a word, or begins an escape. `$` begins the names
/// that servers keep for themselves.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'.')
    .add(b'*')
    .add(b'>')
    .add(b'%')
    .add(b'$');

/// A token that is longer is a hash. NATS takes 4,096 bytes for a line and recommends less than 256
/// for a subject.
const LONGEST: usize = 200;

/// The subjects of a cluster.
#[derive(Debug)]
pub(crate) struct Subjects {
    /// That of topics, with its colon.
    prefix: String,
    /// That of subjects, with its dot.
    token: String,
}

/// Where a topic's frames go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) name: String,
    /// Whether it stands for the topic by a hash.
    is_hashed: bool,
}

impl Subjects {
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            prefix: format!("{prefix}:"),
            token: format!("{}.", token(prefix).0),
        }
    }

    /// The subject of a topic.
    pub(crate) fn of(&self, topic: &Topic) -> Subject {
        let mut name = self.token.clone();
        let rest = match topic.name().strip_prefix(&self.prefix) {
            Some(rest) => rest,
            // No topic of this cluster. Its token is none that a tag could be.
            None => {
                name.push_str("%.");
                topic.name()
            }
        };
        let (tag, rest) = tagged(rest).unwrap_or(("", rest));
        if !tag.is_empty() {
            name.push_str(tag);
            name.push('.');
        }
        let (token, is_hashed) = token(rest);
        name.push_str(&token);
        Subject { name, is_hashed }
    }

    /// A subject that nobody subscribes to: it is published to, to see whether that is allowed.
    pub(crate) fn probe(&self) -> String {
        format!("{}probe", self.token)
    }

    /// The subject under which the entries of a log are appended.
    pub(crate) fn entries(&self, log: &Topic) -> String {
        self.part("entries", log)
    }

    /// The subject of a session that is kept, or of all of a log, for `*`.
    pub(crate) fn session(&self, log: &Topic, pid: Option<&str>) -> String {
        let pid = pid.map_or_else(|| "*".to_owned(), |pid| token(pid).0);
        format!("{}.{pid}", self.part("session", log))
    }

    /// A subject beside that of a topic. It is no topic's: a tag is a number.
    fn part(&self, part: &str, topic: &Topic) -> String {
        let subject = self.of(topic).name;
        format!("{0}{part}.{1}", self.token, &subject[self.token.len()..])
    }

    /// What the subjects of responses to one connection begin with.
    pub(crate) fn replies(&self, connection: &str) -> String {
        format!("{}reply.{connection}.", self.token)
    }

    /// What covers all subjects.
    pub(crate) fn all(&self) -> String {
        format!("{}>", self.token)
    }
}

impl Subject {
    /// How much longer than a frame its payload is.
    pub(crate) fn overhead(&self, topic: &Topic) -> usize {
        match self.is_hashed {
            true => size_of::<u32>() + topic.name().len(),
            false => 0,
        }
    }

    /// What comes before a frame in its payload.
    pub(crate) fn write_head(&self, topic: &Topic, out: &mut Vec<u8>) {
        if self.is_hashed {
            // Names are parts of events, whose size is bounded far below.
            out.put_u32(u32::try_from(topic.name().len()).unwrap_or(u32::MAX));
            out.put_slice(topic.name().as_bytes());
        }
    }

    /// The frame in a payload. Returns `None` if it is another topic's, of the same hash.
    pub(crate) fn frame(&self, topic: &str, mut payload: Bytes) -> Option<Bytes> {
        if self.is_hashed {
            let head = payload.split_to_checked(size_of::<u32>())?;
            let length = u32::from_be_bytes(head.as_ref().try_into().ok()?);
            let name = payload.split_to_checked(usize::try_from(length).ok()?)?;
            if name != topic.as_bytes() {
                return None;
            }
        }
        Some(payload)
    }
}

trait SplitChecked: Sized {
    fn split_to_checked(&mut self, at: usize) -> Option<Self>;
}

impl SplitChecked for Bytes {
    fn split_to_checked(&mut self, at: usize) -> Option<Self> {
        (at <= self.len()).then(|| self.split_to(at))
    }
}

/// A hash tag of digits, and what follows.
fn tagged(name: &str) -> Option<(&str, &str)> {
    let (tag, rest) = name.strip_prefix('{')?.split_once('}')?;
    let is_number = !tag.is_empty() && tag.len() <= 8 && tag.bytes().all(|b| b.is_ascii_digit());
    is_number.then_some((tag, rest))
}

/// Names of streams are made of it: letters, digits, and what stands for the rest.
pub(crate) fn plain(text: &str) -> String {
    /// With a hash behind it, and a number.
    const PLAIN: usize = 64;

    let plain = text.chars().take(PLAIN).map(|char| match char {
        'a'..='z' | 'A'..='Z' | '0'..='9' => char,
        _ => '_',
    });
    format!("{}-{:016x}", plain.collect::<String>(), hash(text))
}

/// The same on every server, today and tomorrow: FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A token that stands for a text, and whether it does so by a hash.
pub(crate) fn token(text: &str) -> (String, bool) {
    // A token can't be empty. This is no escape.
    if text.is_empty() {
        return ("%".to_owned(), false);
    }
    let escaped = percent_encode(text.as_bytes(), ESCAPED).to_string();
    if escaped.len() <= LONGEST {
        return (escaped, false);
    }
    // `%h` is no escape, either.
    (format!("%h{:016x}", hash(text)), true)
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;

    fn subject(topic: &str) -> String {
        Subjects::new("antiphon").of(&Topic::new(topic)).name
    }

    /// The topic that a subject without a hash stands for.
    fn topic(subject: &str) -> String {
        let text = |token: &str| match token {
            "%" => String::new(),
            _ => percent_decode_str(token)
                .decode_utf8()
                .unwrap()
                .into_owned(),
        };
        match subject.split('.').collect::<Vec<_>>()[..] {
            ["antiphon", rest] => format!("antiphon:{}", text(rest)),
            ["antiphon", "%", whole] => text(whole),
            ["antiphon", "%", tag, rest] => format!("{{{tag}}}{}", text(rest)),
            ["antiphon", tag, rest] => format!("antiphon:{{{tag}}}{}", text(rest)),
            _ => panic!("{subject}"),
        }
    }

    #[test]
    fn the_prefix_and_the_tag_are_tokens_and_the_rest_is_readable() {
        assert_eq!(subject("antiphon:control"), "antiphon.control");
        assert_eq!(
            subject("antiphon:{17}room:5:/chata b.*>"),
            "antiphon.17.room:5:/chata%20b%2E%2A%3E"
        );
        assert_eq!(Subjects::new("shop.eu").probe(), "shop%2Eeu.probe");
        let (subjects, log) = (Subjects::new("antiphon"), Topic::new("antiphon:{17}log:/a"));
        assert_eq!(subjects.entries(&log), "antiphon.entries.17.log:/a");
        assert_eq!(
            subjects.session(&log, Some("p.1")),
            "antiphon.session.17.log:/a.p%2E1"
        );
        assert_eq!(subjects.session(&log, None), "antiphon.session.17.log:/a.*");
    }

    #[test]
    fn a_frame_under_a_hash_is_taken_from_its_own_topic_alone() {
        let topic = Topic::new(format!("antiphon:{}", "x".repeat(1_000)));
        let subject = Subjects::new("antiphon").of(&topic);
        assert_eq!(subject.name.len(), "antiphon.".len() + 18);
        let mut payload = Vec::new();
        subject.write_head(&topic, &mut payload);
        assert_eq!(payload.len(), subject.overhead(&topic));
        payload.extend(b"frame");
        let payload = Bytes::from(payload);
        let of = |name: &str| subject.frame(name, payload.clone());
        assert_eq!(of(topic.name()), Some(Bytes::from("frame")));
        assert_eq!(of("antiphon:another"), None);
        for end in 0..payload.len() - 5 {
            assert_eq!(subject.frame(topic.name(), payload.slice(..end)), None);
        }
    }

    fn names() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            any::<String>(),
            "[a-c.*>% ${}:0-9h]{0,12}",
            Just("antiphon:".to_owned()),
            Just("{12}".to_owned()),
            "x{150,400}",
        ];
        prop::collection::vec(part, 0..4).prop_map(|parts| parts.concat())
    }

    proptest! {
        /// Whatever a topic is called, NATS takes its subject, and no other topic has it.
        #[test]
        fn a_subject_is_valid_and_stands_for_one_topic(name in names(), is_own: bool) {
            let name = if is_own { format!("antiphon:{name}") } else { name };
            let subject = Subjects::new("antiphon").of(&Topic::new(&*name));
            prop_assert!(subject.name.len() < 256);
            prop_assert!(subject.name.split('.').all(|token| !token.is_empty()));
            let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"*>$".contains(&byte);
            prop_assert!(subject.name.bytes().all(is_plain), "{}", subject.name);
            if !subject.is_hashed {
                prop_assert_eq!(topic(&subject.name), name);
            }
        }
    }
}
