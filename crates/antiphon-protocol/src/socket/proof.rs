//! The proof of a list of values: it is JSON within the limits, and its placeholders are of its
//! attachments.
//!
//! A packet's reader asks for the bounds and the errors alone; what came by another way than a
//! packet, as from another server, is proven as a whole.

use super::error::DecodeError;
use super::json::{self, Bounds, Fault};
use super::{Limits, placeholder};

pub(super) const fn bounds(limits: &Limits) -> Bounds {
    Bounds {
        depth: limits.depth as usize,
        values: limits.values,
    }
}

pub(super) const fn refused(fault: Fault, limits: &Limits) -> DecodeError {
    match fault {
        Fault::Syntax(offset) => DecodeError::InvalidJson { offset },
        Fault::Depth => DecodeError::TooDeep {
            limit: limits.depth as usize,
        },
        Fault::Values => DecodeError::TooManyValues {
            limit: limits.values,
        },
    }
}

/// Proves a list that came by another way than a packet: it is JSON within the limits, and each of
/// its placeholders names an attachment of its own.
pub(super) fn prove(
    text: &str,
    attachments: usize,
    limits: &Limits,
) -> Result<json::List, DecodeError> {
    let list = json::list(text, 0, bounds(limits)).map_err(|fault| refused(fault, limits))?;
    if attachments > limits.attachments {
        let limit = limits.attachments;
        return Err(DecodeError::TooManyAttachments { limit });
    }
    if attachments > 0 {
        placeholder::check(list.all.of(text), attachments)?;
    }
    Ok(list)
}
