//! Times of the codecs: `cargo bench --manifest-path bench/Cargo.toml -p antiphon-micro`.
//!
//! A call through a pointer, about a nanosecond, is part of each time.

use antiphon_micro::codecs::{CODECS, Codec};

fn main() {
    divan::main();
}

#[divan::bench(args = CODECS)]
fn codec(bencher: divan::Bencher<'_, '_>, codec: &Codec) {
    bencher.bench_local((codec.make)());
}
