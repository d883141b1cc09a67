//! How long calls took: counted by length, to within 3 %.

use std::fmt::Write;

use super::story::took;

/// Lengths below are counted exactly; above, each power of two in so many steps.
const STEPS: usize = 32;
const BUCKETS: usize = STEPS * 60;
/// The widest bar.
const WIDTH: usize = 40;

/// Lengths in nanoseconds.
#[derive(Clone)]
pub(super) struct Histogram {
    counts: Box<[u64]>,
    max: u64,
}

fn bucket(nanos: u64) -> usize {
    let power = (nanos | 1).ilog2() as usize;
    if power < 5 {
        return nanos as usize;
    }
    // The five bits below the highest.
    (power - 4) * STEPS + (nanos >> (power - 5)) as usize % STEPS
}

/// The shortest length in a bucket.
fn least(bucket: usize) -> u64 {
    let (power, step) = (bucket / STEPS, (bucket % STEPS) as u64);
    if power == 0 { step } else { (STEPS as u64 + step) << (power - 1) }
}

impl Histogram {
    pub(super) fn new() -> Histogram {
        Histogram { counts: vec![0; BUCKETS].into(), max: 0 }
    }

    #[inline]
    pub(super) fn add(&mut self, nanos: u64) {
        self.counts[bucket(nanos).min(BUCKETS - 1)] += 1;
        self.max = self.max.max(nanos);
    }

    pub(super) fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.max = self.max.max(other.max);
    }

    pub(super) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// The length that so many of a thousand do not exceed.
    pub(super) fn permille(&self, wanted: u64) -> u64 {
        let mut left = (self.total() * wanted).div_ceil(1000);
        for (bucket, count) in self.counts.iter().enumerate() {
            if *count >= left {
                return least(bucket + 1).saturating_sub(1).min(self.max);
            }
            left -= count;
        }
        self.max
    }

    /// A line for each power of two: its bar is as long as its count has digits, so
    /// that one slow call is seen beside a billion fast ones.
    pub(super) fn chart(&self) -> Vec<String> {
        let mut powers = [0_u64; 64];
        for (bucket, count) in self.counts.iter().enumerate() {
            powers[least(bucket).max(1).ilog2() as usize] += count;
        }
        let first = powers.iter().position(|count| *count > 0).unwrap_or(0);
        let last = powers.iter().rposition(|count| *count > 0).unwrap_or(0);
        let most = bar(powers.iter().copied().max().unwrap_or(0)).max(1.0);
        let line = |power: usize| {
            let count = powers[power];
            let eighths = (bar(count) / most * WIDTH as f64 * 8.0).round() as usize;
            let mut bar = "█".repeat(eighths / 8);
            bar.extend(['▏', '▎', '▍', '▌', '▋', '▊', '▉'].get((eighths % 8).wrapping_sub(1)));
            let upto = took(std::time::Duration::from_nanos(2 << power));
            let mut text = String::new();
            let pad = WIDTH - bar.chars().count();
            let _ = write!(text, "under {upto:>7}  {bar}{:pad$}  {}", "", grouped(count));
            text
        };
        (first..=last).map(line).collect()
    }
}

fn bar(count: u64) -> f64 {
    if count == 0 { 0.0 } else { (count as f64).log10() + 0.3 }
}

/// 1234567 as 1,234,567.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_lies_in_its_bucket() {
        for nanos in (0..5_000).chain([1 << 20, (1 << 40) + 12_345, u64::MAX >> 6]) {
            let bucket = bucket(nanos);
            assert!(least(bucket) <= nanos && nanos < least(bucket + 1), "{nanos} in {bucket}");
            assert!(least(bucket + 1) - least(bucket) <= 1 + nanos / 32);
        }
    }

    #[test]
    fn percentiles_are_lengths_that_occurred_or_close_to() {
        let mut histogram = Histogram::new();
        for nanos in 1..=1000 {
            histogram.add(nanos);
        }
        assert!((500..=516).contains(&histogram.permille(500)), "{}", histogram.permille(500));
        assert!((990..=1000).contains(&histogram.permille(990)), "{}", histogram.permille(990));
        assert_eq!((histogram.permille(1000), histogram.max(), histogram.total()), (1000, 1000, 1000));
    }

    #[test]
    fn a_line_for_each_power_and_bars_by_digits() {
        let mut histogram = Histogram::new();
        (0..1_000_000).for_each(|_| histogram.add(100));
        histogram.add(1_000);
        let chart = histogram.chart();
        assert_eq!(chart.len(), 4, "{chart:?}");
        assert!(chart[0].ends_with("1,000,000") && chart[0].contains(&"█".repeat(WIDTH)), "{chart:?}");
        assert!(chart[1].ends_with("  0") && chart[3].contains('█'), "{chart:?}");
        assert_eq!(grouped(7), "7");
    }
}
