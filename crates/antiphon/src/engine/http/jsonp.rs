//! JSONP: polls as scripts, and which pages may fetch them.
//!
//! A script is fetched for any page, with the cookies of the server, and the page gets what is in
//! it: CORS doesn't guard it, and `Origin` isn't sent. So the page is looked for in other headers
//! that no page can set, and if none names it the request is refused. Programs have no use for
//! JSONP.

use antiphon_protocol::engine::jsonp::Callback;
use http::{
    HeaderMap, HeaderValue,
    header::{ORIGIN, REFERER},
};

use super::{RequestError, request::Query};
use crate::engine::{Cors, EngineConfig};

/// The callback that a request of polling asks for, if its page may.
pub(super) fn callback(
    config: &EngineConfig,
    query: &Query<'_>,
    headers: &HeaderMap,
) -> Result<Option<Callback>, RequestError> {
    let Some(j) = &query.jsonp else {
        return Ok(None);
    };
    if !config.allow_jsonp {
        return Err(RequestError::JsonpOff);
    }
    let callback = Callback::parse(j).map_err(RequestError::Callback)?;
    check_page(&config.cors, headers)?;
    Ok(Some(callback))
}

/// Refuses pages that may not connect, once `Origin` (which a form has) was looked at.
fn check_page(cors: &Cors, headers: &HeaderMap) -> Result<(), RequestError> {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if cors.is_any() || headers.contains_key(ORIGIN) || site == Some(b"same-origin") {
        return Ok(());
    }
    let referer = headers.get(REFERER).and_then(|url| url.to_str().ok());
    let origin = referer.and_then(origin_of).ok_or(RequestError::NoSource)?;
    if !cors.permits(&origin, headers) {
        let origin = String::from_utf8_lossy(origin.as_bytes());
        return Err(RequestError::Origin(origin.into_owned()));
    }
    Ok(())
}

/// The origin of a URL: what stands in front of its path.
fn origin_of(url: &str) -> Option<HeaderValue> {
    let host = url.find("://")? + 3;
    let length = url[host..].find(['/', '?', '#']);
    let origin = length.map_or(url, |length| &url[..host + length]);
    HeaderValue::from_str(origin).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cors: &Cors, pairs: &[(&'static str, &'static str)]) -> Result<(), RequestError> {
        let headers = pairs
            .iter()
            .chain(&[("host", "a.example")])
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        check_page(cors, &headers)
    }

    #[test]
    fn it_can_be_turned_off() {
        let uri = "/?j=0".parse().unwrap();
        let query = Query::parse(&uri);
        let mut config = EngineConfig {
            cors: Cors::any(),
            ..EngineConfig::default()
        };
        let headers = HeaderMap::new();
        assert_eq!(
            callback(&config, &query, &headers),
            Ok(Callback::parse("0").ok())
        );
        config.allow_jsonp = false;
        assert_eq!(
            callback(&config, &query, &headers),
            Err(RequestError::JsonpOff)
        );
        let without = "/".parse().unwrap();
        assert_eq!(
            callback(&config, &Query::parse(&without), &headers),
            Ok(None)
        );
    }

    #[test]
    fn the_page_of_a_script_is_known_by_its_referer() {
        let cors = Cors::origins(["https://app.example"]);
        for allowed in [
            "https://a.example/page?x=1",
            "https://a.example",
            "https://app.example/",
            "http://a.example/#x",
        ] {
            assert_eq!(check(&cors, &[("referer", allowed)]), Ok(()), "{allowed}");
        }
        for refused in [
            "https://evil.example/https://a.example/",
            "https://evil.example?https://app.example/",
            "https://a.example.evil/",
            "https://a.example@evil.example/",
        ] {
            let error = check(&cors, &[("referer", refused)]).unwrap_err();
            assert!(matches!(error, RequestError::Origin(_)), "{refused}");
        }
    }

    #[test]
    fn a_script_of_an_unknown_page_is_refused() {
        let cors = Cors::same_origin();
        for headers in [
            &[][..],
            &[("referer", "about:blank")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
        ] {
            assert_eq!(check(&cors, headers), Err(RequestError::NoSource));
        }
        assert_eq!(check(&cors, &[("sec-fetch-site", "same-origin")]), Ok(()));
        assert_eq!(check(&Cors::any(), &[]), Ok(()));
    }
}
