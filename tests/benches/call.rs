//! What a call costs: `Box<dyn>`, an `Instance`, a `Handle`, a run of calls through
//! `Handle::enter`; the caller and the callee each linked in or in a library; and
//! other ways to guard a call against replacement.
//!
//! ```sh
//! cargo bench -p lcr-tests --bench call
//! ```

mod rounds;

use std::hint::black_box;
use std::sync::{Arc, Barrier, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use bench_worker::{Driver, Way, Work, boxed};
use criterion::Criterion;
use lcr_core::{Factory, Handle};
use rounds::{Measured, Side, compare, target};

lcr_core::link!(bench_worker);

const ROUNDS: usize = 300;
const CALLS: u64 = 20_000;

fn main() {
    let mut criterion = rounds::criterion();
    let built = lcr_tests::build(&["lcr-bench-worker-library"], lcr_tests::Profile::Release);
    let library =
        Factory::builder().components([]).without_environment().path(built.library("worker")).build();
    let program = Factory::builder().without_environment().build();

    for (from, caller) in [("program", &program), ("library", &library)] {
        for (to, callee) in [("program", &program), ("library", &library)] {
            let driver = caller.reference::<dyn Driver>("bench.driver", 0).unwrap();
            let work = callee.reference::<dyn Work>("bench.work", 0).unwrap();
            let title = format!("call from {from} to {to}");
            numbers(&mut criterion, &title, &driver, &work, 1);
            numbers(&mut criterion, &title, &driver, &work, cores());
            values(&mut criterion, &title, &driver, &work);
        }
    }
    let work = program.reference::<dyn Work>("bench.work", 0).unwrap();
    for threads in [1, cores()] {
        guards(&mut criterion, &work, threads);
    }
    criterion.final_summary();
}

fn cores() -> usize {
    thread::available_parallelism().map_or(2, usize::from).max(2)
}

/// So many threads do it at once; the mean of what each of them took.
fn on(threads: usize, run: impl Fn() -> Duration + Sync) -> Duration {
    if threads == 1 {
        return run();
    }
    let start = Barrier::new(threads);
    let total: Duration = thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    run()
                })
            })
            .collect();
        all.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    total / u32::try_from(threads).unwrap()
}

fn numbers(
    criterion: &mut Criterion,
    title: &str,
    driver: &Handle<dyn Driver>,
    work: &Handle<dyn Work>,
    threads: usize,
) {
    let title = format!("{title}, {threads} thread{}", if threads == 1 { "" } else { "s" });
    let side = |name: &str, way: Way| {
        Side::new(name, move |calls| on(threads, || driver.drive(work.clone(), way as u32, calls)))
    };
    let sides = vec![
        side("Box<dyn>", Way::Boxed),
        side("Instance", Way::Instance),
        side("Handle", Way::Handle),
        side("Handle::enter, then calls", Way::Entered),
        side("Box<dyn>, not inlined", Way::BoxedOne),
        side("Instance, not inlined", Way::InstanceOne),
        side("Handle, not inlined", Way::HandleOne),
    ];
    let measured = compare(criterion, &title, ROUNDS, CALLS, sides);
    let check = |what: &str, over: &str, ns: f64| {
        let (found, _) = measured.over(what, over);
        target(&format!("{title}: {what} over {over}"), ns, found, "ns");
    };
    check("Instance", "Box<dyn>", 1.0);
    check("Handle", "Instance", 1.5);
    check("Handle", "Box<dyn>", 2.5);
    check("Handle::enter, then calls", "Instance", 0.1);
    check("Instance, not inlined", "Box<dyn>, not inlined", 1.0);
    check("Handle, not inlined", "Instance, not inlined", 1.5);
    check("Handle, not inlined", "Box<dyn>, not inlined", 2.5);
}

fn values(criterion: &mut Criterion, title: &str, driver: &Handle<dyn Driver>, work: &Handle<dyn Work>) {
    let side =
        |name: &str, way: Way| Side::new(name, move |calls| driver.drive(work.clone(), way as u32, calls));
    let text = format!("{title}, &str in and String out");
    compare(
        criterion,
        &text,
        ROUNDS,
        2_000,
        vec![side("Box<dyn>", Way::BoxedText), side("Handle", Way::HandleText)],
    );
    let buffer = format!("{title}, Vec<u8> of 1 MiB in and out");
    let sides = vec![side("Box<dyn>", Way::BoxedBuffer), side("Handle", Way::HandleBuffer)];
    compare(criterion, &buffer, ROUNDS, 2_000, sides);
}

/// The same addition behind other guards.
fn guards(criterion: &mut Criterion, work: &Handle<dyn Work>, threads: usize) -> Measured {
    type Held = Arc<Box<dyn Work>>;
    let new = || -> Held { Arc::new(boxed()) };
    let plain = boxed();
    let swap = arc_swap::ArcSwap::from(new());
    let lock = RwLock::new(new());
    let epoch = crossbeam_epoch::Atomic::new(boxed());
    let collector = seize::Collector::new();
    let seized = std::sync::atomic::AtomicPtr::new(Box::into_raw(Box::new(boxed())));
    let reloaded = RwLock::new(libloading::os::unix::Library::this());

    let sides = vec![
        Side::new("Box<dyn>", |n| on(threads, || add(n, |x| plain.add(x)))),
        Side::new("Handle", |n| on(threads, || add(n, |x| work.add(x)))),
        Side::new("arc-swap Cache", |n| {
            on(threads, || {
                let mut cache = arc_swap::Cache::new(&swap);
                add(n, |x| cache.load().add(x))
            })
        }),
        Side::new("arc-swap load", |n| on(threads, || add(n, |x| swap.load().add(x)))),
        Side::new("crossbeam-epoch", |n| {
            on(threads, || {
                add(n, |x| {
                    let guard = crossbeam_epoch::pin();
                    // SAFETY: never replaced.
                    unsafe { epoch.load(std::sync::atomic::Ordering::Acquire, &guard).deref() }.add(x)
                })
            })
        }),
        Side::new("seize", |n| {
            on(threads, || {
                add(n, |x| {
                    use seize::Guard as _;
                    let guard = collector.enter();
                    // SAFETY: never replaced.
                    unsafe { &*guard.protect(&seized, std::sync::atomic::Ordering::Acquire) }.add(x)
                })
            })
        }),
        Side::new("RwLock<Arc>", |n| on(threads, || add(n, |x| lock.read().unwrap().add(x)))),
        Side::new("RwLock and dlsym (hot-lib-reloader)", |n| {
            on(threads, || {
                add(n, |x| {
                    let library = reloaded.read().unwrap();
                    // SAFETY: `abs` has been so since 1972.
                    let abs = unsafe { library.get::<unsafe extern "C" fn(i32) -> i32>(b"abs\0") }.unwrap();
                    // SAFETY: as above.
                    plain.add(x) + u64::from(unsafe { abs(0) }.unsigned_abs())
                })
            })
        }),
    ];
    let title = format!("guarded call, {threads} thread{}", if threads == 1 { "" } else { "s" });
    let measured = compare(criterion, &title, ROUNDS, CALLS, sides);
    // SAFETY: made above, and nobody calls any more.
    unsafe {
        drop(Box::from_raw(seized.into_inner()));
        drop(epoch.into_owned());
    }
    measured
}

#[inline(always)]
fn add(calls: u64, mut call: impl FnMut(u64) -> u64) -> Duration {
    let mut sum = black_box(0);
    let start = Instant::now();
    for i in 0..calls {
        sum = call(sum ^ i);
    }
    let took = start.elapsed();
    black_box(sum);
    took
}
