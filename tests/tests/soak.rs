//! The soak: every core calls through handles while versions are replaced back to
//! back, and every call is accounted for.
//!
//! About five seconds. The long form, 10⁵ replacements and 10⁹ calls, then 10,000
//! cycles of load, replace and unload:
//!
//! ```sh
//! LCR_LONG=1 cargo test --release -p lcr-tests --test soak -- --nocapture
//! ```
//!
//! What is checked of each call, in the caller's thread: it was answered by a
//! generation that exists (a destroyed or saved one answers with 0), never by an
//! earlier one than the thread has seen before, and with a number that is higher than
//! the one before. At the end, over all threads: without state, the calls that the
//! generations have counted are those that were made, so that each was answered once
//! and by one of them; with state, the number that was handed on is.

#![allow(missing_docs, reason = "a test")]

#[path = "../fixtures/replace/src/lib.rs"]
#[macro_use]
mod replaced;
mod replacing;

use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lcr_core::Handle;
use lcr_core::factory::{Factory, sweep};
use replaced::{Store, Work};
use replacing::{Holds, factory, ledger, library, resident};

work!(worker_0, crate::replaced, "worker", 0, [1]);
work!(worker_1, crate::replaced, "worker", 1, [0]);
work!(counter_0, crate::replaced, "counter", 0, [1], state);
work!(counter_1, crate::replaced, "counter", 1, [0], state);
plain!(plain_0, crate::replaced, "plain", 0, [1]);

fn is_long() -> bool {
    std::env::var_os("LCR_LONG").is_some()
}

/// How much is done.
struct Size {
    replacements: u64,
    calls: u64,
    time: Duration,
}

/// What one phase has done.
#[derive(Debug, Default)]
struct Done {
    replacements: u64,
    calls: u64,
    held: u64,
    took: Duration,
}

/// Calls on every core, and replaces on one more thread, until all of `size` is done,
/// or its time is over.
fn soak(factory: &Factory, name: &str, has_state: bool, files: &[Option<PathBuf>], size: &Size) -> Done {
    let work: Handle<dyn Work> = factory.reference(name, 0).unwrap();
    let callers = thread::available_parallelism().unwrap().get();
    let (stop, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let start = Barrier::new(callers + 1);
    let mut done = Done::default();
    let began = Instant::now();
    let made: u64 = thread::scope(|scope| {
        let call = || {
            let work = work.clone();
            let (mut generation, mut number, mut made) = (0, None, 0_u64);
            start.wait();
            while !stop.load(Ordering::Relaxed) {
                // In runs, so that counting them costs nothing.
                for _ in 0..4096 {
                    let (by, which) = work.call();
                    assert_ne!(by, 0, "a call was answered by a generation that was saved or destroyed");
                    assert!(by >= generation, "generation {by} after {generation}");
                    if by > generation && !has_state {
                        number = None;
                    }
                    assert!(number.is_none_or(|number| which > number), "{which} after {number:?}, of {by}");
                    (generation, number, made) = (by, Some(which), made + 1);
                }
                calls.fetch_add(4096, Ordering::Relaxed);
            }
            made
        };
        let threads: Vec<_> = (0..callers).map(|_| scope.spawn(call)).collect();
        start.wait();
        let mut files = files.iter().cycle();
        let mut version = 0;
        loop {
            let is_done =
                done.replacements >= size.replacements && calls.load(Ordering::Relaxed) >= size.calls;
            if is_done || began.elapsed() >= size.time {
                break;
            }
            version = 1 - version;
            let mut replacement = factory.replace(name).version(version).timeout(Duration::from_secs(60));
            if let Some(file) = files.next().unwrap() {
                let file = file.to_str().unwrap().replace("{}", &version.to_string());
                replacement = replacement.with(file);
            }
            let report = replacement.run().unwrap();
            assert!(report.drained.is_some(), "nobody stays inside");
            done.held += report.held_calls;
            done.replacements += 1;
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    done.took = began.elapsed();
    done.calls = made;
    if has_state {
        // The number went from hand to hand: it counts every call, once.
        assert_eq!(work.call().1, made);
        drop(work);
    } else {
        let counted = ledger::CALLS.load(Ordering::SeqCst);
        drop(work);
        // The last generation has not ended before this.
        let all = ledger::CALLS.load(Ordering::SeqCst);
        assert!(all > counted);
        assert_eq!(all, made, "each call was counted by one generation");
        ledger::CALLS.store(0, Ordering::SeqCst);
    }
    assert_eq!(ledger::BEGUN.load(Ordering::SeqCst), ledger::ENDED.load(Ordering::SeqCst), "none is left");
    done
}

#[test]
fn every_call_is_answered_once_by_one_generation_and_never_by_an_earlier_one() {
    // Debug builds do less in their time.
    let seconds = Duration::from_secs;
    let size = |share: u64| {
        if is_long() {
            Size { replacements: 100_000 / share, calls: 1_000_000_000 / share, time: seconds(3600) }
        } else {
            Size { replacements: 2_000 / share, calls: 10_000_000 / share, time: seconds(6) / (share as u32) }
        }
    };
    let path = |name: &str| {
        let zero = library(&format!("{name}_0"));
        Some(PathBuf::from(zero.to_str().unwrap().replace("_0.so", "_{}.so")))
    };
    let by_library = [path("worker")];
    let mixed = [path("counter"), None];
    let mut total = Done::default();
    for (what, name, has_state, files, share) in [
        ("static by static", "worker", false, &[None][..], 2),
        ("library by library", "worker", false, &by_library[..], 8),
        ("static by static, with state", "counter", true, &[None][..], 4),
        ("library and static in turn, with state", "counter", true, &mixed[..], 8),
    ] {
        let done = soak(&factory(), name, has_state, files, &size(share));
        println!("{what}: {done:?}");
        assert!(done.replacements > 2 && done.calls > 0, "{done:?}");
        total.replacements += done.replacements;
        total.calls += done.calls;
    }
    println!("{} replacements, {} calls, none lost", total.replacements, total.calls);
    if is_long() {
        assert!(total.replacements >= 100_000 && total.calls >= 1_000_000_000, "{total:?}");
    }
    load_replace_unload_over_and_over();
}

/// In the same test: it counts what the process holds.
fn load_replace_unload_over_and_over() {
    let factory = factory();
    let plain: Handle<dyn Store> = factory.reference("plain", 0).unwrap();
    let (zero, one) = (library("plain_0"), library("plain_1"));
    let cycle = || {
        // Static by library, library by library, library by static: two are loaded and
        // unloaded in each.
        for (file, version) in [(Some(&one), 1), (Some(&zero), 0), (Some(&one), 1), (None, 0)] {
            let mut replacement = factory.replace("plain").version(version);
            if let Some(file) = file {
                replacement = replacement.with(file);
            }
            assert!(replacement.run().unwrap().drained.is_some());
            assert_eq!(plain.version(), version.cast_unsigned());
        }
    };
    // What the process allocates once, and the history, which has an end.
    for _ in 0..if is_long() { 300 } else { 40 } {
        cycle();
    }
    let cycles: u32 = if is_long() { 10_000 } else { 200 };
    let (before, resident_before) = (Holds::now(), resident());
    let began = Instant::now();
    for _ in 0..cycles {
        cycle();
    }
    let took = began.elapsed() / cycles;
    let (after, resident_after) = (Holds::settled(&before), resident());
    println!("{cycles} cycles, {took:?} each; resident {resident_before} -> {resident_after} KiB");
    assert_eq!(after, before, "kept: {:?}", sweep());
    assert!(resident_after < resident_before + 1024, "{resident_before} -> {resident_after} KiB");
}
