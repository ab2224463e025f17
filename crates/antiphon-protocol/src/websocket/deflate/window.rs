//! How far back a sender of compressed messages may refer.

/// How far back a sender of compressed messages may refer, which its receiver has to remember.
///
/// Agreed on by [`negotiate`](super). Frames that were compressed for a smaller window may
/// go to receivers with a larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// 512 bytes.
    Bits9,
    /// 4 KiB.
    Bits12,
    /// 32 KiB, if the receiver doesn't ask for less.
    Bits15,
}

impl Window {
    /// The base-2 logarithm of the window's bytes.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Bits9 => 9,
            Self::Bits12 => 12,
            Self::Bits15 => 15,
        }
    }

    /// The window of so many [`bits`](Self::bits). Returns `None` if there is no such window.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            9 => Some(Self::Bits9),
            12 => Some(Self::Bits12),
            15 => Some(Self::Bits15),
            _ => None,
        }
    }
}
