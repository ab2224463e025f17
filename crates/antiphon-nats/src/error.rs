//! What can be wrong with a NATS server, in the words of whoever runs it, and what to do about it.
//!
//! A server says what is wrong in a line of text: [`Complaint`] is what such a line means.

/// What is wrong with the NATS server, and what to do about it.
///
/// No text contains a password or a token: URLs are told without them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL isn't one of a NATS server.
    #[error(
        "the URL isn't understood: {problem}. Write it like nats://127.0.0.1, \
         nats://user:password@host:4222, nats://token@host, tls://host, or several with commas between \
         them"
    )]
    Url {
        /// What is wrong with it.
        problem: String,
    },
    /// The URL asks for TLS, or the server does, and this program has been built without.
    #[error("NATS at {address} wants TLS: build with the feature `tls` of antiphon-nats")]
    NoTls {
        /// Host and port.
        address: String,
    },
    /// What was given as a key isn't one.
    #[error(
        "the key isn't understood: {problem}. An NKEY is the seed of a user, SU.., and credentials \
         are the text of a .creds file"
    )]
    Key {
        /// What is wrong with it.
        problem: String,
    },
    /// There is no connection to its address.
    #[error("NATS at {address} can't be reached: {problem}. See whether it runs and listens there")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the system says.
        problem: String,
    },
    /// It has closed the connection.
    #[error(
        "NATS at {address} has closed the connection: it was stopped, or this server read too \
         slowly for its max_pending and write_deadline. Its log says which"
    )]
    Closed {
        /// Host and port.
        address: String,
    },
    /// It takes too long to answer.
    #[error(
        "NATS at {address} hasn't answered in {seconds} s: it hangs, it is overloaded, or the \
         network is cut"
    )]
    Silent {
        /// Host and port.
        address: String,
        /// So long it was waited for.
        seconds: u64,
    },
    /// User, password or token are wrong, or it wants some and the URL has none.
    #[error(
        "NATS at {address} refuses the login: {answer}. Put the right user and password into the \
         URL (nats://user:password@host), or the token (nats://token@host), or give it a key \
         (NatsBuilder::nkey, NatsBuilder::credentials)"
    )]
    Login {
        /// Host and port.
        address: String,
        /// What it says.
        answer: String,
    },
    /// Its user lacks a right.
    #[error(
        "NATS at {address} doesn't allow its user enough: {answer}. This is needed: permissions {{ \
         publish: \"{subjects}\", subscribe: \"{subjects}\" }}"
    )]
    Forbidden {
        /// Host and port.
        address: String,
        /// What it says.
        answer: String,
        /// What it has to be allowed.
        subjects: String,
    },
    /// Its user lacks the right to JetStream.
    #[error(
        "NATS at {address} doesn't allow its user to use JetStream, in which servers share logs: \
         {answer}. This is needed: permissions {{ publish: [\"{subjects}\", \"$JS.API.>\"], \
         subscribe: \"{subjects}\" }}; or go without shared logs, by \
         NatsBuilder::jetstream(false) on all servers"
    )]
    ForbiddenJetStream {
        /// Host and port.
        address: String,
        /// What it says.
        answer: String,
        /// What it has to be allowed besides.
        subjects: String,
    },
    /// It has no JetStream, and [`NatsBuilder::jetstream`](crate::NatsBuilder::jetstream) wants it.
    #[error(
        "NATS at {address} has no JetStream: start it with -js and a folder (-sd), or go without \
         shared logs, by NatsBuilder::jetstream(false) on all servers"
    )]
    NoJetStream {
        /// Host and port.
        address: String,
    },
    /// JetStream can't store just now.
    #[error(
        "JetStream of NATS at {address} doesn't store: {answer}. It is tried again; if that goes \
         on, see whether its disk is slow, and whether its streams have a leader"
    )]
    NotStored {
        /// Host and port.
        address: String,
        /// What it says, or that it says nothing.
        answer: String,
    },
    /// What listens there speaks another protocol.
    #[error("what listens at {address} is no NATS server: it says {answer}")]
    NotNats {
        /// Host and port.
        address: String,
        /// The beginning of what it says.
        answer: String,
    },
    /// It answers with another error.
    #[error("NATS at {address} answers: {answer}")]
    Other {
        /// Host and port.
        address: String,
        /// What it says.
        answer: String,
    },
}

/// What a server's error is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Complaint<'a> {
    /// A frame under this subject wasn't published.
    Publish(&'a str),
    Subscription,
    Login,
    Other,
}

impl<'a> Complaint<'a> {
    /// What the text of an error means: the protocol has no codes.
    pub(crate) fn of(text: &'a str) -> Self {
        let lower = text.to_ascii_lowercase();
        match () {
            () if lower.starts_with("permissions violation for publish to ") => {
                Self::Publish(text.split('"').nth(1).unwrap_or_default())
            }
            () if lower.starts_with("permissions violation for subscription to ") => {
                Self::Subscription
            }
            () if lower.contains("authorization violation") || lower.contains("authentication") => {
                Self::Login
            }
            () => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_by_their_texts() {
        for (text, complaint) in [
            (
                "Permissions Violation for Publish to \"a.b\"",
                Complaint::Publish("a.b"),
            ),
            (
                "Permissions Violation for Subscription to \"a.b\"",
                Complaint::Subscription,
            ),
            ("Authorization Violation", Complaint::Login),
            ("User Authentication Expired", Complaint::Login),
            ("Maximum Connections Exceeded", Complaint::Other),
        ] {
            assert_eq!(Complaint::of(text), complaint);
        }
    }
}
