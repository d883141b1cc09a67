//! What a replacement costs: those who call, and those who ask for it.
//!
//! ```sh
//! cargo bench -p lcr-tests --bench replace
//! ```

mod rounds;

use std::hint::black_box;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bench_worker::{Records, Work, boxed, records};
use lcr_core::gate::{GateHead, InstanceHead, Pins, wait_quiet};
use lcr_core::{Factory, Handle};
use lcr_tests::{Profile, Scratch};
use rounds::{median, quantile, target};

lcr_core::link!(bench_worker);

fn main() {
    let factory = Factory::builder().without_environment().build();
    for callers in [1, cores()] {
        stateless(&factory, callers);
    }
    stateful(&factory);
    callers(&factory);
    throughput(&factory);
    command();
}

fn cores() -> usize {
    thread::available_parallelism().map_or(2, usize::from)
}

/// Runs `f` while so many threads call; answers what it answers.
fn under_load<R>(callers: usize, call: impl Fn() + Sync, f: impl FnOnce() -> R) -> R {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    for _ in 0..1_000 {
                        call();
                    }
                }
            });
        }
        let answer = f();
        over.store(true, Ordering::Relaxed);
        answer
    })
}

/// Replaces back and forth so often.
fn back_and_forth(
    factory: &Factory,
    interface: &str,
    times: usize,
    mut each: impl FnMut(lcr_core::factory::Report),
) {
    for number in 1..=times {
        let version = i32::try_from(number % 2).unwrap();
        each(factory.replace(interface).version(version).run().unwrap());
        thread::sleep(Duration::from_micros(500));
    }
}

fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// By a transaction, and in turns with it by a bare gate around the same call: a swap,
/// and the wait for the last caller. Where the machine has other work, both wait for a
/// caller that was put to sleep inside, and it is the ratio that tells.
fn stateless(factory: &Factory, callers: usize) {
    const TIMES: usize = 2_000;
    let work = factory.reference::<dyn Work>("bench.work", 0).unwrap();
    let (gate, plain) = (GateHead::new("bare"), boxed());
    let object = 0u64;
    // SAFETY: the gate outlives both, and nothing is called through them.
    let instances = [(); 2]
        .map(|()| unsafe { InstanceHead::new((&raw const object).cast(), std::ptr::null(), 0, &gate) });
    // SAFETY: both outlive every caller.
    unsafe { gate.open(&instances[0]) };
    let (mut switch, mut grace, mut whole, mut bare) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut late = 0;
    let mut now = 0;
    under_load(
        callers,
        || {
            black_box(work.add(1));
            let inside = gate.enter();
            black_box(plain.add(black_box(1)));
            drop(inside);
        },
        || {
            back_and_forth(factory, "bench.work", TIMES, |report| {
                match report.drained {
                    Some(drained) => {
                        switch.push(us(report.switched));
                        grace.push(us(report.switched + drained));
                        whole.push(us(report.prepared + report.switched + drained));
                    }
                    None => late += 1,
                }
                let start = Instant::now();
                // SAFETY: this thread alone swaps; both outlive every caller.
                unsafe { gate.swap(&instances[1 - now]) }.unwrap();
                wait_quiet(&[&instances[now]], Pins::Count, None).unwrap();
                bare.push(us(start.elapsed()));
                now = 1 - now;
            });
        },
    );
    println!("\nstateless, {callers} callers, {TIMES} replacements, {late} with somebody inside to the end");
    let rows = [
        ("a bare gate", &bare),
        ("switch", &switch),
        ("switch + grace", &grace),
        ("the whole transaction", &whole),
    ];
    for (what, times) in rows {
        let at = |part| quantile(times.clone(), part);
        println!(
            "{what}: p50 {:.1} µs, p90 {:.1}, p99 {:.1}, p99.9 {:.1}; p50 {:.2} times the bare gate's",
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            at(0.5) / median(bare.clone())
        );
    }
    target(
        &format!("stateless, {callers} callers, switch + grace, p50"),
        30.0,
        quantile(grace.clone(), 0.5),
        "µs",
    );
    target(&format!("stateless, {callers} callers, switch + grace, p99"), 150.0, quantile(grace, 0.99), "µs");
}

