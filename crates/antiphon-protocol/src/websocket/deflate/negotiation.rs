//! Which parameters both sides agree on (RFC 7692 §5, §7.1).

use super::{
    Window,
    extensions::{Extension, Extensions},
};

const NAME: &str = "permessage-deflate";

/// The `Sec-WebSocket-Extensions` of a client that compresses: no window is kept on either side.
///
/// It doesn't offer to compress for a smaller window, so that no server asks for one that we can't
/// do.
pub const OFFER: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// What a server answers an offer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// What the server's messages are compressed for.
    pub window: Window,
    /// The value of the response's `Sec-WebSocket-Extensions`.
    pub response: &'static str,
}

/// The server has agreed to what was not offered: the client must close the connection (RFC 6455
/// §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server agreed to extensions that were not offered")]
pub struct ResponseError;

/// Chooses the first offer that a server can accept. `headers` are the values of a request's
/// `Sec-WebSocket-Extensions`, one or more. Returns `None` if none can be accepted: nothing is
/// compressed then, and the response has no such header.
///
/// The server never keeps a window, and asks the client for the same, whether or not it offered
/// that (RFC 7692 §7.1.1.2). A client that asks for messages of a small window gets one of 9, 12 or
/// 15 bits that is not larger; 8 bits are declined, since zlib has no such window. Offers with
/// unknown, doubled or invalid parameters are declined, and so is all behind what can't be read.
///
/// ```
/// use antiphon_protocol::websocket::deflate::{Window, negotiate};
///
/// let agreement = negotiate(["permessage-deflate; client_max_window_bits"]).unwrap();
/// assert_eq!(agreement.window, Window::Bits15);
/// assert_eq!(
///     agreement.response,
///     "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
/// );
/// ```
#[must_use]
pub fn negotiate<'h>(headers: impl IntoIterator<Item = &'h str>) -> Option<Agreement> {
    headers
        .into_iter()
        .flat_map(|header| Extensions::new(header).map_while(Result::ok))
        .find_map(|offer| accept(&offer))
}

fn accept(offer: &Extension<'_>) -> Option<Agreement> {
    let parameters = Parameters::read(offer)?;
    // A client says without a value that it knows the parameter, and a server can't.
    let asked = match parameters.server_max_window_bits {
        Some(bits) => Some(bits?),
        None => None,
    };
    let (window, response) = match asked {
        None => (Window::Bits15, OFFER),
        Some(15..) => (
            Window::Bits15,
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15",
        ),
        Some(12..) => (
            Window::Bits12,
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12",
        ),
        Some(9..) => (
            Window::Bits9,
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9",
        ),
        Some(_) => return None,
    };
    Some(Agreement { window, response })
}

/// Checks what a server has made of [`OFFER`]. `headers` are the values of the response's
/// `Sec-WebSocket-Extensions`. Returns the window to compress for, or `None` if nothing may be
/// compressed.
///
/// # Errors
/// [`ResponseError`] if the server agreed to something else.
pub fn check_response<'h>(
    headers: impl IntoIterator<Item = &'h str>,
) -> Result<Option<Window>, ResponseError> {
    let mut extensions = headers.into_iter().flat_map(Extensions::new);
    let Some(extension) = extensions.next() else {
        return Ok(None);
    };
    let parameters = extension.ok().and_then(|e| Parameters::read(&e));
    let Some(parameters) = parameters.filter(|_| extensions.next().is_none()) else {
        return Err(ResponseError);
    };
    // The server keeps no window, as it was asked, and says how large its window is if it likes.
    let is_agreed = parameters.server_no_context_takeover
        && parameters.client_max_window_bits.is_none()
        && parameters.server_max_window_bits != Some(None);
    if is_agreed {
        Ok(Some(Window::Bits15))
    } else {
        Err(ResponseError)
    }
}

/// The parameters of an offer or a response (RFC 7692 §7.1).
#[derive(Debug, Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    /// There may be no value.
    server_max_window_bits: Option<Option<u8>>,
    client_max_window_bits: Option<Option<u8>>,
}

