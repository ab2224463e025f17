//! The cookie that a handshake by polling or streaming sets, for load balancers that keep a client
//! on one node.
//!
//! Its value is the session's id, which is the session's credential: hence `HttpOnly` by default.
//! The options own a [`Cookie`]; `http::handshake` writes it. It is never read: a session is found
//! by `sid` alone. Names and paths that could break the header panic where they are set.

use std::{fmt::Write as _, time::Duration};

/// A cookie whose value is the session's id, set by the answer to a handshake over polling.
#[derive(Debug, Clone)]
pub struct Cookie {
    name: String,
    /// `None`: that of the request.
    path: Option<String>,
    domain: Option<String>,
    max_age: Option<Duration>,
    http_only: bool,
    secure: bool,
    same_site: SameSite,
    partitioned: bool,
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
            path: Some("/".to_owned()),
            domain: None,
            max_age: None,
            http_only: true,
            secure: false,
            same_site: SameSite::Lax,
            partitioned: false,
        }
    }

    /// The path for which browsers send it.
    ///
    /// # Panics
    /// If the path doesn't begin with `/` or contains `;` or a control character.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        let path = path.into();
        assert!(
            path.starts_with('/') && !path.contains(|c: char| c == ';' || !c.is_ascii_graphic()),
            "the cookie path {path:?} must begin with / and be plain ASCII"
        );
        self.path = Some(path);
        self
    }

    /// Says no path: browsers send it for the path of the server alone.
    #[must_use]
    pub fn no_path(mut self) -> Self {
        self.path = None;
        self
    }

    /// The domain for which, and below which, browsers send it. By default they send it to the host
    /// that has set it alone.
    ///
    /// # Panics
    /// If it isn't the name of a host, in plain ASCII and without a port.
    #[must_use]
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        let domain = domain.into();
        let labels = domain.strip_prefix('.').unwrap_or(&domain).split('.');
        let is_label = |label: &str| {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            !label.is_empty() && label.bytes().all(is_part)
        };
        assert!(
            labels.into_iter().all(is_label),
            "the cookie domain {domain:?} must be the name of a host, as \"app.example\": without \
             scheme, port and path, and in its form `xn--..` if it isn't plain ASCII"
        );
        self.domain = Some(domain);
        self
    }

    /// How long browsers keep it. By default until they are closed. The session ends with its
    /// connection all the same.
    ///
    /// # Panics
    /// For less than a second: browsers would forget it at once.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        assert!(
            age.as_secs() > 0,
            "a cookie that is kept for less than a second is never sent: leave `max_age` out for one \
             that is kept until the browser is closed"
        );
        self.max_age = Some(age);
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

    /// Keeps it apart for each site in whose pages the server's are embedded (CHIPS), which browsers
    /// do for cookies over HTTPS alone: sets [`secure`](Self::secure), too.
    #[must_use]
    pub const fn partitioned(mut self) -> Self {
        self.partitioned = true;
        self.secure = true;
        self
    }

    /// The header `Set-Cookie` for a session.
    pub(crate) fn header(&self, session: &str) -> String {
        let same_site = match self.same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        };
        let mut header = format!("{}={session}", self.name);
        // Writing to a string can't fail.
        if let Some(domain) = &self.domain {
            let _ = write!(header, "; Domain={domain}");
        }
        if let Some(path) = &self.path {
            let _ = write!(header, "; Path={path}");
        }
        if let Some(age) = self.max_age {
            let _ = write!(header, "; Max-Age={}", age.as_secs());
        }
        if self.http_only {
            header.push_str("; HttpOnly");
        }
        if self.secure {
            header.push_str("; Secure");
        }
        let _ = write!(header, "; SameSite={same_site}");
        if self.partitioned {
            header.push_str("; Partitioned");
        }
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
        let cookie = Cookie::named("s").no_path().domain("app.example");
        let cookie = cookie.max_age(Duration::from_secs(3_600)).partitioned();
        assert_eq!(
            cookie.header("abc"),
            "s=abc; Domain=app.example; Max-Age=3600; HttpOnly; Secure; SameSite=Lax; Partitioned"
        );
    }

    #[test]
    fn a_domain_is_the_name_of_a_host() {
        for domain in [
            "app.example",
            ".app.example",
            "localhost",
            "xn--mnchen-3ya.example",
        ] {
            let _ = Cookie::default().domain(domain);
        }
        for bad in [
            "",
            ".",
            "https://app.example",
            "app.example:80",
            "a;b",
            "m\u{fc}nchen",
        ] {
            let panicked = std::panic::catch_unwind(|| Cookie::default().domain(bad));
            assert!(panicked.is_err(), "{bad}");
        }
    }

    #[test]
    #[should_panic(expected = "leave `max_age` out")]
    fn a_cookie_is_kept_for_some_time() {
        let _ = Cookie::default().max_age(Duration::ZERO);
    }
}
