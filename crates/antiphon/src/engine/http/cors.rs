//! Which web pages may connect.
//!
//! The same rule guards long-polling (by the CORS headers that a browser asks for) and WebSocket
//! (which browsers open to any server, so the server must look at `Origin` itself).

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, header};

use super::origin::{self, Origin};

/// Which origins may connect, beside programs that send no `Origin`.
///
/// By default only pages of the same origin: those whose `Origin` names the host and port that the
/// request was sent to (`Host`, or `X-Forwarded-Host` behind a proxy; a page of another origin
/// can't set either). `ws` and `http` are one scheme, so are `wss` and `https`, and a port that
/// isn't named is the scheme's own.
#[derive(Debug, Clone)]
pub struct Cors {
    origins: Origins,
    credentials: bool,
    max_age: Duration,
}

#[derive(Clone)]
enum Origins {
    Same,
    Any,
    Listed(Vec<String>),
    Matching(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("Same"),
            Self::Any => f.write_str("Any"),
            Self::Listed(listed) => f.debug_tuple("Listed").field(listed).finish(),
            Self::Matching(_) => f.write_str("Matching(..)"),
        }
    }
}

impl Default for Cors {
    fn default() -> Self {
        Self::same_origin()
    }
}

impl Cors {
    /// Only pages of the same origin. The default.
    #[must_use]
    pub const fn same_origin() -> Self {
        Self::new(Origins::Same)
    }

    /// Pages of every origin, without cookies. For public services and for trying things out.
    #[must_use]
    pub const fn any() -> Self {
        Self::new(Origins::Any)
    }

    /// Pages of the same origin and of these, such as `https://example.com`.
    ///
    /// What is no web origin can stand in the list as it is sent: `capacitor://localhost` of an
    /// app, `file://` of a page without a server or of an ESP32, `null`, and `*`, which a PHP
    /// client sends. Mind that `null` is every page that is put into a sandboxed frame, whoever
    /// made it.
    ///
    /// ```
    /// use antiphon::Cors;
    ///
    /// let cors = Cors::origins(["https://app.example", "http://localhost:5173", "file://"]);
    /// ```
    ///
    /// # Panics
    /// For an origin that could never match, such as one with a path, with a `*` in its host, or
    /// with the port that its scheme has anyway. For `"*"` alone: that is [`Cors::any`].
    #[must_use]
    pub fn origins<O: AsRef<str>>(origins: impl IntoIterator<Item = O>) -> Self {
        let listed: Vec<_> = origins
            .into_iter()
            .map(|origin| origin.as_ref().to_owned())
            .collect();
        assert!(
            listed != ["*"],
            "the origin \"*\" in a list is the text that some programs send, and no page: for pages of \
             every origin use Cors::any()"
        );
        for origin in &listed {
            if let Err(why) = origin::check_listed(origin) {
                panic!("the origin {origin:?} {why}");
            }
        }
        Self::new(Origins::Listed(listed))
    }

    /// Pages of the same origin and those for whose `Origin`, as it was sent, `allow` returns true.
    /// An `Origin` that isn't plain ASCII is refused unasked. `allow` is called for each request,
    /// and must not block.
    ///
    /// ```
    /// use antiphon::Cors;
    ///
    /// let cors = Cors::matching(|origin| {
    ///     let host = origin.strip_prefix("https://").unwrap_or_default();
    ///     host == "app.example" || host.ends_with(".app.example")
    /// });
    /// ```
    #[must_use]
    pub fn matching(allow: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self::new(Origins::Matching(Arc::new(allow)))
    }

    /// Lets pages send their cookies along (`withCredentials` of the client).
    ///
    /// # Panics
    /// For [`Cors::any`]: browsers refuse cookies for any origin, so list the origins.
    #[must_use]
    pub fn with_credentials(mut self) -> Self {
        assert!(
            !matches!(self.origins, Origins::Any),
            "credentials can't be allowed for any origin: list them with Cors::origins, or choose them \
             with Cors::matching"
        );
        self.credentials = true;
        self
    }