impl Parameters {
    /// Returns `None` for another extension, and for unknown, doubled or invalid parameters.
    fn read(extension: &Extension<'_>) -> Option<Self> {
        if extension.name != NAME {
            return None;
        }
        let mut read = Self::default();
        for (name, value) in &extension.parameters {
            let value = value.as_deref();
            let is_first = match *name {
                "server_no_context_takeover" => {
                    set_flag(&mut read.server_no_context_takeover, value)
                }
                "client_no_context_takeover" => {
                    set_flag(&mut read.client_no_context_takeover, value)
                }
                "server_max_window_bits" => set_bits(&mut read.server_max_window_bits, value),
                "client_max_window_bits" => set_bits(&mut read.client_max_window_bits, value),
                _ => None,
            };
            is_first?;
        }
        Some(read)
    }
}

fn set_flag(flag: &mut bool, value: Option<&str>) -> Option<()> {
    let is_valid = value.is_none() && !*flag;
    *flag = true;
    is_valid.then_some(())
}

fn set_bits(bits: &mut Option<Option<u8>>, value: Option<&str>) -> Option<()> {
    let value = match value {
        // No sign and no leading zero (RFC 7692 §7.1.2.1).
        Some(digits @ ("8" | "9" | "10" | "11" | "12" | "13" | "14" | "15")) => {
            Some(digits.parse().ok()?)
        }
        Some(_) => return None,
        None => None,
    };
    bits.replace(value).is_none().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(header: &str) -> Option<Window> {
        negotiate([header]).map(|agreement| agreement.window)
    }

    #[test]
    fn the_first_offer_that_can_be_accepted_is() {
        let offers = [
            "x-webkit-deflate-frame, permessage-deflate; unknown",
            "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=\"13\"",
            "permessage-deflate",
        ];
        let agreement = negotiate(offers).unwrap();
        assert_eq!(agreement.window, Window::Bits12);
        let expected = format!("{OFFER}; server_max_window_bits=12");
        assert_eq!(agreement.response, expected);
        assert_eq!(negotiate([]), None);
    }

    #[test]
    fn a_window_is_at_most_what_was_asked_for() {
        for asked in 9..=15 {
            let header = format!("permessage-deflate; server_max_window_bits={asked}");
            let agreement = negotiate([&header[..]]).unwrap();
            let bits = agreement.window.bits();
            assert!(bits <= asked && bits + 3 > asked);
            let said = format!("{OFFER}; server_max_window_bits={bits}");
            assert_eq!(agreement.response, said);
        }
    }

    #[test]
    fn a_client_may_say_what_it_can() {
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=8",
            "permessage-deflate; client_no_context_takeover",
            OFFER,
        ] {
            let agreement = negotiate([offer]).unwrap();
            assert_eq!(agreement.window, Window::Bits15);
            assert_eq!(agreement.response, OFFER);
        }
    }

    #[test]
    fn an_offer_with_invalid_parameters_is_declined() {
        for parameters in [
            "unknown",
            "client_no_context_takeover=1",
            "server_no_context_takeover; server_no_context_takeover",
            "client_max_window_bits; client_max_window_bits=9",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=09",
            "client_max_window_bits=+9",
            "server_max_window_bits",
            "server_max_window_bits=8",
            "server_max_window_bits=banana",
            "Server_no_context_takeover",
        ] {
            assert_eq!(window(&format!("permessage-deflate; {parameters}")), None);
        }
        assert_eq!(window("permessage-bzip2"), None);
        assert_eq!(window("broken broken, permessage-deflate"), None);
    }

    #[test]
    fn a_client_takes_what_it_offered() {
        assert_eq!(check_response([]), Ok(None));
        assert_eq!(check_response([""]), Ok(None));
        for response in [
            "permessage-deflate; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=8",
            OFFER,
        ] {
            assert_eq!(check_response([response]), Ok(Some(Window::Bits15)));
        }
        let agreement = negotiate([OFFER]).unwrap();
        let checked = check_response([agreement.response]);
        assert_eq!(checked, Ok(Some(agreement.window)));
    }

    #[test]
    fn a_client_refuses_what_it_did_not_offer() {
        for response in [
            "permessage-deflate",
            "permessage-bzip2",
            "permessage-deflate; server_no_context_takeover; client_max_window_bits=9",
            "permessage-deflate; server_no_context_takeover; server_max_window_bits",
            "permessage-deflate; server_no_context_takeover; unknown",
            "permessage-deflate; server_no_context_takeover, permessage-deflate; server_no_context_takeover",
            "broken broken",
        ] {
            assert_eq!(check_response([response]), Err(ResponseError), "{response}");
        }
    }
}
