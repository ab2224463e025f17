//! Ports of one's own.

use std::{
    hash::{BuildHasher, RandomState},
    net::TcpListener,
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
};

/// Below those that the system gives to connections (Linux: from 32,768 on), so that none of these
/// takes a port which was looked for a moment ago, or which a server that was killed is to come back
/// on.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port that nobody uses now.
pub fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> =
        LazyLock::new(|| AtomicU16::new(RandomState::new().hash_one(0) as u16));
    loop {
        let port = FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
