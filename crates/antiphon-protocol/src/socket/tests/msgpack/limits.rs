//! The limits of texts hold for messages, and at the same places.

use super::super::super::{DecodeError, Limits};
use super::{text, text_within, value, value_within};

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

#[test]
fn depth() {
    for (limit, levels) in [(100, 100), (1, 1), (2, 2), (u8::MAX, 127)] {
        let limits = limits(|it| it.depth = limit);
        // The list of arguments is the first level.
        let arrays = |count: u8| [&vec![0x91; usize::from(count)][..], b"\xc0"].concat();
        let maps = |count: u8| [b"\x81\xa1a".repeat(usize::from(count)), b"\xc0".to_vec()].concat();
        for nested in [arrays, maps as fn(u8) -> Vec<u8>] {
            assert!(
                value_within(&limits, &nested(levels - 1)).is_ok(),
                "{limit}"
            );
            assert_eq!(
                value_within(&limits, &nested(levels)),
                Err(DecodeError::TooDeep {
                    limit: limit.into()
                }),
            );
        }
        let connect = |count| [b"\x83\xa4type\x00\xa3nsp\xa1/\xa4data", &maps(count)[..]].concat();
        assert!(text_within(&limits, &connect(levels)).is_ok());
        assert!(text_within(&limits, &connect(levels + 1)).is_err());
    }
    let limits = limits(|it| it.depth = 0);
    assert!(value_within(&limits, b"\x01").is_err());
}

#[test]
fn a_million_levels_are_refused_early() {
    let levels = vec![0x91; 1_000_000];
    assert_eq!(value(&levels), Err(DecodeError::TooDeep { limit: 100 }));
    // What is skipped takes no memory, however deep it is.
    let skipped = [b"\x83\xa4type\x01\xa3nsp\xa1/\xa1x", &levels[..], b"\xc0"].concat();
    assert_eq!(text(&skipped).as_deref(), Ok("1"));
}

#[test]
fn values() {
    // The name, the map and five values in it, of which one is a list.
    let five = b"\x84\xa1a\x01\xa1b\x91\x02\xa1c\xc0\xa1d\xa0";
    assert!(value_within(&limits(|it| it.values = 7), five).is_ok());
    assert_eq!(
        value_within(&limits(|it| it.values = 6), five),
        Err(DecodeError::TooManyValues { limit: 6 }),
    );
    // It is the same number for a text.
    let text = r#"2["e",{"a":1,"b":[2],"c":null,"d":""}]"#;
    for (values, fits) in [(7, true), (6, false)] {
        let limits = limits(|it| it.values = values);
        let mut decoder = super::Decoder::new(super::Revision::V4, limits);
        assert_eq!(decoder.text(text).is_ok(), fits, "{values}");
    }
}

#[test]
fn attachments() {
    let many = |count: u8| {
        let values = b"\xc4\x00".repeat(count.into());
        [&[0x90 | count][..], &values].concat()
    };
    assert!(value(&many(10)).is_ok());
    assert_eq!(
        value(&many(11)),
        Err(DecodeError::TooManyAttachments { limit: 10 }),
    );
    let limits = limits(|it| it.attachments = 0);
    assert!(value_within(&limits, &many(0)).is_ok());
    assert!(value_within(&limits, &many(1)).is_err());
}

#[test]
fn the_namespace() {
    let connect = |length: usize| {
        let name = format!("/{}", "a".repeat(length - 1));
        let mut message = b"\x82\xa4type\x00\xa3nsp\xda".to_vec();
        message.extend((length as u16).to_be_bytes());
        [message, name.into_bytes()].concat()
    };
    assert!(text(&connect(256)).is_ok());
    assert_eq!(
        text(&connect(257)),
        Err(DecodeError::NamespaceTooLong { limit: 256 }),
    );
}

#[test]
fn the_name_of_an_event() {
    let event = |length: u16| {
        let mut message = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xda".to_vec();
        message.extend(length.to_be_bytes());
        [message, vec![b'a'; length.into()]].concat()
    };
    assert!(text(&event(1024)).is_ok());
    assert_eq!(
        text(&event(1025)),
        Err(DecodeError::EventNameTooLong { limit: 1024 }),
    );
}

#[test]
fn the_id() {
    let event = |id: u64| {
        let message = b"\x84\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xa1e\xa2id\xcf";
        [&message[..], &id.to_be_bytes()].concat()
    };
    let text_of = |id| text(&event(id));
    assert_eq!(text_of(0).as_deref(), Ok(r#"20["e"]"#));
    assert_eq!(
        text_of(999_999_999_999_999).as_deref(),
        Ok(r#"2999999999999999["e"]"#),
    );
    assert_eq!(
        text_of(1_000_000_000_000_000),
        Err(DecodeError::AckIdTooLong { limit: 15 }),
    );
    let any = limits(|it| it.ack_digits = 20);
    assert!(text_within(&any, &event(u64::MAX)).is_ok());
    let none = limits(|it| it.ack_digits = 0);
    assert!(text_within(&none, &event(0)).is_err());
}

/// A length is no reason to take memory, nor time.
#[test]
fn declared_lengths() {
    for head in [
        &b"\xdd\xff\xff\xff\xff"[..],
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x00",
        b"\xdc\xff\xff",
        b"\xde\xff\xff",
        b"\xda\xff\xff",
        b"\xc5\xff\xff",
        b"\xc8\xff\xff\x00",
    ] {
        let refused = |result| matches!(result, Err(DecodeError::InvalidMsgpack { .. }));
        assert!(refused(value(head)), "{head:x?}");
        assert!(refused(text(head)), "{head:x?}");
        let skipped = [b"\x83\xa4type\x01\xa3nsp\xa1/\xa1x", head].concat();
        assert!(refused(text(&skipped)), "{head:x?}");
    }
}
