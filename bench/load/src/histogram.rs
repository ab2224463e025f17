//! Latencies in buckets of 1.6 %, so that a measurement costs an addition.

use std::time::Duration;

const FINE: u32 = 6; // 64 buckets for each power of two

#[derive(Clone, Default)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Histogram {
    pub fn add(&mut self, latency: Duration) {
        let nanos = latency.as_nanos() as u64;
        let power = (nanos | 1 << FINE).ilog2() - FINE;
        let bucket = ((power as usize) << FINE) + (nanos >> power) as usize;
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
    }

    /// The latency that a part of all (0 to 1) were not slower than.
    pub fn at(&self, part: f64) -> Option<Duration> {
        let rank = ((self.count as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        self.buckets.iter().enumerate().find_map(|(bucket, count)| {
            seen += count;
            (seen >= rank).then(|| {
                let power = (bucket >> FINE).saturating_sub(1);
                let top = (bucket - (power << FINE)) as u64;
                Duration::from_nanos(((top + 1) << power) - 1)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_within_a_bucket() {
        let mut histogram = Histogram::default();
        for micros in 1..=1000 {
            histogram.add(Duration::from_micros(micros));
        }
        for (part, expected) in [(0.5, 500_000.0), (0.99, 990_000.0), (1.0, 1_000_000.0)] {
            let got = histogram.at(part).unwrap().as_nanos() as f64;
            assert!((got / expected - 1.0).abs() < 0.02, "{part}: {got}");
        }
        assert!(Histogram::default().at(0.5).is_none());
    }
}
