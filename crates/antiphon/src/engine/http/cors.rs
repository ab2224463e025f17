//! Which web pages may connect.
//!
//! The same rule guards long-polling (by the CORS headers that a browser asks for) and WebSocket
//! (which browsers open to any server, so the server must look at `Origin` itself).

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

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
    methods: HeaderValue,
    /// `None`: those that a preflight asks for.
    allowed_headers: Option<HeaderValue>,
    exposed_headers: Option<HeaderValue>,
    preflight_status: StatusCode,
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

    /// The methods that pages may use, as a preflight is told: GET, POST and OPTIONS by default.
    /// Browsers ask for none of these, and clients need no other; a request middleware may.
    ///
    /// # Panics
    /// If there is none: browsers take that for GET, HEAD and POST, so leave it out.
    #[must_use]
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        let methods = list(methods.into_iter().map(|method| method.to_string()));
        self.methods = methods.expect(
            "without a method browsers allow GET, HEAD and POST all the same: leave `methods` out",
        );
        self
    }

    /// The headers of requests that pages may set, beside those that browsers always let them. By
    /// default all that they ask for.
    ///
    /// # Panics
    /// If there is none: no page may set headers of its own then; say a header that none sets.
    #[must_use]
    pub fn allowed_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        let names = list(names.into_iter().map(|name| name.to_string()));
        assert!(
            names.is_some(),
            "leave `allowed_headers` out to allow all headers, or name one that pages may set"
        );
        self.allowed_headers = names;
        self
    }

    /// The headers of responses that pages may read, beside those that browsers always let them.
    /// None by default.
    ///
    /// ```
    /// use antiphon::Cors;
    /// use http::HeaderName;
    ///
    /// let cors = Cors::origins(["https://app.example"])
    ///     .exposed_headers([HeaderName::from_static("x-node")]);
    /// ```
    #[must_use]
    pub fn exposed_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.exposed_headers = list(names.into_iter().map(|name| name.to_string()));
        self
    }

    /// How long browsers may remember what a preflight was told. 10 minutes; browsers have bounds of
    /// their own, of 10 minutes to a day. Zero: they ask each time.
    #[must_use]
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// The status of the response to OPTIONS. 204; some old browsers and proxies take 200 alone.
    ///
    /// # Panics
    /// If it isn't one of success: browsers would let no page connect.
    #[must_use]
    #[doc(alias = "optionsSuccessStatus")]
    pub fn preflight_status(mut self, status: StatusCode) -> Self {
        assert!(
            status.is_success(),
            "browsers take the status {status} of a preflight for a refusal: use 200 or 204"
        );
        self.preflight_status = status;
        self
    }

    const fn new(origins: Origins) -> Self {
        Self {
            origins,
            credentials: false,
            max_age: Duration::from_secs(600),
            methods: HeaderValue::from_static("GET,POST,OPTIONS"),
            allowed_headers: None,
            exposed_headers: None,
            preflight_status: StatusCode::NO_CONTENT,
        }
    }

    /// The status of the response to OPTIONS.
    pub(super) const fn status_of_preflight(&self) -> StatusCode {
        self.preflight_status
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
            answer.append(header::VARY, HeaderValue::from_static("Origin"));
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
            let methods = self.methods.clone();
            answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
            let wanted = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
            if let Some(allowed) = self.allowed_headers.as_ref().or(wanted) {
                answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed.clone());
            }
            answer.insert(
                header::ACCESS_CONTROL_MAX_AGE,
                HeaderValue::from(self.max_age.as_secs()),
            );
        } else if let Some(exposed) = &self.exposed_headers
            && self.allows(request)
        {
            answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
    }
}

/// Names as the value of a header. Returns `None` if there is none.
fn list(names: impl Iterator<Item = String>) -> Option<HeaderValue> {
    let names: Vec<_> = names.collect();
    // Names of headers and methods are plain ASCII.
    let value = HeaderValue::try_from(names.join(",")).ok()?;
    (!names.is_empty()).then_some(value)
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
    fn what_pages_may_is_told_as_it_was_said() {
        let cors = Cors::origins(["https://app.example"])
            .methods([Method::GET, Method::PUT])
            .allowed_headers([header::AUTHORIZATION, HeaderName::from_static("x-a")])
            .exposed_headers([HeaderName::from_static("x-b")])
            .max_age(Duration::from_secs(7));
        let told = |method, origin| {
            let request = headers(&[
                ("origin", origin),
                ("host", "a.example"),
                ("access-control-request-headers", "x-other"),
            ]);
            let mut answer = HeaderMap::new();
            cors.answer(&request, &method, &mut answer);
            ["methods", "headers", "max-age", "expose"].map(|name| {
                let name = match name {
                    "max-age" => "access-control-max-age".to_owned(),
                    "expose" => "access-control-expose-headers".to_owned(),
                    name => format!("access-control-allow-{name}"),
                };
                let value = answer.get(name);
                value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
            })
        };
        let app = "https://app.example";
        let preflight = told(Method::OPTIONS, app);
        assert_eq!(preflight, ["GET,PUT", "authorization,x-a", "7", ""]);
        assert_eq!(told(Method::GET, app), ["", "", "", "x-b"]);
        assert_eq!(told(Method::GET, "https://b.example"), [""; 4]);
        assert_eq!(told(Method::OPTIONS, "https://b.example"), [""; 4]);
    }

    #[test]
    #[should_panic(expected = "use 200 or 204")]
    fn a_preflight_succeeds() {
        let _ = Cors::any().preflight_status(StatusCode::FORBIDDEN);
    }

    #[test]
    #[should_panic(expected = "leave `methods` out")]
    fn some_method_is_allowed() {
        let _ = Cors::any().methods([]);
    }

    #[test]
    #[should_panic(expected = "leave `allowed_headers` out")]
    fn some_header_is_allowed() {
        let _ = Cors::any().allowed_headers([]);
    }

    #[test]
    #[should_panic(expected = "list them")]
    fn credentials_need_a_list() {
        let _ = Cors::any().with_credentials();
    }
}
