//! An application's own refusal of a request: by `allow_request`, or by a request middleware.
//!
//! A [`Denial`] is made by the application and turned into a response by `response::refuse`. What
//! its client is told is the application's word; an error that it keeps for itself is logged once.

use std::fmt;

use http::StatusCode;

/// Why an application refuses a request: what its client is told.
///
/// By default that is code 4 with the status 403 and a message:
///
/// ```
/// use antiphon::{Denial, Server};
/// use http::StatusCode;
///
/// let io = Server::builder()
///     .allow_request(async |request| match request.headers.get("x-api-key") {
///         None => Err("the header X-Api-Key is missing".into()),
///         Some(key) if key != "secret" => {
///             Err(Denial::new("wrong key").code(1_001).status(StatusCode::UNAUTHORIZED))
///         }
///         Some(_) => Ok(()),
///     })
///     .build();
/// ```
///
/// What an error says may be for the server's log alone:
///
/// ```
/// use antiphon::{Denial, Server};
///
/// # async fn find_user(_: http::request::Parts) -> std::io::Result<()> { Ok(()) }
/// let io = Server::builder()
///     .allow_request(async |request| {
///         let _user = find_user(request).await.map_err(Denial::hide)?;
///         Ok(())
///     })
///     .build();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    code: u32,
    status: StatusCode,
    message: String,
}

impl Denial {
    /// A refusal with this message for the client. To show an error, pass its text.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            code: 4,
            status: StatusCode::FORBIDDEN,
            message: message.into(),
        }
    }

    /// A refusal that tells the client `Forbidden` and no more. The cause is logged (`info`).
    #[must_use]
    pub fn hide(cause: impl fmt::Display) -> Self {
        tracing::info!(%cause, "the application refuses a request");
        Self::new("Forbidden")
    }

    /// The code for programs, in the body. 4; those of Engine.IO are 0 to 5.
    #[must_use]
    pub const fn code(mut self, code: u32) -> Self {
        self.code = code;
        self
    }

    /// The status of the response. 403.
    ///
    /// # Panics
    /// If it isn't one of an error: clients would take the refusal for a handshake.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        assert!(
            status.is_client_error() || status.is_server_error(),
            "a request that is refused with the status {status} looks as if it were allowed: use one \
             from 400 on, as StatusCode::UNAUTHORIZED"
        );
        self.status = status;
        self
    }

    pub(super) const fn its_code(&self) -> u32 {
        self.code
    }

    pub(super) const fn its_status(&self) -> StatusCode {
        self.status
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<&str> for Denial {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<String> for Denial {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "StatusCode::UNAUTHORIZED")]
    fn a_refusal_has_the_status_of_an_error() {
        let _ = Denial::new("no").status(StatusCode::OK);
    }

    #[test]
    fn a_hidden_cause_is_not_told() {
        assert_eq!(
            Denial::hide("the password is wrong").to_string(),
            "Forbidden"
        );
    }
}
