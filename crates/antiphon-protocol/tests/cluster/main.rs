//! The wires of Node's adapters against what Node's own packages have written: the fixtures in
//! `golden/`, which `tests/cluster/golden.mjs` of the repository makes.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod classic;
mod expected;
mod fixtures;
mod interest;
mod members;
mod postgres;
mod properties;
mod sharded;
mod strategies;
mod streams;
