//! Points in time as JavaScript writes them into JSON: `new Date(0).toISOString()` is
//! `1970-01-01T00:00:00.000Z`.

use std::io::Write as _;

/// The last millisecond that a `Date` of JavaScript can be, and the first with a minus.
const LAST: i64 = 8_640_000_000_000_000;

const DAY: i64 = 86_400_000;

/// Days of 400 years, after which the calendar repeats itself.
const CYCLE: i64 = 146_097;

/// Days from 1 March of the year 0, where leap days are the last of their years, to 1970.
const TO_1970: i64 = 719_468;

/// The milliseconds since 1970 of a timestamp of MessagePack: the data of its extension -1. `None`
/// if it is none.
pub(super) fn of_timestamp(data: &[u8]) -> Option<i64> {
    let (seconds, nanos) = if let Ok(seconds) = data.try_into() {
        (u32::from_be_bytes(seconds).into(), 0)
    } else if let Ok(both) = data.try_into().map(u64::from_be_bytes) {
        ((both & ((1 << 34) - 1)).cast_signed(), both >> 34)
    } else {
        let (nanos, seconds) = data.split_first_chunk()?;
        let seconds = i64::from_be_bytes(seconds.try_into().ok()?);
        (seconds, u32::from_be_bytes(*nanos).into())
    };
    let millis = i64::try_from(nanos / 1_000_000)
        .ok()
        .filter(|it| *it < 1000)?;
    // What saturates is as far beyond the years of JavaScript as what doesn't.
    Some(seconds.saturating_mul(1000).saturating_add(millis))
}

/// Appends the time as a string of JSON, or `null` if it is beyond what JavaScript can say.
///
/// `millis` are milliseconds since 1970 in UTC.
pub(super) fn write(millis: i64, text: &mut Vec<u8>) {
    if !(-LAST..=LAST).contains(&millis) {
        text.extend_from_slice(b"null");
        return;
    }
    let (year, month, day) = date(millis.div_euclid(DAY));
    let millis = millis.rem_euclid(DAY);
    let (hour, minute) = (millis / 3_600_000, millis / 60_000 % 60);
    let (second, millis) = (millis / 1000 % 60, millis % 1000);
    // A vector takes whatever is written to it.
    let _ = match year {
        0..=9999 => write!(text, "\"{year:04}"),
        _ => write!(text, "\"{year:+07}"),
    };
    let _ = write!(
        text,
        "-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z\""
    );
}

/// The year, month and day of this day since 1970 in the Gregorian calendar.
fn date(day: i64) -> (i64, i64, i64) {
    let day = day + TO_1970;
    let cycle = day.div_euclid(CYCLE);
    let day = day.rem_euclid(CYCLE);
    // Days without the leap days before them: one in 4 years, none in 100, one in 400.
    let without = day - day / 1460 + day / 36_524 - day / 146_096;
    let year = without / 365;
    let day = day - (year * 365 + year / 4 - year / 100);
    // From March on, five months have 153 days.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let is_next_year = month >= 10;
    let month = if is_next_year { month - 9 } else { month + 3 };
    (cycle * 400 + year + i64::from(is_next_year), month, day)
}

#[cfg(test)]
mod tests {
    use super::{LAST, TO_1970, date, of_timestamp, write};

    fn text(millis: i64) -> String {
        let mut text = Vec::new();
        write(millis, &mut text);
        String::from_utf8(text).unwrap()
    }

    /// What Node 20 says.
    #[test]
    fn as_javascript_writes_it() {
        for (millis, expected) in [
            (0, r#""1970-01-01T00:00:00.000Z""#),
            (-1, r#""1969-12-31T23:59:59.999Z""#),
            (951_782_400_000, r#""2000-02-29T00:00:00.000Z""#),
            (951_868_799_999, r#""2000-02-29T23:59:59.999Z""#),
            (4_107_542_400_000, r#""2100-03-01T00:00:00.000Z""#),
            (1_764_117_296_789, r#""2025-11-26T00:34:56.789Z""#),
            (253_402_300_799_999, r#""9999-12-31T23:59:59.999Z""#),
            (253_402_300_800_000, r#""+010000-01-01T00:00:00.000Z""#),
            (-62_167_219_200_000, r#""0000-01-01T00:00:00.000Z""#),
            (-62_167_219_200_001, r#""-000001-12-31T23:59:59.999Z""#),
            (LAST, r#""+275760-09-13T00:00:00.000Z""#),
            (-LAST, r#""-271821-04-20T00:00:00.000Z""#),
            (LAST + 1, "null"),
            (-LAST - 1, "null"),
            (i64::MAX, "null"),
            (i64::MIN, "null"),
        ] {
            assert_eq!(text(millis), expected, "{millis}");
        }
    }

    #[test]
    fn timestamps() {
        for (data, millis) in [
            (&b"\x00\x00\x00\x01"[..], Some(1000)),
            (b"\xff\xff\xff\xff", Some(4_294_967_295_000)),
            // 30 bits of nanoseconds, 34 of seconds.
            (b"\xee\x6b\x27\xfc\x00\x00\x00\x01", Some(1999)),
            (
                b"\x00\x00\x00\x03\xff\xff\xff\xff",
                Some(17_179_869_183_000),
            ),
            (
                b"\x3b\x9a\xc9\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                Some(-1),
            ),
            (
                b"\x00\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff",
                Some(i64::MAX),
            ),
            // A whole second of nanoseconds.
            (b"\xee\x6b\x28\x00\x00\x00\x00\x01", None),
            (b"\x3b\x9a\xca\x00\x00\x00\x00\x00\x00\x00\x00\x00", None),
            (b"", None),
            (b"\x00", None),
            (b"\x00\x00\x00\x00\x01", None),
        ] {
            assert_eq!(of_timestamp(data), millis, "{data:x?}");
        }
    }

    /// The day after each day is the next one of the calendar, for more than 500 years from the
    /// year -3.
    #[test]
    fn days_follow_each_other() {
        let first = -TO_1970 - 1000;
        let (mut year, mut month, mut day) = date(first);
        assert_eq!((year, month, day), (-3, 6, 5));
        for number in first..first + 200_000 {
            let is_leap = year % 4 == 0 && year % 100 != 0 || year % 400 == 0;
            let days = match month {
                2 if is_leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            assert_eq!(date(number), (year, month, day));
            day += 1;
            if day > days {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}
