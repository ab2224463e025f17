//! Options of calls by HTTP, and who makes one if the application doesn't say.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use http::request::Parts;

use crate::engine::peer_address;

/// Says who makes a call.
type IdentifyCaller = dyn Fn(&Parts) -> Option<String> + Send + Sync;

/// Options of calls by HTTP. See the [guide](crate::guide::http_calls).
#[derive(Clone)]
#[must_use = "give it to `ServerBuilder::http_calls`"]
pub struct HttpCalls {
    pub(super) timeout: Duration,
    pub(super) max_running: usize,
    pub(super) max_running_per_caller: usize,
    pub(super) caller: Arc<IdentifyCaller>,
    pub(super) description: bool,
}

impl Default for HttpCalls {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            max_running: 256,
            max_running_per_caller: 64,
            caller: Arc::new(by_address),
            description: false,
        }
    }
}

impl HttpCalls {
    /// How long a caller waits for the acknowledgement before it gets status 504; the handler runs
    /// on. 30 s.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many calls may run at a time; beyond it status 503. 256.
    ///
    /// A call runs until its middlewares and handlers have ended, and each [`Ack`](crate::Ack) that
    /// they took is sent or dropped. All calls together also are as one connection for
    /// [`max_running_handlers`](crate::ServerBuilder::max_running_handlers), so that much larger
    /// ones are fewer.
    ///
    /// # Panics
    /// If it is zero: nothing could be called.
    pub const fn max_running(mut self, count: usize) -> Self {
        assert!(count > 0, "with no call at a time nothing could be called");
        self.max_running = count;
        self
    }

    /// How many calls of one caller may run or be read at a time; beyond it status 429. 64. Of what
    /// [`max_running_handlers`](crate::ServerBuilder::max_running_handlers) allows for large calls,
    /// a caller has the same part, and may always make one.
    ///
    /// # Panics
    /// If it is zero: nothing could be called.
    pub const fn max_running_per_caller(mut self, count: usize) -> Self {
        assert!(count > 0, "with no call at a time nothing could be called");
        self.max_running_per_caller = count;
        self
    }

    /// Says who makes a call, for [`max_running_per_caller`](Self::max_running_per_caller). The
    /// address that the connection comes from (of IPv6 its /64) if this isn't set. Behind a proxy
    /// that is the proxy's: name a header that it sets, and that callers can't. Where this returns
    /// `None`, as it does under axum without `into_make_service_with_connect_info`, only
    /// [`max_running`](Self::max_running) holds.
    ///
    /// ```
    /// use antiphon::HttpCalls;
    ///
    /// // nginx: proxy_set_header X-Real-IP $remote_addr;
    /// let calls = HttpCalls::default().caller(|request| {
    ///     let address = request.headers.get("x-real-ip")?;
    ///     Some(address.to_str().ok()?.to_owned())
    /// });
    /// ```
    pub fn caller<F>(mut self, identify: F) -> Self
    where
        F: Fn(&Parts) -> Option<String> + Send + Sync + 'static,
    {
        self.caller = Arc::new(identify);
        self
    }

    /// Whether `GET {path}/call/openapi.json` describes what can be called. False. The middlewares
    /// of each namespace are asked, as for a call: its events are listed for those that it lets in.
    pub const fn description(mut self, served: bool) -> Self {
        self.description = served;
        self
    }
}

impl fmt::Debug for HttpCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCalls")
            .field("timeout", &self.timeout)
            .field("max_running", &self.max_running)
            .field("max_running_per_caller", &self.max_running_per_caller)
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

/// Who makes a call, as far as its connection tells: an address of IPv4, or a network of IPv6 of
/// which one customer has all.
fn by_address(request: &Parts) -> Option<String> {
    let address = peer_address(request)?.ip().to_canonical();
    Some(match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_an_address_or_a_network() {
        let caller = |address: &str| {
            let (mut parts, ()) = http::Request::new(()).into_parts();
            let address = address.parse().unwrap();
            parts.extensions.insert(crate::PeerAddr(address));
            by_address(&parts).unwrap()
        };
        assert_eq!(caller("192.0.2.1:5"), "192.0.2.1");
        assert_eq!(caller("[::ffff:192.0.2.1]:5"), "192.0.2.1");
        assert_eq!(caller("[2001:db8:1:2:3::4]:5"), "2001:db8:1:2::/64");
    }
}
