//! What the servers of the tests have in common. Each of them is a program in `bin/`, which is
//! started with a port, says `listening on HOST:PORT` once it listens, and serves what its head
//! lists.

pub mod bench_events;
#[cfg(feature = "all")]
pub mod cbor_parser;
pub mod engine_echo;
#[path = "../../../crates/antiphon/tests/support/plain_parser.rs"]
pub mod plain_parser;
