//! Compressed bodies of HTTP (RFC 9110 §8.4): `gzip` (RFC 1952) and `deflate`, which is zlib
//! (RFC 1950).
//!
//! A server chooses a [`ContentCoding`] by `Accept-Encoding`. An [`Encoder`] compresses a body part
//! by part, each alone: it owns a checksum and no more, so that a body which is read slowly holds no
//! compressor; that is the thread's. A [`Decoder`] inflates a body part by part, up to a bound, and
//! owns hardly more memory than that.

use flate2::{Crc, Decompress};

use crate::{
    inflate::{InflateError, Inflated},
    websocket::deflate::append_deflated,
};

/// A last block without anything in it.
const END: [u8; 2] = [3, 0];

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentCoding {
    /// `gzip`.
    Gzip,
    /// `deflate`: zlib.
    Deflate,
}

/// Why a body can't be inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// It is too long.
    #[error("the body has more than {max} bytes when it is inflated")]
    TooBig {
        /// Bytes that it may have.
        max: usize,
    },
    /// It isn't compressed in the way that it says, or not all of it is there.
    #[error("the body isn't {0}")]
    Invalid(&'static str),
}

impl ContentCoding {
    /// The name, as in `Content-Encoding`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// The coding of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let is = |one: &str| name.eq_ignore_ascii_case(one);
        if is("gzip") || is("x-gzip") {
            return Some(Self::Gzip);
        }
        is("deflate").then_some(Self::Deflate)
    }

    /// The coding that a client likes best by its `Accept-Encoding`: `gzip` of two that it likes
    /// the same. Returns `None` if it likes none, or no coding better.
    ///
    /// ```
    /// use antiphon_protocol::content_coding::ContentCoding;
    ///
    /// assert_eq!(ContentCoding::accepted("br, gzip, deflate"), Some(ContentCoding::Gzip));
    /// assert_eq!(ContentCoding::accepted("gzip;q=0, *"), Some(ContentCoding::Deflate));
    /// assert_eq!(ContentCoding::accepted("br"), None);
    /// ```
    #[must_use]
    pub fn accepted(header: &str) -> Option<Self> {
        let weight = |name: &str| {
            let mut weight = None;
            for element in header.split(',') {
                let (coding, parameters) = element.split_once(';').unwrap_or((element, ""));
                let coding = coding.trim();
                let is_named = match Self::from_name(coding) {
                    Some(one) => one.as_str() == name,
                    None => coding.eq_ignore_ascii_case(name),
                };
                // A name counts before a star.
                if is_named {
                    return Some(quality(parameters));
                }
                if coding == "*" {
                    weight.get_or_insert(quality(parameters));
                }
            }
            weight
        };
        let identity = weight("identity").unwrap_or(0);
        let of = |coding: Self| (weight(coding.as_str()).unwrap_or(0), coding);
        let (gzip, deflate) = (of(Self::Gzip), of(Self::Deflate));
        let (best, coding) = if deflate.0 > gzip.0 { deflate } else { gzip };
        (best > 0 && best >= identity).then_some(coding)
    }

    /// Inflates a whole body to at most `max` bytes: as a [`Decoder`] does, at once.
    ///
    /// # Errors
    /// As those of a decoder.
    pub fn decode(self, body: &[u8], max: usize) -> Result<Vec<u8>, ContentError> {
        let mut decoder = Decoder::new(self, max);
        decoder.decode(body)?;
        decoder.finish()
    }
}

/// How much something is liked, in thousandths (RFC 9110 §12.4.2). What can't be read is not at
/// all.
fn quality(parameters: &str) -> u16 {
    let mut parameters = parameters.split(';').map(str::trim);
    let weight = parameters.find_map(|one| one.strip_prefix("q=").or(one.strip_prefix("Q=")));
    let Some(weight) = weight else {
        return 1_000;
    };
    let weight: f32 = weight.trim().parse().unwrap_or(0.0);
    // Between 0 and 1,000.
    (weight.clamp(0.0, 1.0) * 1_000.0) as u16
}

/// Compresses one body, part by part.
///
/// ```
/// use antiphon_protocol::content_coding::{ContentCoding, Encoder};
///
/// let mut encoder = Encoder::new(ContentCoding::Gzip);
/// let mut body = encoder.encode(b"tick tock ", false);
/// body.extend(encoder.encode(b"tick tock", true));
/// assert_eq!(ContentCoding::Gzip.decode(&body, 100), Ok(b"tick tock tick tock".to_vec()));
/// ```
#[derive(Debug)]
pub struct Encoder {
    checksum: Checksum,
    has_begun: bool,
}

#[derive(Debug)]
enum Checksum {
    Gzip(Crc),
    Deflate(Adler),
}

