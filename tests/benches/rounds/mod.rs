//! Opponents side by side.
//!
//! A machine is never quite still: what is measured now and what was measured ten
//! seconds ago differ by more than the things compared. So the sides take turns in
//! short rounds, and what is compared are the rounds: the fastest of each side, and
//! the median of the differences within a round. Afterwards criterion measures each
//! side for itself, which is what shows a change from one day to another.

#![allow(dead_code, reason = "each benchmark uses some of it")]

use std::time::Duration;

use criterion::Criterion;

/// One side: does a thing so many times, and answers how long that took.
pub(crate) struct Side<'a> {
    name: String,
    run: Box<dyn FnMut(u64) -> Duration + 'a>,
}

impl<'a> Side<'a> {
    /// A side that measures itself.
    pub(crate) fn new(name: impl Into<String>, run: impl FnMut(u64) -> Duration + 'a) -> Self {
        Side { name: name.into(), run: Box::new(run) }
    }

    /// A side that is one thing, done in a loop.
    pub(crate) fn each<R>(name: impl Into<String>, mut once: impl FnMut() -> R + 'a) -> Self {
        Side::new(name, move |times| {
            let start = std::time::Instant::now();
            for _ in 0..times {
                std::hint::black_box(once());
            }
            start.elapsed()
        })
    }
}

/// What a comparison found, in nanoseconds for one thing.
pub(crate) struct Measured {
    names: Vec<String>,
    rounds: Vec<Vec<f64>>,
}

/// Has all sides do their thing `times` in each of so many rounds, prints how they
/// compare with the first one, and then has criterion measure each for itself.
pub(crate) fn compare(
    criterion: &mut Criterion,
    title: &str,
    rounds: usize,
    times: u64,
    mut sides: Vec<Side<'_>>,
) -> Measured {
    let mut measured = Measured {
        names: sides.iter().map(|side| side.name.clone()).collect(),
        rounds: vec![Vec::with_capacity(rounds); sides.len()],
    };
    for side in &mut sides {
        (side.run)(times); // Memory is touched, lines are fetched.
    }
    for _ in 0..rounds {
        for (side, taken) in sides.iter_mut().zip(&mut measured.rounds) {
            taken.push((side.run)(times).as_nanos() as f64 / times as f64);
        }
    }
    measured.print(title);
    if std::env::var_os("LCR_BENCH_ROUNDS_ONLY").is_none() {
        let mut group = criterion.benchmark_group(title);
        for side in &mut sides {
            group.bench_function(&side.name, |b| b.iter_custom(|times| (side.run)(times)));
        }
        group.finish();
    }
    measured
}

impl Measured {
    fn at(&self, name: &str) -> &[f64] {
        let at = self.names.iter().position(|n| n == name);
        &self.rounds[at.unwrap_or_else(|| panic!("no side is called {name:?}"))]
    }

    /// The fastest round of a side.
    pub(crate) fn fastest(&self, name: &str) -> f64 {
        self.at(name).iter().copied().fold(f64::MAX, f64::min)
    }

    /// The median round of a side.
    pub(crate) fn median(&self, name: &str) -> f64 {
        median(self.at(name).to_vec())
    }

    /// By how much a side was slower than another: fastest against fastest, and the
    /// median of the rounds' differences.
    pub(crate) fn over(&self, name: &str, other: &str) -> (f64, f64) {
        let differences = self.at(name).iter().zip(self.at(other)).map(|(a, b)| a - b).collect();
        (self.fastest(name) - self.fastest(other), median(differences))
    }

    fn print(&self, title: &str) {
        let first = &self.names[0];
        println!("\n{title}: {} interleaved rounds; against {first:?}", self.rounds[0].len());
        println!(
            "{:>14} {:>14} {:>12} {:>12} {:>8}",
            "fastest ns", "median ns", "over", "over/round", "ratio"
        );
        for name in &self.names {
            let (fastest, median) = (self.fastest(name), self.median(name));
            let (over, rounds) = self.over(name, first);
            let ratio = fastest / self.fastest(first);
            println!("{fastest:14.2} {median:14.2} {over:+12.2} {rounds:+12.2} {ratio:8.2}  {name}");
        }
    }
}

/// A target and what was found, as a line of `RESULTS.md`.
pub(crate) fn target(what: &str, target: f64, measured: f64, unit: &str) {
    let verdict = if measured <= target { "met" } else { "MISSED" };
    println!(
        "target | {what} | <= {target} {unit} | {measured:.2} {unit} | {:.2} | {verdict}",
        measured / target
    );
}

/// The middle one.
pub(crate) fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

/// The value below which such a part of them lies.
pub(crate) fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Criterion, so that a whole benchmark takes a minute, not ten.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
        .without_plots()
        .configure_from_args()
}