fn stateful(factory: &Factory) {
    const TIMES: usize = 300;
    let kept = factory.reference::<dyn Records>("bench.records", 0).unwrap();
    let mut held = Vec::new();
    under_load(
        cores(),
        || {
            black_box(kept.count());
        },
        || back_and_forth(factory, "bench.records", TIMES, |report| held.push(us(report.held) / 1e3)),
    );
    assert_eq!(kept.count(), records::COUNT, "every record was handed over");
    let mut alone = Vec::new();
    back_and_forth(factory, "bench.records", TIMES, |report| alone.push(us(report.held) / 1e3));
    println!("\nstateful, {} records of 64 bytes, {TIMES} replacements", records::COUNT);
    for (what, times) in [("held, callers on each core", &held), ("held, nobody calls", &alone)] {
        let at = |part| quantile(times.clone(), part);
        println!("{what}: p50 {:.3} ms, p99 {:.3}", at(0.5), at(0.99));
    }
    target("stateful, calls held, 10,000 records of 64 bytes", 0.5, quantile(held, 0.5), "ms");
}

/// The time of each call, with replacements back to back and without, in turns.
fn callers(factory: &Factory) {
    let work = factory.reference::<dyn Work>("bench.work", 0).unwrap();
    let mut taken = [Vec::new(), Vec::new()];
    for round in 0..20 {
        let replacing = round % 2 == 1;
        let over = AtomicBool::new(false);
        let (work, over) = (&work, &over);
        let times: Vec<f64> = thread::scope(|scope| {
            let all: Vec<_> = (0..cores())
                .map(|_| {
                    scope.spawn(move || {
                        let mut times = Vec::with_capacity(1 << 20);
                        while !over.load(Ordering::Relaxed) && times.len() < 1 << 20 {
                            let start = Instant::now();
                            black_box(work.add(1));
                            times.push(start.elapsed().as_nanos() as f64);
                        }
                        times
                    })
                })
                .collect();
            let until = Instant::now() + Duration::from_millis(100);
            let mut version = 0;
            while Instant::now() < until {
                if replacing {
                    version = 1 - version;
                    factory.replace("bench.work").version(version).run().unwrap();
                }
                thread::sleep(Duration::from_micros(500));
            }
            over.store(true, Ordering::Relaxed);
            all.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        taken[usize::from(replacing)].extend(times);
    }
    println!("\na caller's own call, the clock's reading included, {} callers", cores());
    for (name, times) in ["no replacements", "back to back"].into_iter().zip(taken) {
        let count = times.len();
        let at = |part| quantile(times.clone(), part);
        println!("{name}: p50 {:.0} ns, p99.9 {:.0} ns, of {count} calls", at(0.5), at(0.999));
    }
}

/// Seconds with one replacement against seconds with none, in pairs. A processor
/// predicts a call that has had one target only better than one that has had two: so
/// the same is done to a plain `Box<dyn>` that changes places with another, and what
/// counts is what a replacement costs beyond that.
fn throughput(factory: &Factory) {
    let work: Handle<dyn Work> = factory.reference("bench.work", 0).unwrap();
    let replaced = lost(
        || {
            black_box(work.add(1));
        },
        |version| {
            factory.replace("bench.work").version(version).run().unwrap();
        },
    );
    let (two, which) = ([boxed(), Box::new(Second) as Box<dyn Work>], AtomicUsize::new(0));
    let changed = lost(
        || {
            black_box(two[which.load(Ordering::Relaxed)].add(black_box(1)));
        },
        |version| which.store(usize::try_from(version).unwrap(), Ordering::Relaxed),
    );
    println!("\nthroughput, one change a second against none, {PAIRS} pairs of 1 s");
    for (what, lost) in [("a replacement", &replaced), ("a plain Box<dyn> for another", &changed)] {
        let (mean, around) = interval(lost);
        println!("{what}: {mean:+.2} % lost, 95 % interval {:+.2} to {:+.2}", mean - around, mean + around);
    }
    let ((replaced, one), (changed, other)) = (interval(&replaced), interval(&changed));
    let (beyond, around) = (replaced - changed, one.hypot(other));
    println!(
        "beyond what the change of a call's target costs: {beyond:+.2} %, 95 % interval {:+.2} to {:+.2}",
        beyond - around,
        beyond + around
    );
    println!("no loss that can be measured: {}", if beyond - around <= 0.0 { "yes" } else { "NO" });
}

const PAIRS: usize = 20;

/// What part of the calls is lost in a second in whose middle `change` runs, in %,
/// pair by pair.
fn lost(call: impl Fn() + Sync, change: impl Fn(i32)) -> Vec<f64> {
    let calls = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..cores() {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    for _ in 0..10_000 {
                        call();
                    }
                    calls.fetch_add(10_000, Ordering::Relaxed);
                }
            });
        }
        let window = |changes: Option<i32>| {
            let (start, before) = (Instant::now(), calls.load(Ordering::Relaxed));
            thread::sleep(Duration::from_millis(500));
            if let Some(version) = changes {
                change(version);
            }
            thread::sleep(Duration::from_millis(500));
            (calls.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64()
        };
        let lost = (0..PAIRS).map(|pair| {
            let version = Some(i32::try_from(pair % 2).unwrap());
            // Each goes first as often as the other.
            let (none, one) = if pair % 4 < 2 {
                let none = window(None);
                (none, window(version))
            } else {
                let one = window(version);
                (window(None), one)
            };
            100.0 * (none - one) / none
        });
        let lost = lost.collect();
        over.store(true, Ordering::Relaxed);
        lost
    })
}

