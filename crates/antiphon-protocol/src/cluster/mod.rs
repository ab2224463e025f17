//! What servers of a cluster say to each other, as bytes.

pub mod native;