impl Encoder {
    /// For one body.
    #[must_use]
    pub fn new(coding: ContentCoding) -> Self {
        let checksum = match coding {
            ContentCoding::Gzip => Checksum::Gzip(Crc::new()),
            ContentCoding::Deflate => Checksum::Deflate(Adler::default()),
        };
        Self {
            checksum,
            has_begun: false,
        }
    }

    /// The next part of the body, compressed.
    pub fn encode(&mut self, part: &[u8], is_last: bool) -> Vec<u8> {
        let mut encoded = Vec::with_capacity(part.len() / 4 + 32);
        if !std::mem::replace(&mut self.has_begun, true) {
            encoded.extend_from_slice(match self.checksum {
                // No flags, no time, the fastest level, an unknown system.
                Checksum::Gzip(_) => &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 0xff][..],
                Checksum::Deflate(_) => &[0x78, 0x01],
            });
        }
        append_deflated(part, &mut encoded);
        match &mut self.checksum {
            Checksum::Gzip(crc) => crc.update(part),
            Checksum::Deflate(adler) => adler.update(part),
        }
        if is_last {
            encoded.extend_from_slice(&END);
            match &self.checksum {
                Checksum::Gzip(crc) => {
                    encoded.extend_from_slice(&crc.sum().to_le_bytes());
                    encoded.extend_from_slice(&crc.amount().to_le_bytes());
                }
                Checksum::Deflate(adler) => encoded.extend_from_slice(&adler.sum().to_be_bytes()),
            }
        }
        encoded
    }
}

/// Inflates one body, part by part: 1 MB may take 60 ms, and others have their turn between two
/// parts.
///
/// ```
/// use antiphon_protocol::content_coding::{ContentCoding, Decoder, Encoder};
///
/// let body = Encoder::new(ContentCoding::Deflate).encode(b"tick tock", true);
/// let mut decoder = Decoder::new(ContentCoding::Deflate, 100);
/// for part in body.chunks(10) {
///     decoder.decode(part)?;
/// }
/// assert_eq!(decoder.finish()?, b"tick tock");
/// # Ok::<_, antiphon_protocol::content_coding::ContentError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    coding: ContentCoding,
    inflater: Decompress,
    inflated: Inflated,
    max: usize,
    has_ended: bool,
}

impl Decoder {
    /// For one body that has at most `max` bytes when it is inflated.
    #[must_use]
    pub fn new(coding: ContentCoding, max: usize) -> Self {
        let inflater = match coding {
            ContentCoding::Gzip => Decompress::new_gzip(15),
            ContentCoding::Deflate => Decompress::new(true),
        };
        Self {
            coding,
            inflater,
            inflated: Inflated::default(),
            max,
            has_ended: false,
        }
    }

