//! How much work a sender of compressed messages makes of them.

/// How much work is made of compressing a message: from [`FASTEST`](Self::FASTEST), which is the
/// default, to [`SMALLEST`](Self::SMALLEST). Receivers can't tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    /// 1: on JSON of 0.4 to 12 KB a quarter to a third of level 6's time, for 14 to 43 % more bytes.
    pub const FASTEST: Self = Self(1);

    /// 9.
    pub const SMALLEST: Self = Self(9);

    /// The level of this number, as zlib counts them. Returns `None` if it isn't from 1 to 9.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        match number {
            1..=9 => Some(Self(number)),
            _ => None,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl Default for Level {
    fn default() -> Self {
        Self::FASTEST
    }
}
