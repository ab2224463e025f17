//! What the programs in `cases/` and `right/` are compiled with, as the crate `antiphon`: all of
//! it, and what else they need.

pub use antiphon::*;

/// Arguments that can be read, and of which there is no schema.
#[derive(Debug, serde::Deserialize)]
pub struct NoSchema(pub u32);
