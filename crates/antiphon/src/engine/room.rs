//! Room for what a client has announced, and only begun to send.

/// So many bytes are reserved for an announcement alone.
const FREE: usize = 64 << 10;

/// By so much memory grows in one step: so what it may have is this many times what has come, and a
/// step that copies needs a quarter more at the most.
const FACTOR: usize = 4;

/// The capacity of a buffer for `length` bytes, of which `come` have come: at least one more, and
/// all of them in the end.
///
/// What was announced is believed as far as it costs little. The steps end at `length`, so that
/// nothing is left over.
pub(crate) fn room(length: usize, come: usize) -> usize {
    let mut room = length;
    while room / FACTOR > come.max(FREE / FACTOR - 1) {
        room /= FACTOR;
    }
    room.max(come)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_few_times_what_has_come(length in 1_usize..1 << 40, come: usize) {
            let come = come % length;
            let room = room(length, come);
            prop_assert!(come < room && room <= length);
            prop_assert!(room <= FREE.max((come + 1) * FACTOR) + FACTOR);
        }

        #[test]
        fn steps_end_at_the_length_and_copy_a_third_of_it(length in 1_usize..1 << 40) {
            let (mut capacity, mut copied) = (0, 0);
            while capacity < length {
                copied += capacity;
                capacity = room(length, capacity);
            }
            prop_assert_eq!(capacity, length);
            prop_assert!(copied <= length.div_ceil(3));
        }
    }

    #[test]
    fn an_announcement_alone_is_worth_little() {
        for length in [1, 1_000, FREE, FREE + 1, 50_000_000, usize::MAX] {
            assert!(room(length, 0) <= FREE.min(length));
        }
    }
}