    const fn new(origins: Origins) -> Self {
        Self {
            origins,
            credentials: false,
            max_age: Duration::from_secs(600),
        }
    }

    /// Whether a request with these headers may connect.
    pub(crate) fn allows(&self, headers: &HeaderMap) -> bool {
        match headers.get(header::ORIGIN) {
            Some(origin) => self.permits(origin, headers),
            None => true,
        }
    }

    /// Whether the page with this origin may send a request with these headers.
    pub(crate) fn permits(&self, origin: &HeaderValue, headers: &HeaderMap) -> bool {
        if self.is_any() {
            return true;
        }
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        let is_chosen = match &self.origins {
            Origins::Any => true,
            Origins::Same => false,
            Origins::Listed(listed) => listed.iter().any(|one| origin::is_listed(one, origin)),
            Origins::Matching(allow) => allow(origin),
        };
        is_chosen || is_same_origin(origin, headers)
    }

    /// Whether pages of every origin may connect.
    pub(crate) const fn is_any(&self) -> bool {
        matches!(self.origins, Origins::Any)
    }

    /// The CORS headers of an answer to a request with these headers, errors included: without
    /// them a browser hides from its page what went wrong.
    pub(crate) fn answer(&self, request: &HeaderMap, method: &Method, answer: &mut HeaderMap) {
        let Some(origin) = request.get(header::ORIGIN) else {
            return;
        };
        if matches!(self.origins, Origins::Any) {
            answer.insert(
                header::ACCESS_CONTROL_ALLOW_ORIGIN,
                HeaderValue::from_static("*"),
            );
        } else {
            // A refused origin gets this too: nothing but the refusal and its hint is readable.
            answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            answer.insert(header::VARY, HeaderValue::from_static("Origin"));
            if self.credentials && self.allows(request) {
                answer.insert(
                    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                    HeaderValue::from_static("true"),
                );
            }
        }
        // A page that may not connect gets no leave for headers either: with `X-Forwarded-Host` it
        // would name itself as the host that it is asking for.
        if *method == Method::OPTIONS && self.allows(request) {
            answer.insert(
                header::ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static("GET,POST,OPTIONS"),
            );
            if let Some(wanted) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
                answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
            }
            answer.insert(
                header::ACCESS_CONTROL_MAX_AGE,
                HeaderValue::from(self.max_age.as_secs()),
            );
        }
    }
}

