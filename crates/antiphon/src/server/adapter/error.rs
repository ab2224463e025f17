//! Why an adapter could not do what it was asked.

/// Why an adapter could not do what it was asked. The sockets of this server have got their part
/// all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// So many other servers have not answered in time, and the adapter knows no names. Where it
    /// knows them, they are in the result.
    #[error(
        "only {} of {of} other servers have answered in time: see whether they run, or wait longer",
        of.saturating_sub(*count)
    )]
    Missing {
        /// How many are missing.
        count: usize,
        /// How many were asked.
        of: usize,
    },
    /// The adapter has not answered in time at all.
    #[error("the adapter has not answered in time: see its log, or wait longer")]
    NoAnswer,
    /// What connects the servers can't be reached.
    #[error("other servers can't be reached: {reason}")]
    Unreachable {
        /// What has failed, and what to do about it.
        reason: String,
    },
    /// Too much waits to be sent to other servers already.
    #[error("too much waits to be sent to other servers: emit less, or try again later")]
    Full,
    /// The event is larger than what connects the servers takes.
    #[error("{bytes} bytes are too large for other servers, which take {limit}: send less at once")]
    TooLarge {
        /// The size, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The server has been closed.
    #[error("the adapter has been closed, as its server has")]
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_by_how_many_of_how_many_have_answered() {
        let text = AdapterError::Missing { count: 2, of: 3 }.to_string();
        assert!(text.starts_with("only 1 of 3 other servers"), "{text}");
    }
}
