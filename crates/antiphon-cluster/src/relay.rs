//! The router as the engine's [`Relay`]: what it is asked for requests of other servers' sessions.

use std::{future::Future, pin::Pin};

use antiphon::adapter::{NotRelayed, Relay, RelayBody, ServerTag};
use http::{Request, Response};

use crate::router::Router;

impl Relay for Router {
    fn tag(&self) -> ServerTag {
        self.passing.tag()
    }

    fn relay(
        &self,
        to: ServerTag,
        request: Request<RelayBody>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<RelayBody>, NotRelayed>> + Send + '_>> {
        Box::pin(self.passing.relay(to, request, self.member.started()))
    }
}