/// Whether the origin's host and port are those that the request was sent to.
fn is_same_origin(origin: &str, headers: &HeaderMap) -> bool {
    let Some(origin) = Origin::parse(origin) else {
        return false;
    };
    [header::HOST.as_str(), "x-forwarded-host"]
        .into_iter()
        .filter_map(|name| headers.get(name)?.to_str().ok())
        // Proxies in a row make a list of it: the first is what the browser asked for.
        .filter_map(|hosts| hosts.split(',').next())
        .any(|host| origin.is_of(host.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_request_without_an_origin_is_no_browsers() {
        assert!(Cors::same_origin().allows(&headers(&[("host", "a.example")])));
    }

    #[test]
    fn the_same_origin_is_allowed_and_others_are_not() {
        let cors = Cors::same_origin();
        let allows = |origin, host| cors.allows(&headers(&[("origin", origin), ("host", host)]));
        assert!(allows("https://a.example", "a.example"));
        assert!(allows("http://localhost:3000", "localhost:3000"));
        assert!(allows("https://a.example", "a.example:443"));
        assert!(!allows("https://b.example", "a.example"));
        assert!(!allows("http://localhost:5173", "localhost:3000"));
        assert!(!allows("null", "a.example"));
    }

    #[test]
    fn a_proxy_may_name_the_host_that_the_browser_asked_for() {
        let forwarded = headers(&[
            ("origin", "https://a.example"),
            ("host", "127.0.0.1:3000"),
            ("x-forwarded-host", "a.example, inner.example"),
        ]);
        assert!(Cors::same_origin().allows(&forwarded));
    }

    #[test]
    fn a_list_allows_its_origins_and_the_same_origin() {
        let cors = Cors::origins(["https://app.example"]);
        let allows = |origin| cors.allows(&headers(&[("origin", origin), ("host", "a.example")]));
        assert!(allows("https://app.example"));
        assert!(allows("https://a.example"));
        assert!(!allows("https://app.example.evil"));
        assert!(!allows("http://app.example"));
    }

    #[test]
    fn what_is_no_web_origin_can_be_listed() {
        let opaque = ["null", "file://", "*", "capacitor://localhost", "app://"];
        let cors = Cors::origins(opaque);
        let allows = |cors: &Cors, origin| {
            cors.allows(&headers(&[("origin", origin), ("host", "localhost")]))
        };
        for origin in opaque {
            assert!(allows(&cors, origin), "{origin}");
            assert!(!allows(&Cors::same_origin(), origin), "{origin}");
            assert!(!allows(&Cors::origins(["https://a.example"]), origin));
        }
        for origin in ["https://b.example", "file:", "capacitor://other", "Null*"] {
            assert!(!allows(&cors, origin), "{origin}");
        }
    }

    #[test]
    fn a_listed_origin_is_meant_however_it_is_written() {
        let cors = Cors::origins(["https://App.example", "http://[::1]:3000"]);
        let allows = |origin| cors.allows(&headers(&[("origin", origin), ("host", "b.example")]));
        for origin in [
            "https://app.example",
            "https://app.example:443",
            "wss://app.example",
            "https://app.example.",
            "ws://[0::1]:3000",
        ] {
            assert!(allows(origin), "{origin}");
        }
        for origin in [
            "http://app.example",
            "https://app.example:80",
            "http://[::1]",
        ] {
            assert!(!allows(origin), "{origin}");
        }
    }

    #[test]
    fn a_function_chooses_origins_beside_the_same_origin() {
        let cors = Cors::matching(|origin| origin.ends_with(".app.example"));
        let allows = |origin| cors.allows(&headers(&[("origin", origin), ("host", "a.example")]));
        assert!(allows("https://x.app.example"));
        assert!(allows("https://a.example"));
        assert!(!allows("https://app.example"));
    }

    #[test]
    fn what_could_never_match_is_refused_at_start() {
        for (origin, says) in [
            ("https://app.example/", "scheme://host"),
            ("https://app.example/path", "without a path"),
            ("app.example", "scheme://host"),
            ("", "scheme://host"),
            ("https://", "scheme://host"),
            ("://app.example", "scheme://host"),
            ("https://user@app.example", "scheme://host"),
            ("https://app example", "scheme://host"),
            (" https://app.example", "without spaces"),
            ("https://a.example,https://b.example", "scheme://host"),
            ("https://m\u{fc}nchen.example", "xn--"),
            ("https://app.example:", "scheme://host"),
            ("https://app.example:x", "scheme://host"),
            ("https://app.example:70000", "scheme://host"),
            ("http://.example", "scheme://host"),
            ("http://127.1", "scheme://host"),
            ("http://[::1", "scheme://host"),
            ("http://app.example:80", "write \"http://app.example\""),
            ("https://app.example:443", "write \"https://app.example\""),
            ("wss://app.example:443", "write \"https://app.example\""),
            ("http://*.example", "Cors::matching("),
            ("https://*", "Cors::matching("),
            ("*://app.example", "scheme://host"),
            ("*", "Cors::any()"),
        ] {
            let panicked = std::panic::catch_unwind(|| Cors::origins([origin]));
            let panicked = panicked.expect_err(origin);
            let text = panicked.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panicked.downcast_ref::<&str>().copied()).unwrap();
            assert!(text.contains(says), "{origin}: {text}");
            assert!(text.contains(&format!("{origin:?}")), "{origin}: {text}");
        }
    }

    #[test]
    #[should_panic(expected = "list them")]
    fn credentials_need_a_list() {
        let _ = Cors::any().with_credentials();
    }
}
