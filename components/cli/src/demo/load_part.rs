//! Replacements back to back, while every core calls; and whether anything was lost.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use counter_api::{CALLERS, Counter};
use lcr_core::{Factory, Handle};
use serde_json::{Value, json};

use super::histogram::{Histogram, grouped};
use super::story::{Story, took};
use crate::refusal::Refusal;

/// A load that is to be put on.
pub(super) struct Load {
    seconds: u32,
    threads: usize,
    /// Taken in turns; without any, what is compiled in is built anew each time.
    libraries: Vec<PathBuf>,
}

/// What came of it.
pub(super) struct Report {
    latency: Histogram,
    replacements: u64,
    /// Calls without an answer, or answers without a call.
    lost: u64,
    /// Answers of two generations, of a destroyed one, or of an earlier after a later.
    torn: u64,
    /// Numbers that the last generation knows to have been given out.
    known: u64,
    generations: u64,
    held: Histogram,
    whole: Histogram,
    threads: usize,
    seconds: f64,
    /// What asking the clock adds to each call.
    clock: Duration,
    /// What counting calls would, in nanoseconds.
    counting: f64,
}

/// What one caller has seen.
struct Seen {
    latency: Histogram,
    number: u64,
    generation: u64,
    lost: u64,
    torn: u64,
}

impl Load {
    pub(super) fn new(seconds: u32, threads: Option<NonZeroU32>, libraries: Vec<PathBuf>) -> Load {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.map_or(cores.min(CALLERS), |threads| threads.get() as usize);
        Load { seconds, threads, libraries }
    }

    pub(super) fn run(&self) -> crate::Result<Report> {
        let factory = Factory::builder().without_environment().build();
        let counter: Handle<dyn Counter> = factory.reference("counter", 1).map_err(Refusal::new)?;
        let stop = AtomicBool::new(false);
        let start = Barrier::new(self.threads + 1);
        let clock = clock();
        let outcome = thread::scope(|scope| {
            let callers: Vec<_> = (0..self.threads)
                .map(|number| {
                    let (counter, start, stop) = (counter.clone(), &start, &stop);
                    let name = format!("caller-{number}");
                    let call = move || {
                        start.wait();
                        calls(number as u32, &counter, stop)
                    };
                    thread::Builder::new().name(name).spawn_scoped(scope, call)
                })
                .collect();
            // A thread that is missing would be waited for.
            if callers.iter().any(Result::is_err) {
                stop.store(true, Ordering::Relaxed);
                callers.iter().filter(|caller| caller.is_err()).for_each(|_| {
                    scope.spawn(|| start.wait());
                });
            }
            start.wait();
            let began = Instant::now();
            let replaced = self.replace(&factory, began);
            stop.store(true, Ordering::Relaxed);
            let seconds = began.elapsed().as_secs_f64();
            let mut seen = Vec::new();
            for caller in callers {
                let caller =
                    caller.map_err(|error| Refusal::new(format!("cannot start a thread: {error}")))?;
                seen.push(caller.join().map_err(|_| Refusal::new("a call panicked, and none must"))?);
            }
            let (replacements, held, whole) = replaced?;
            Ok((seen, seconds, replacements, held, whole))
        });
        let (seen, seconds, replacements, held, whole) = outcome?;
        let given = counter.given();
        let mut report = Report {
            latency: Histogram::new(),
            replacements,
            lost: 0,
            torn: 0,
            known: given.iter().sum(),
            generations: 0,
            held,
            whole,
            threads: self.threads,
            seconds,
            clock,
            counting: counting(&factory, &counter),
        };
        for (Seen { latency, number, generation, lost, torn }, given) in seen.iter().zip(given) {
            report.latency.merge(latency);
            report.generations = report.generations.max(*generation);
            // What the last generation was told of must be what was answered.
            report.lost += lost + given.abs_diff(*number);
            report.torn += torn;
        }
        Ok(report)
    }

    fn replace(&self, factory: &Factory, began: Instant) -> crate::Result<(u64, Histogram, Histogram)> {
        let (mut held, mut whole) = (Histogram::new(), Histogram::new());
        let mut number = 0;
        while began.elapsed() < Duration::from_secs(self.seconds.into()) {
            let start = Instant::now();
            let replacement = factory.replace("counter");
            // Version 1 is compiled in: the first library is the other one.
            let replacement = match self.libraries.len() {
                0 => replacement.version(1),
                several => replacement.with(&self.libraries[(number + 1) % several]),
            };
            let report = replacement.run().map_err(Refusal::new)?;
            whole.add(nanos(start.elapsed()));
            held.add(nanos(report.held));
            number += 1;
        }
        Ok((number as u64, held, whole))
    }
}

