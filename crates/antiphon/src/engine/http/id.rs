//! Ids of sessions that the application makes.
//!
//! The function of the option `generate_id` is asked once a handshake, when all else about it has
//! been found to be right. What it gives is checked here: an id of the wrong form, or one that a
//! session has, is refused with code 3 and logged, since it is a fault of the program.

use std::sync::Arc;

use http::request::Parts;

use super::RequestError;
use crate::engine::{Engine, SessionId, config::GenerateId};

/// The id that the application gives to the session that this request opens.
pub(super) async fn generated(
    engine: &Engine,
    generate: &Arc<GenerateId>,
    request: &Parts,
) -> Result<SessionId, RequestError> {
    let text = generate(request.clone()).await.map_err(|error| {
        tracing::error!(%error, "refused a handshake: `generate_id` failed");
        RequestError::IdGeneration
    })?;
    let tag = engine.relay().map(|relay| relay.tag());
    let Some(id) = SessionId::given(&text, tag) else {
        tracing::error!(
            length = text.len(),
            "refused a handshake: `generate_id` gave an id that isn't 20 characters of A-Z a-z 0-9 - _"
        );
        return Err(RequestError::IdGeneration);
    };
    if engine.session(id).is_some() {
        tracing::error!(session = ?id, "refused a handshake: `generate_id` gave the id of another session");
        return Err(RequestError::IdGeneration);
    }
    Ok(id)
}
