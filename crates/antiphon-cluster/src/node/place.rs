//! The places of a stream's entries: a Redis gives each an id of two numbers, a time and a count, and
//! recovery has one number.

/// So many of the lower bits of a place count the entries of a millisecond.
const COUNT: u32 = 22;

/// The place of an entry: a number that is higher for each later one. Returns `None` if this is no id
/// that a Redis has given.
pub(crate) fn place_of(id: &str) -> Option<u64> {
    let (time, count) = id.split_once('-')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(time) || !digits(count) {
        return None;
    }
    let (time, count): (u64, u64) = (time.parse().ok()?, count.parse().ok()?);
    let fits = time < 1 << (u64::BITS - COUNT) && count < 1 << COUNT;
    fits.then_some(time << COUNT | count)
}

/// The id of the entry with this place, which clients know as their offset.
pub(crate) fn id_of(place: u64) -> String {
    format!("{}-{}", millis_of(place), place & ((1 << COUNT) - 1))
}

/// When it was appended, in milliseconds since the epoch of UNIX.
pub(crate) const fn millis_of(place: u64) -> u64 {
    place >> COUNT
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_are_ids_and_have_their_order(one: u64, other: u64) {
            prop_assert_eq!(place_of(&id_of(one)), Some(one));
            let parts = |place| {
                let id = id_of(place);
                let (time, count) = id.split_once('-').unwrap();
                (time.parse::<u64>().unwrap(), count.parse::<u64>().unwrap())
            };
            prop_assert_eq!(one.cmp(&other), parts(one).cmp(&parts(other)));
        }
    }

    #[test]
    fn what_is_no_id_of_a_redis_has_no_place() {
        assert_eq!(
            place_of("1700000000000-3").map(id_of).as_deref(),
            Some("1700000000000-3")
        );
        for id in [
            "",
            "1",
            "1-",
            "-1",
            "+1-1",
            "1-a",
            "4398046511104-0",
            "1-4194304",
        ] {
            assert_eq!(place_of(id), None, "{id}");
        }
    }
}
