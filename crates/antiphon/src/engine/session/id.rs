//! Ids of sessions and sockets: 20 characters of `A-Z a-z 0-9 - _`, the form that every peer
//! expects. They are 120 random bits; in a cluster 84, and behind them a [`ServerTag`].
//!
//! A [`SessionId`] is a credential: its `Debug` shows six characters. Random bytes are asked from
//! the operating system for sixteen ids at a time, and kept by the thread. If the system gives none
//! this panics, since an id that can be guessed is worse.

use std::{cell::RefCell, fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

const RANDOM_BYTES: usize = 15;
const LENGTH: usize = 20;

/// Characters of a [`ServerTag`], 6 bits each.
const TAG: usize = 6;

/// Ids that one call to the operating system is enough for: it gives up to 256 bytes at once.
const POOLED: usize = 16;

thread_local! {
    /// Random bytes that no id has had yet.
    static POOL: RefCell<Vec<[u8; RANDOM_BYTES]>> = const { RefCell::new(Vec::new()) };
}

fn random_bytes() -> [u8; RANDOM_BYTES] {
    POOL.with_borrow_mut(|pool| {
        pool.pop().unwrap_or_else(|| {
            let mut random = [[0; RANDOM_BYTES]; POOLED];
            // Without randomness ids could be guessed, and an id is the credential of its session.
            getrandom::fill(random.as_flattened_mut())
                .expect("the operating system gives no random bytes");
            let [first, others @ ..] = random;
            pool.extend(others);
            first
        })
    })
}

/// A random id of 20 characters from `A-Z a-z 0-9 - _`, which names a server if there are several.
fn random(tag: Option<ServerTag>) -> [u8; LENGTH] {
    let mut id = [0; LENGTH];
    URL_SAFE_NO_PAD
        .encode_slice(random_bytes(), &mut id)
        .expect("15 bytes are 20 characters of base64");
    if let Some(ServerTag(tag)) = tag {
        // At the end: logs show the beginning.
        id[LENGTH - TAG..].copy_from_slice(&tag);
    }
    id
}

/// A fresh random id, shared, which names a server if there are several.
pub(crate) fn random_id(tag: Option<ServerTag>) -> Arc<str> {
    Arc::from(String::from_utf8_lossy(&random(tag)))
}

/// The server that an id names by its last six characters, where several are connected.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerTag([u8; TAG]);

impl ServerTag {
    /// The tag of a server whose name has this hash. 36 bits of it count.
    #[must_use]
    pub fn from_hash(hash: u64) -> Self {
        let mut text = [0; 8];
        let folded = hash ^ hash >> 36;
        URL_SAFE_NO_PAD
            .encode_slice(&(folded << 28).to_be_bytes()[..TAG], &mut text)
            .expect("6 bytes are 8 characters of base64");
        let [a, b, c, d, e, f, ..] = text;
        Self([a, b, c, d, e, f])
    }

    /// The tag that an id ends with. Returns `None` for what isn't as long as an id. Ids that name
    /// no server give the tag of none that there is.
    #[must_use]
    pub fn of_id(id: &str) -> Option<Self> {
        let id: &[u8; LENGTH] = id.as_bytes().try_into().ok()?;
        id.last_chunk().copied().map(Self)
    }

    /// The characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for ServerTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerTag").field(&self.as_str()).finish()
    }
}

/// The id of a session. Anyone who knows it can speak for the session, so it is never shown to
/// others: sockets have ids of their own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId([u8; LENGTH]);

impl SessionId {
    /// A fresh random id, which names a server if there are several.
    pub(crate) fn random(tag: Option<ServerTag>) -> Self {
        Self(random(tag))
    }

    /// The id that an application has made. In a cluster its last six characters give way to those
    /// that name the server. Returns `None` if it isn't 20 characters of `A-Z a-z 0-9 - _`.
    pub(crate) fn given(text: &str, tag: Option<ServerTag>) -> Option<Self> {
        let mut id: [u8; LENGTH] = text.as_bytes().try_into().ok()?;
        if let Some(ServerTag(tag)) = tag {
            id[LENGTH - TAG..].copy_from_slice(&tag);
        }
        id.iter().all(|byte| is_of_id(*byte)).then_some(Self(id))
    }