/// Calls until `stop`, and compares each answer with the one before.
fn calls(caller: u32, counter: &Handle<dyn Counter>, stop: &AtomicBool) -> Seen {
    let mut seen = Seen { latency: Histogram::new(), number: 0, generation: 0, lost: 0, torn: 0 };
    let mut before = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let ticket = counter.next(caller);
        let after = Instant::now();
        seen.latency.add(nanos(after - before));
        seen.lost += (seen.number + 1).abs_diff(ticket.number);
        let is_whole = ticket.caller == caller && ticket.is_whole() && ticket.generation >= seen.generation;
        seen.torn += u64::from(!is_whole);
        (seen.number, seen.generation) = (ticket.number, ticket.generation);
        before = after;
    }
    seen
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// What a call costs more while calls are counted, in nanoseconds.
fn counting(factory: &Factory, counter: &Handle<dyn Counter>) -> f64 {
    const TIMES: u32 = 20_000;
    let round = |count: bool| {
        let _counting = count.then(|| factory.observe());
        let start = Instant::now();
        for _ in 0..TIMES {
            std::hint::black_box(counter.next(CALLERS as u32 - 1));
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
    };
    // In turns, and the best of each: what else the machine does hits both.
    let (mut off, mut on) = (f64::MAX, f64::MAX);
    for _ in 0..20 {
        off = off.min(round(false));
        on = on.min(round(true));
    }
    on - off
}

/// What it costs to ask what time it is.
fn clock() -> Duration {
    const TIMES: u32 = 10_000;
    let start = Instant::now();
    for _ in 0..TIMES {
        std::hint::black_box(Instant::now());
    }
    start.elapsed() / TIMES
}

impl Report {
    pub(super) fn json(&self) -> Value {
        json!({
            "calls": self.latency.total(),
            "replacements": self.replacements,
            "lost": self.lost,
            "torn": self.torn,
            "p50_ns": self.latency.permille(500),
            "p99_ns": self.latency.permille(990),
            "max_ns": self.latency.max(),
            "threads": self.threads,
            "seconds": (self.seconds * 1e3).round() / 1e3,
            "clock_ns": nanos(self.clock),
            "counting_ns": (self.counting.max(0.0) * 100.0).round() / 100.0,
            "held_p50_us": self.held.permille(500) / 1000,
            "held_max_us": self.held.max() / 1000,
            "replace_p50_us": self.whole.permille(500) / 1000,
        })
    }

    /// Refuses what must not be.
    pub(super) fn check(&self) -> crate::Result {
        let Report { lost, torn, replacements, .. } = self;
        if *lost == 0 && *torn == 0 && *replacements > 0 && self.generations <= *replacements {
            return Ok(());
        }
        Err(Refusal::new(format!("{lost} calls lost, {torn} answers torn in {replacements} replacements"))
            .detail("none must be: this is a defect of lcr, please report it"))
    }
}

pub(super) fn show(story: &mut Story<'_>, load: Load) -> crate::Result {
    story.step("Replaced under load");
    let what = if load.libraries.is_empty() {
        "the compiled-in version, built anew each time,"
    } else {
        "versions 1 and 2 in turns, each loaded from its library and unloaded again,"
    };
    let threads = match load.threads {
        1 => "one thread calls".to_owned(),
        threads => format!("{threads} threads call"),
    };
    story.say(format!(
        "For {} s, {threads} a counter as fast as they can, and {what} replace each other back to back. Each caller's \
         numbers are the counter's state: a number that is missing or comes twice is a lost call, an answer of two \
         versions a torn one.",
        load.seconds
    ));
    story.call("factory.replace(\"counter\").with(\"libcounter_two.so\").run()?");
    let report = load.run()?;
    let time = |nanos| took(Duration::from_nanos(nanos));
    story.facts([
        ("calls", grouped(report.latency.total())),
        ("replacements", grouped(report.replacements)),
        ("lost", report.lost.to_string()),
        ("torn", report.torn.to_string()),
        (
            "state",
            format!(
                "carried over {} times; the last version knows of {} calls",
                grouped(report.replacements),
                grouped(report.known)
            ),
        ),
        (
            "a call",
            format!(
                "p50 {}, p99 {}, worst {}; {} of it is asking the clock",
                time(report.latency.permille(500)),
                time(report.latency.permille(990)),
                time(report.latency.max()),
                took(report.clock)
            ),
        ),
        (
            "counting calls",
            format!(
                "{:+.1} ns a call while somebody watches (`lcr watch`), nothing otherwise",
                report.counting
            ),
        ),
        (
            "a replacement",
            format!(
                "p50 {}, of which calls were held {} (worst {})",
                time(report.whole.permille(500)),
                time(report.held.permille(500)),
                time(report.held.max())
            ),
        ),
    ]);
    story.chart("How long calls took (a bar's length is the number of digits)", &report.latency.chart());
    report.check()?;
    story.step("Now yours");
    story.say(
        "`lcr inspect`, `list`, `tree` and `check` say of any file what was said here of these. `lcr demo --serve` is a \
         program to try `lcr status`, `lcr replace` and `lcr rollback` on.",
    );
    Ok(())
}
