//! The cookie that a handshake by polling or streaming sets, for load balancers that keep a client
//! on one node.
//!
//! Its value is the session's id, which is the session's credential: hence `HttpOnly` by default.
//! The options own a [`Cookie`]; `http::handshake` writes it. It is never read: a session is found
//! by `sid` alone. Names and paths that could break the header panic where they are set.

use std::fmt::Write as _;

/// A cookie whose value is the session's id, set by the answer to a handshake over polling.
#[derive(Debug, Clone)]
pub struct Cookie {
    name: String,
    path: String,
    http_only: bool,
    secure: bool,
    same_site: SameSite,
}

/// The attribute `SameSite` (RFC 6265bis §5.4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SameSite {
    /// Sent to the same site only.
    Strict,
    /// Sent on top-level navigation too. The default.
    Lax,
    /// Sent always; browsers ask for [`Cookie::secure`] with it.
    None,
}

impl Default for Cookie {
    /// `io`, with path `/`, `HttpOnly` and `SameSite=Lax`.
    fn default() -> Self {
        Self::named("io")
    }
}

impl Cookie {
    /// A cookie of this name, otherwise as [`Cookie::default`].
    ///
    /// # Panics
    /// If the name isn't made of letters, digits, `-` and `_`.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        let name = name.into();
        assert!(
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')),
            "the cookie name {name:?} must be made of letters, digits, - and _"
        );
        Self {
            name,
            path: "/".to_owned(),
            http_only: true,
            secure: false,
            same_site: SameSite::Lax,
        }
    }

    /// The path for which browsers send it.
    ///
    /// # Panics
    /// If the path doesn't begin with `/` or contains `;` or a control character.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        assert!(
            self.path.starts_with('/')
                && !self
                    .path
                    .contains(|c: char| c == ';' || !c.is_ascii_graphic()),
            "the cookie path {:?} must begin with / and be plain ASCII",
            self.path
        );
        self
    }

    /// Whether scripts of the page are kept from reading it.
    #[must_use]
    pub const fn http_only(mut self, http_only: bool) -> Self {
        self.http_only = http_only;
        self
    }

    /// Whether it is sent over HTTPS only.
    #[must_use]
    pub const fn secure(mut self, secure: bool) -> Self {
        self.secure = secure;
        self
    }

    /// To which sites it is sent.
    #[must_use]
    pub const fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }

    /// The header `Set-Cookie` for a session.
    pub(crate) fn header(&self, session: &str) -> String {
        let same_site = match self.same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        };
        let mut header = format!("{}={session}; Path={}", self.name, self.path);
        if self.http_only {
            header.push_str("; HttpOnly");
        }
        if self.secure {
            header.push_str("; Secure");
        }
        // Writing to a string can't fail.
        let _ = write!(header, "; SameSite={same_site}");
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_names_every_attribute() {
        assert_eq!(
            Cookie::default().header("abc"),
            "io=abc; Path=/; HttpOnly; SameSite=Lax"
        );
        let cookie = Cookie::named("s").path("/x").http_only(false).secure(true);
        assert_eq!(
            cookie.same_site(SameSite::None).header("abc"),
            "s=abc; Path=/x; Secure; SameSite=None"
        );
    }
}