    /// Reads the query parameter `sid`. Returns `None` if it can't be the id of a session.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let id = text.as_bytes().try_into().ok()?;
        text.is_ascii().then_some(Self(id))
    }

    /// The 20 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for SessionId {
    /// Shows the first characters only, since logs are read by many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shortened(self.as_str()).fmt(f)
    }
}

const fn is_of_id(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// An id as logs may show it: its first 6 characters, behind the namespace if it names one.
pub(crate) struct Shortened<'i>(pub(crate) &'i str);

impl fmt::Debug for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (namespace, id) = self.0.split_at(self.0.rfind('#').map_or(0, |at| at + 1));
        let shown = id.char_indices().nth(6).map_or(id, |(end, _)| &id[..end]);
        write!(f, "{namespace}{shown}…")
    }
}

/// The name of a room as logs may show it: one that has the form of an id is shortened.
pub(crate) struct RoomName<'r>(pub(crate) &'r str);

impl fmt::Debug for RoomName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0.rsplit_once('#').map_or(self.0, |(_, id)| id);
        if id.len() == LENGTH && id.bytes().all(is_of_id) {
            return Shortened(self.0).fmt(f);
        }
        fmt::Debug::fmt(self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_ids_are_the_same() {
        let ids: std::collections::HashSet<_> =
            (0..1_000).map(|_| SessionId::random(None)).collect();
        assert_eq!(ids.len(), 1_000);
    }

    #[test]
    fn an_id_reads_back() {
        let id = SessionId::random(None);
        assert_eq!(SessionId::parse(id.as_str()), Some(id));
        assert_eq!(SessionId::parse("too short"), None);
        assert_eq!(SessionId::parse("é9 bytes of 20 char"), None);
    }

    #[test]
    fn an_id_ends_with_the_tag_of_its_server() {
        let tag = ServerTag::from_hash(0x0123_4567_89ab_cdef);
        let ids = [(); 100].map(|()| SessionId::random(Some(tag)));
        for id in &ids {
            assert_eq!(ServerTag::of_id(id.as_str()), Some(tag));
            assert_eq!(SessionId::parse(id.as_str()), Some(*id));
        }
        let random: std::collections::HashSet<_> =
            ids.iter().map(|id| &id.as_str()[..14]).collect();
        assert_eq!(random.len(), 100);
        assert_ne!(ServerTag::from_hash(1), ServerTag::from_hash(2));
        assert_ne!(ServerTag::from_hash(1), ServerTag::from_hash(1 << 63));
        assert_eq!(ServerTag::of_id("lobby"), None);
    }

    #[test]
    fn an_id_that_is_given_has_the_form_of_all_and_names_its_server() {
        let tag = ServerTag::from_hash(7);
        let text = "0123456789-_ABCxyz99";
        let id = |text, tag| SessionId::given(text, tag).map(|id| id.as_str().to_owned());
        assert_eq!(id(text, None).as_deref(), Some(text));
        let tagged = id(text, Some(tag)).unwrap();
        assert_eq!(tagged[..14], text[..14]);
        assert_eq!(ServerTag::of_id(&tagged), Some(tag));
        for bad in [
            "",
            "0123456789-_ABCxyz9",
            "0123456789-_ABCxyz999",
            "0123456789-_ABCxyz9 ",
        ] {
            assert_eq!(id(bad, None), None, "{bad}");
        }
    }

    #[test]
    fn logs_show_the_beginning_of_an_id() {
        let shown = |id| format!("{:?}", Shortened(id));
        assert_eq!(shown("0123456789abcdefghij"), "012345…");
        assert_eq!(shown("/a#b#0123456789abcdefghij"), "/a#b#012345…");
        assert_eq!(shown("ü"), "ü…");
        assert_eq!(shown("üüüüüüü"), "üüüüüü…");
        let room = |name| format!("{:?}", RoomName(name));
        assert_eq!(room("/a#0123456789abcdefghij"), "/a#012345…");
        assert_eq!(room("0123456789abcdefgh-_"), "012345…");
        assert_eq!(room("the room of 20 bytes"), "\"the room of 20 bytes\"");
    }
}
