//! Which web pages may connect.
//!
//! The same rule guards long-polling (by the CORS headers that a browser asks for) and WebSocket
//! (which browsers open to any server, so the server must look at `Origin` itself).

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};

/// Which origins may connect, beside programs that aren't browsers and send no `Origin`.
///
/// By default only pages of the same origin: those whose `Origin` names the host that the request
/// was sent to (`Host`, or `X-Forwarded-Host` behind a proxy; a page of another origin can't set
/// either).
#[derive(Debug, Clone)]
pub struct Cors {
    origins: Origins,
    credentials: bool,
    max_age: Duration,
}

#[derive(Debug, Clone)]
enum Origins {
    Same,
    Any,
    Listed(Vec<HeaderValue>),
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
    /// # Panics
    /// Where an origin isn't of the form `scheme://host[:port]`: it could never match.
    #[must_use]
    pub fn origins<O: AsRef<str>>(origins: impl IntoIterator<Item = O>) -> Self {
        let listed = origins.into_iter().map(|origin| {
            let origin = origin.as_ref();
            let host = origin.split_once("://").map(|(_, host)| host);
            assert!(
                host.is_some_and(|host| !host.is_empty() && !host.contains('/')),
                "the origin {origin:?} isn't of the form scheme://host[:port], without a path"
            );
            HeaderValue::from_str(&origin.to_ascii_lowercase())
                .unwrap_or_else(|_| panic!("the origin {origin:?} can't stand in a header"))
        });
        Self::new(Origins::Listed(listed.collect()))
    }

    /// Lets pages send their cookies along (`withCredentials` of the client).
    ///
    /// # Panics
    /// For [`Cors::any`]: browsers refuse cookies for any origin, so list the origins.
    #[must_use]
    pub fn with_credentials(mut self) -> Self {
        assert!(
            !matches!(self.origins, Origins::Any),
            "credentials can't be allowed for any origin: list them with Cors::origins"
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
    pub(super) fn allows(&self, headers: &HeaderMap) -> bool {
        match headers.get(header::ORIGIN) {
            Some(origin) => self.permits(origin, headers),
            None => true,
        }
    }

    /// Whether the page with this origin may send a request with these headers.
    pub(super) fn permits(&self, origin: &HeaderValue, headers: &HeaderMap) -> bool {
        match &self.origins {
            Origins::Any => true,
            Origins::Same => is_same_origin(origin, headers),
            Origins::Listed(listed) => {
                listed
                    .iter()
                    .any(|one| one.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
                    || is_same_origin(origin, headers)
            }
        }
    }

    /// Whether pages of every origin may connect.
    pub(super) const fn is_any(&self) -> bool {
        matches!(self.origins, Origins::Any)
    }

    /// The CORS headers of an answer to a request with these headers, errors included: without
    /// them a browser hides from its page what went wrong.
    pub(super) fn answer(&self, request: &HeaderMap, method: &Method, answer: &mut HeaderMap) {
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

/// Whether the origin's host and port are those that the request was sent to. The scheme isn't
/// compared: a proxy that ends TLS hides it.
fn is_same_origin(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let Some((scheme, host)) = origin.to_str().ok().and_then(|text| text.split_once("://")) else {
        return false;
    };
    let default_port = if scheme.eq_ignore_ascii_case("https") {
        ":443"
    } else {
        ":80"
    };
    [header::HOST.as_str(), "x-forwarded-host"]
        .into_iter()
        .filter_map(|name| headers.get(name)?.to_str().ok())
        // Proxies in a row make a list of it: the first is what the browser asked for.
        .filter_map(|hosts| hosts.split(',').next().map(str::trim))
        .any(|sent_to| {
            sent_to.eq_ignore_ascii_case(host)
                || sent_to
                    .strip_suffix(default_port)
                    .is_some_and(|sent_to| sent_to.eq_ignore_ascii_case(host))
        })
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
    #[should_panic(expected = "scheme://host")]
    fn an_origin_with_a_path_is_refused_at_start() {
        let _ = Cors::origins(["https://app.example/"]);
    }

    #[test]
    #[should_panic(expected = "list them")]
    fn credentials_need_a_list() {
        let _ = Cors::any().with_credentials();
    }
}