    /// Inflates the next part.
    ///
    /// # Errors
    /// [`ContentError::TooBig`] as soon as there are more bytes than there may be,
    /// [`ContentError::Invalid`] for what is no such body. Nothing more can be decoded then.
    pub fn decode(&mut self, mut part: &[u8]) -> Result<(), ContentError> {
        if part.is_empty() {
            return Ok(());
        }
        if !self.has_ended {
            let added = self.inflated.add(&mut self.inflater, &mut part, self.max);
            self.has_ended = added.map_err(|error| match error {
                InflateError::TooBig => ContentError::TooBig { max: self.max },
                InflateError::Invalid => self.invalid(),
            })?;
        }
        match part.is_empty() {
            true => Ok(()),
            // Something follows the end.
            false => Err(self.invalid()),
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// [`ContentError::Invalid`] if its end hasn't come.
    pub fn finish(self) -> Result<Vec<u8>, ContentError> {
        match self.has_ended {
            true => Ok(self.inflated.0),
            false => Err(self.invalid()),
        }
    }

    const fn invalid(&self) -> ContentError {
        ContentError::Invalid(self.coding.as_str())
    }
}

/// The checksum of zlib (RFC 1950 §8.2).
#[derive(Debug)]
struct Adler {
    a: u32,
    b: u32,
}

impl Default for Adler {
    fn default() -> Self {
        Self { a: 1, b: 0 }
    }
}

impl Adler {
    fn update(&mut self, data: &[u8]) {
        // So many bytes overflow neither sum.
        for part in data.chunks(5_552) {
            for byte in part {
                self.a += u32::from(*byte);
                self.b += self.a;
            }
            self.a %= 65_521;
            self.b %= 65_521;
        }
    }

    const fn sum(&self) -> u32 {
        self.b << 16 | self.a
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use flate2::{Compression, read, write};
    use proptest::prelude::*;

    use super::{ContentCoding::*, *};

    fn encoded(coding: ContentCoding, parts: &[Vec<u8>]) -> Vec<u8> {
        let mut encoder = Encoder::new(coding);
        let last = parts.len() - 1;
        let parts = parts.iter().enumerate();
        parts
            .flat_map(|(i, part)| encoder.encode(part, i == last))
            .collect()
    }

    proptest! {
        /// What others read is what was written, however it was cut.
        #[test]
        fn others_read_what_is_written(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2_000), 1..6),
        ) {
            let whole = parts.concat();
            let gzip = encoded(Gzip, &parts);
            let mut inflated = Vec::new();
            read::GzDecoder::new(&gzip[..]).read_to_end(&mut inflated).unwrap();
            prop_assert_eq!(&inflated, &whole);
            let deflate = encoded(Deflate, &parts);
            inflated.clear();
            read::ZlibDecoder::new(&deflate[..]).read_to_end(&mut inflated).unwrap();
            prop_assert_eq!(&inflated, &whole);
            for (coding, body) in [(Gzip, &gzip), (Deflate, &deflate)] {
                prop_assert_eq!(coding.decode(body, whole.len()), Ok(whole.clone()));
            }
        }

        /// A body that comes in parts is what it is in one go, also where it is cut off, changed or
        /// too long.
        #[test]
        fn parts_are_read_as_the_whole(
            data in prop::collection::vec(0..4_u8, 0..2_000),
            part in 1_usize..50,
            max in 0_usize..3_000,
            change in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            end in prop::option::of(any::<prop::sample::Index>()),
        ) {
            for coding in [Gzip, Deflate] {
                let mut body = Encoder::new(coding).encode(&data, true);
                if let Some((place, byte)) = &change {
                    let place = place.index(body.len());
                    body[place] = *byte;
                }
                if let Some(end) = &end {
                    body.truncate(end.index(body.len()));
                }
                let mut decoder = Decoder::new(coding, max);
                let parts = body.chunks(part).try_for_each(|part| decoder.decode(part));
                let in_parts = parts.and_then(|()| decoder.finish());
                // Which of two errors is met first depends on the parts.
                prop_assert_eq!(in_parts.ok(), coding.decode(&body, max).ok());
            }
        }

        #[test]
        fn what_is_no_body_is_refused_without_a_panic(
            body in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            for coding in [Gzip, Deflate] {
                if let Ok(data) = coding.decode(&body, 100) {
                    prop_assert!(data.len() <= 100);
                }
            }
        }
    }

    #[test]
    fn what_others_write_is_read() {
        let text = b"tick tock ".repeat(100);
        let mut gzip = write::GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&text).unwrap();
        assert_eq!(
            Gzip.decode(&gzip.finish().unwrap(), 1_000),
            Ok(text.clone())
        );
        let mut zlib = write::ZlibEncoder::new(Vec::new(), Compression::best());
        zlib.write_all(&text).unwrap();
        assert_eq!(Deflate.decode(&zlib.finish().unwrap(), 1_000), Ok(text));
    }

    #[test]
    fn a_bomb_is_given_up_at_the_bound() {
        let body = encoded(Gzip, &vec![vec![0; 1 << 20]; 10]);
        assert!(body.len() < 200_000);
        assert_eq!(
            Gzip.decode(&body, 1_000),
            Err(ContentError::TooBig { max: 1_000 })
        );
        assert_eq!(Gzip.decode(&body, 0), Err(ContentError::TooBig { max: 0 }));
    }

    #[test]
    fn a_body_is_whole_and_alone() {
        let body = encoded(Gzip, &[b"tick tock".to_vec()]);
        let invalid = Err(ContentError::Invalid("gzip"));
        for end in 0..body.len() {
            assert_eq!(Gzip.decode(&body[..end], 100), invalid, "{end}");
        }
        let twice = [&body[..], &body[..]].concat();
        assert_eq!(Gzip.decode(&twice, 100), invalid);
        let mut wrong = body.clone();
        let checksum = wrong.len() - 8;
        wrong[checksum] ^= 1;
        assert_eq!(Gzip.decode(&wrong, 100), invalid);
        assert_eq!(
            Deflate.decode(&body, 100),
            Err(ContentError::Invalid("deflate"))
        );
    }

    #[test]
    fn a_client_says_what_it_likes() {
        for (header, expected) in [
            ("gzip", Some(Gzip)),
            ("GZip , deflate", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("deflate", Some(Deflate)),
            ("deflate, gzip;q=0.5", Some(Deflate)),
            ("gzip;q=0.2;x=y, deflate;q=0.3", Some(Deflate)),
            ("gzip, deflate, br, zstd", Some(Gzip)),
            ("*", Some(Gzip)),
            ("*;q=0.1, gzip;q=0", Some(Deflate)),
            ("gzip;q=0", None),
            ("gzip;q=x", None),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0, gzip;q=0.5", Some(Gzip)),
            ("br", None),
            ("", None),
        ] {
            assert_eq!(ContentCoding::accepted(header), expected, "{header}");
        }
    }
}
