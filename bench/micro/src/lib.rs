//! The hot paths of the library, each as something that can be done again and again: timed by
//! `benches/codecs.rs`, and counted in instructions by `main.rs`.

pub mod codecs;
pub mod server;

/// What a client of the load generator sends, too: a text of 64 bytes.
pub const TEXT: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A hot path that is counted.
#[derive(Debug, Clone, Copy)]
pub struct Path {
    pub name: &'static str,
    /// How often it is done when it is counted: often enough that the first times, in which
    /// memory grows, weigh little.
    pub iterations: u64,
    pub run: Run,
}

#[derive(Debug, Clone, Copy)]
pub enum Run {
    Codec(codecs::Codec),
    Server(fn(u64)),
}

impl Path {
    /// Does it this often, after whatever it needs has been set up.
    pub fn run(&self, iterations: u64) {
        match self.run {
            Run::Codec(codec) => {
                let mut once = (codec.make)();
                (0..iterations).for_each(|_| once());
            }
            Run::Server(run) => {
                antiphon::engine::uncut();
                run(iterations);
            }
        }
    }
}

/// All that are counted.
pub fn paths() -> impl Iterator<Item = Path> {
    let codecs = codecs::CODECS.iter().map(|codec| Path {
        name: codec.name,
        iterations: 500,
        run: Run::Codec(*codec),
    });
    codecs.chain(server::PATHS)
}
