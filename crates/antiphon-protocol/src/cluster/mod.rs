//! What servers of a cluster say to each other, as bytes: in the [form of our own](native), and in
//! those of [Node's adapters](node).

pub mod native;
pub mod node;
mod sockets;

pub use sockets::{SocketDetails, Sockets};