/// The mean, and how far around it the 95 % interval goes: Student's t, 19 degrees.
fn interval(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, 2.093 * (variance / count).sqrt())
}

/// The same work as the first one's, at another address.
struct Second;

impl Work for Second {
    fn add(&self, x: u64) -> u64 {
        (x >> 1).checked_add(black_box(1)).expect("half of a number and one")
    }

    fn greet(&self, who: &str) -> String {
        who.to_owned()
    }

    fn turn(&self, data: Vec<u8>) -> Vec<u8> {
        data
    }

    fn plain(&self) -> (u64, u64) {
        (0, 0)
    }
}

/// `lcr replace` as a whole: the command's own start, the request, dlopen, the switch.
fn command() {
    let built = lcr_tests::build(&["lcr-bench-worker-library", "lcr-cli"], Profile::Release);
    let scratch = Scratch::new();
    let library = scratch.path().join("libworker.so");
    let stripped = Command::new("strip").arg("-o").arg(&library).arg(built.library("worker")).status();
    assert!(stripped.is_ok_and(|status| status.success()), "strip (binutils) makes the library small");
    let size = std::fs::metadata(&library).unwrap().len();
    let work: Handle<dyn Work> = lcr_core::reference("bench.work", 0).unwrap();
    let sockets = scratch.path().join("sockets");
    let running = lcr_control::Builder::new().directory(&sockets).start().unwrap();
    let mut times = Vec::new();
    under_load(
        1,
        || {
            black_box(work.add(1));
        },
        || {
            for number in 1..=60 {
                let start = Instant::now();
                let said = lcr_tests::stdout(
                    Command::new(built.program("lcr"))
                        .arg("replace")
                        .arg(running.socket())
                        .args(["bench.work", "--version", if number % 2 == 1 { "1" } else { "0" }, "--with"])
                        .arg(&library),
                );
                times.push(start.elapsed().as_secs_f64() * 1e3);
                drop(said);
                thread::sleep(Duration::from_millis(5));
            }
        },
    );
    println!(
        "\n`lcr replace`, a library of {} KiB, 1 caller: p90 {:.2} ms",
        size / 1024,
        quantile(times.clone(), 0.9)
    );
    target("`lcr replace` as a whole, p50", 10.0, median(times), "ms");
}
