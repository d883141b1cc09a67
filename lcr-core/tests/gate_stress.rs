//! The gate on the machine itself: calls of every shape against replacements
//! back to back, for about a second and a half a mode.
//!
//! What is checked, by every call and at the end: no call reaches an instance
//! that was destroyed or is being saved; no thread sees an earlier generation
//! after a later one; every call was executed once, by one generation.
//!
//! Run for longer, or under ThreadSanitizer (with a nightly compiler that has
//! `rust-src`; the sanitizer knows no fences, so the fence mode is not for it):
//!
//! ```sh
//! GATE_STRESS_SECONDS=60 cargo test --release -p lcr-core --test gate_stress
//! RUSTFLAGS=-Zsanitizer=thread cargo +nightly test -Zbuild-std --target x86_64-unknown-linux-gnu \
//!     -p lcr-core --test gate_stress --release -- --exact calls_and_replacements
//! ```

use std::cell::{RefCell, UnsafeCell};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lcr_core::gate::{
    Entered, GateHead, Hold, InstanceHead, NotQuiet, Pins, WITHOUT_HEAVY, readers_pay_a_fence, wait_quiet,
};

/// One instance; its memory is used again, so that addresses recur.
#[repr(C)]
struct Instance {
    head: InstanceHead,
    generation: AtomicU64,
    destroyed: AtomicBool,
    saving: AtomicBool,
    executed: AtomicU64,
    /// Not atomic: written by the replacer alone, while nobody is inside. This is
    /// what a race detector watches.
    state: UnsafeCell<u64>,
}

struct Interface {
    gate: GateHead,
    pool: Vec<Instance>,
    /// Executed by instances that were destroyed.
    executed: AtomicU64,
}

// SAFETY: `Instance::state` is written under the gate's protection only, which
// is what the test is about.
unsafe impl Sync for Interface {}

struct Field {
    interfaces: [Interface; 2],
    over: AtomicBool,
    calls: AtomicU64,
    wrong: Mutex<Vec<String>>,
    /// The barrier is out: what is not atomic must not be touched.
    broken: bool,
}

const POOL: usize = 6;

impl Field {
    fn new(broken: bool) -> &'static Field {
        let interface =
            |name| Interface { gate: GateHead::new(name), pool: Vec::new(), executed: AtomicU64::new(0) };
        let field = Box::leak(Box::new(Field {
            interfaces: [interface("left"), interface("right")],
            over: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            wrong: Mutex::new(Vec::new()),
            broken,
        }));
        for interface in &mut field.interfaces {
            let gate = &raw const interface.gate;
            for _ in 0..POOL {
                interface.pool.push(Instance {
                    // SAFETY: gate and instance are leaked.
                    head: unsafe { InstanceHead::new(std::ptr::null(), std::ptr::null(), 0, gate) },
                    generation: AtomicU64::new(0),
                    destroyed: AtomicBool::new(true),
                    saving: AtomicBool::new(false),
                    executed: AtomicU64::new(0),
                    state: UnsafeCell::new(0),
                });
            }
        }
        let field: &'static Field = field;
        for interface in &field.interfaces {
            // SAFETY: leaked.
            unsafe { interface.gate.open(field.construct(interface, 1)) };
        }
        field
    }

    fn construct(&self, interface: &Interface, generation: u64) -> *const InstanceHead {
        let at = usize::try_from(generation).unwrap() % POOL;
        let instance: &Instance = &interface.pool[at];
        assert!(instance.destroyed.load(Ordering::Relaxed), "the pool is too small for the test");
        if !self.broken {
            // SAFETY: destroyed: nobody is inside.
            unsafe { *instance.state.get() = generation };
        }
        instance.generation.store(generation, Ordering::Relaxed);
        instance.saving.store(false, Ordering::Relaxed);
        instance.destroyed.store(false, Ordering::Relaxed);
        std::ptr::from_ref(instance).cast()
    }

    fn destroy(&self, interface: &Interface, head: *const InstanceHead) {
        let instance = instance(head);
        instance.destroyed.store(true, Ordering::Relaxed);
        interface.executed.fetch_add(instance.executed.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        if !self.broken {
            // SAFETY: quiet, as the caller found.
            unsafe { *instance.state.get() = u64::MAX };
        }
    }

    fn report(&self, what: String) {
        self.over.store(true, Ordering::Relaxed);
        self.wrong.lock().unwrap().push(what);
    }
}

fn instance(head: *const InstanceHead) -> &'static Instance {
    // SAFETY: every head of the test is the first field of a leaked `Instance`.
    unsafe { &*head.cast::<Instance>() }
}

/// A thread's pseudo-random numbers, and the latest generations that it saw.
struct Caller {
    field: &'static Field,
    random: u64,
    latest: [u64; 2],
    calls: u64,
    /// More than a processor caches; empty while the barrier is in its place.
    cold: Vec<u64>,
}

impl Caller {
    fn new(field: &'static Field, seed: u64) -> Self {
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let cold = vec![0; if field.broken { 8 << 20 } else { 0 }];
        Caller { field, random, latest: [0; 2], calls: 0, cold }
    }

    fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 33) as usize % below
    }

    fn enter(&mut self, which: usize) -> Entered<'static> {
        let entered = self.field.interfaces[which].gate.enter();
        let inst = instance(&raw const *entered);
        let generation = self.check(inst, "on entry");
        if generation < self.latest[which] {
            self.field.report(format!("generation {generation} after {}", self.latest[which]));
        }
        self.latest[which] = generation;
        inst.executed.fetch_add(1, Ordering::Relaxed);
        self.calls += 1;
        entered
    }

    fn check(&self, inst: &Instance, when: &str) -> u64 {
        let generation = inst.generation.load(Ordering::Relaxed);
        if inst.destroyed.load(Ordering::Relaxed) {
            self.field.report(format!("{when}: inside generation {generation}, which was destroyed"));
        }
        if inst.saving.load(Ordering::Relaxed) {
            self.field.report(format!("{when}: inside generation {generation}, which is being saved"));
        }
        if !self.field.broken {
            // SAFETY: inside: nobody writes.
            let state = unsafe { *inst.state.get() };
            if state != generation {
                self.field.report(format!("{when}: the state of {generation} is {state}"));
            }
        }
        generation
    }

    fn leave(&mut self, entered: Entered<'static>) {
        let inst = instance(&raw const *entered);
        let before = inst.generation.load(Ordering::Relaxed);
        for _ in 0..self.random(24) {
            std::hint::spin_loop();
        }
        if self.check(inst, "before leaving") != before {
            self.field.report(format!("generation {before} became another while it was called"));
        }
    }

    /// Fills the processor's store buffer: stores are seen by others in their order,
    /// so the next one, into the cell, waits behind these, and the load after it
    /// does not. That is the reordering which the barriers are there for; without
    /// this it lasts too short for the replacer to fall into it.
    fn stall(&mut self) {
        for _ in 0..40 {
            let line = self.random(self.cold.len() / 8) * 8;
            self.cold[line] = self.calls;
        }
    }

    fn one_round(&mut self) {
        if self.field.broken {
            self.stall();
            let which = self.random(2);
            let entered = self.enter(which);
            self.leave(entered);
            return;
        }
        match 15 - self.random(16) {
            0 => {
                // Out of order, across both.
                let (a, b) = (self.enter(0), self.enter(1));
                self.leave(a);
                let c = self.enter(0);
                self.leave(b);
                self.leave(c);
            }
            1 => {
                // Deeper than a block has cells, left in any order.
                let mut guards: Vec<_> = (0..12).map(|i| self.enter(i % 2)).collect();
                while !guards.is_empty() {
                    let at = self.random(guards.len());
                    let guard = guards.swap_remove(at);
                    self.leave(guard);
                }
            }
            2 => {
                let which = self.random(2);
                let entered = self.enter(which);
                let head = instance(&raw const *entered);
                head.head.pin();
                self.leave(entered);
                self.check(head, "pinned");
                // SAFETY: it was pinned above.
                unsafe { head.head.unpin() };
            }
            3 | 4 => {
                let outer = self.enter(0);
                for _ in 0..4 {
                    let inner = self.enter(1);
                    self.leave(inner);
                }
                self.leave(outer);
            }
            _ => {
                for _ in 0..16 {
                    let which = self.random(2);
                    let entered = self.enter(which);
                    self.leave(entered);
                }
            }
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.field.calls.fetch_add(self.calls, Ordering::Relaxed);
    }
}

thread_local! {
    /// Calls once more when it is destroyed: touched before the thread's first
    /// call it goes after the thread's cells went, touched later before that.
    static EARLY: RefCell<Option<Last>> = const { RefCell::new(None) };
    static LATE: RefCell<Option<Last>> = const { RefCell::new(None) };
}

struct Last {
    caller: Caller,
    /// Entered while the thread lived, left after its cells were given back.
    kept: Option<Entered<'static>>,
}

impl Drop for Last {
    fn drop(&mut self) {
        for _ in 0..3 {
            self.caller.one_round();
        }
        if let Some(kept) = self.kept.take() {
            self.caller.leave(kept);
        }
    }
}

fn short_life(field: &'static Field, seed: u64) {
    let last = |seed| Last { caller: Caller::new(field, seed), kept: None };
    EARLY.with_borrow_mut(|slot| *slot = Some(last(seed + 1)));
    let mut caller = Caller::new(field, seed);
    for _ in 0..caller.random(4) {
        caller.one_round();
    }
    LATE.with_borrow_mut(|slot| *slot = Some(last(seed + 2)));
    if seed.is_multiple_of(4) {
        EARLY.with_borrow_mut(|slot| {
            let last = slot.as_mut().unwrap();
            last.kept = Some(last.caller.enter(0));
        });
    }
}

struct Outcome {
    swaps: u64,
    holds: u64,
    given_up: u64,
}

/// Replaces until the time is over.
fn replace(field: &'static Field, until: Instant) -> Outcome {
    let mut outcome = Outcome { swaps: 0, holds: 0, given_up: 0 };
    let (mut generation, mut round) = (1, 0);
    let [left, right] = &field.interfaces;
    // Generations are destroyed at once, so the pool needs no more than two.
    while Instant::now() < until && !field.over.load(Ordering::Relaxed) {
        round += 1;
        if round % 8 < 6 || field.broken {
            generation += 1;
            for interface in [left, right] {
                let new = field.construct(interface, generation);
                // SAFETY: leaked; this is the only thread that replaces.
                let old = unsafe { interface.gate.swap(new) }.unwrap();
                wait_quiet(&[&instance(old).head], Pins::Count, None).unwrap();
                field.destroy(interface, old);
                outcome.swaps += 1;
            }
            if !field.broken {
                // A call that is counted does not take the way that wants the barrier.
                count_now_and_then(left, generation);
            }
            continue;
        }
        // SAFETY: this is the only thread that replaces.
        let hold = unsafe { Hold::begin(&[&left.gate, &right.gate]) }.unwrap();
        let deadline = Instant::now() + Duration::from_millis(200);
        match hold.wait_quiet(Some(deadline)) {
            Ok(()) => {}
            Err(NotQuiet::Deadline(inside)) => {
                assert!(!inside.is_empty());
                outcome.given_up += 1;
                continue;
            }
            Err(e) => panic!("{e}"),
        }
        let saved: Vec<&Instance> = hold.instances().map(|i| instance(i)).collect();
        for inst in &saved {
            inst.saving.store(true, Ordering::Relaxed);
            if !field.broken {
                // SAFETY: quiet and held.
                unsafe { *inst.state.get() = 0 };
            }
        }
        outcome.holds += 1;
        if round % 8 == 7 {
            // The new version failed: the old one serves on.
            for inst in &saved {
                if !field.broken {
                    // SAFETY: still quiet and held.
                    unsafe { *inst.state.get() = inst.generation.load(Ordering::Relaxed) };
                }
                inst.saving.store(false, Ordering::Relaxed);
            }
            hold.reopen();
            continue;
        }
        generation += 1;
        let new = [left, right].map(|i| field.construct(i, generation));
        // SAFETY: quiet, and leaked.
        let opened = unsafe { hold.open_with(&new) };
        let old: Vec<&InstanceHead> = opened.old.iter().map(|i| &instance(*i).head).collect();
        wait_quiet(&old, Pins::Count, None).unwrap();
        field.destroy(left, opened.old[0]);
        field.destroy(right, opened.old[1]);
    }
    outcome
}

/// Switches the counting of calls now and then: it shares a word with the rest.
fn count_now_and_then(interface: &Interface, generation: u64) {
    if generation.is_multiple_of(64) {
        interface.gate.count_calls(!interface.gate.is_counting());
    }
}

fn seconds() -> f64 {
    std::env::var("GATE_STRESS_SECONDS").map_or(1.5, |s| s.parse().expect("GATE_STRESS_SECONDS is a number"))
}

/// Runs everything; returns what went wrong.
fn stress(broken: bool, duration: Duration) -> Vec<String> {
    WITHOUT_HEAVY.store(broken, Ordering::Relaxed);
    let field = Field::new(broken);
    let until = Instant::now() + duration;
    let threads = AtomicUsize::new(0);
    let outcome = thread::scope(|s| {
        let processors = thread::available_parallelism().map_or(2, usize::from);
        // Without the barrier it takes a caller and the replacer in the very same
        // instant: one processor is the replacer's.
        let callers = if broken { processors.saturating_sub(1).max(1) } else { processors };
        for seed in 0..callers as u64 {
            s.spawn(move || {
                let mut caller = Caller::new(field, seed + 1);
                while !field.over.load(Ordering::Relaxed) {
                    caller.one_round();
                }
            });
        }
        s.spawn(|| {
            let mut seed = 1000;
            while !broken && !field.over.load(Ordering::Relaxed) {
                seed += 10;
                threads.fetch_add(1, Ordering::Relaxed);
                thread::Builder::new().spawn(move || short_life(field, seed)).unwrap().join().unwrap();
            }
        });
        let outcome = replace(field, until);
        field.over.store(true, Ordering::Relaxed);
        outcome
    });
    let executed: u64 = field
        .interfaces
        .iter()
        .map(|i| {
            let current = instance(i.gate.current());
            i.executed.load(Ordering::Relaxed) + current.executed.load(Ordering::Relaxed)
        })
        .sum();
    let calls = field.calls.load(Ordering::Relaxed);
    let threads = threads.into_inner();
    let Outcome { swaps, holds, given_up } = outcome;
    println!(
        "fence: {}, calls {calls}, swaps {swaps}, holds {holds}, given up {given_up}, short-lived threads {threads}",
        readers_pay_a_fence()
    );
    let mut wrong = std::mem::take(&mut *field.wrong.lock().unwrap());
    if !broken {
        if calls != executed {
            wrong.push(format!("{calls} calls were made, {executed} were executed"));
        }
        if calls < 1000 || swaps < 100 || holds < 10 || threads < 10 {
            wrong.push("not everything was tried".to_owned());
        }
    }
    wrong
}

/// One mode at a time: each wants every processor.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn calls_and_replacements() {
    let child = std::env::var("GATE_STRESS_CHILD").unwrap_or_default();
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if child == "broken" {
        // Ends at the first wrong call.
        let wrong = stress(true, Duration::from_secs(120));
        println!("{}", wrong.first().map_or("NOTHING WRONG", |_| "WRONG"));
        return;
    }
    if child == "fence" {
        assert!(readers_pay_a_fence(), "LCR_NO_MEMBARRIER=1 was not heeded");
    }
    let wrong = stress(false, Duration::from_secs_f64(seconds()));
    assert!(wrong.is_empty(), "{} findings, the first: {}", wrong.len(), wrong[0]);
}

fn child(mode: &str, environment: &[(&str, &str)]) -> (bool, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "calls_and_replacements", "--nocapture"])
        .env("GATE_STRESS_CHILD", mode)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}

#[test]
fn calls_and_replacements_without_membarrier() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (passed, output) = child("fence", &[("LCR_NO_MEMBARRIER", "1")]);
    assert!(passed, "{output}");
}

#[test]
fn a_missing_heavy_barrier_is_noticed() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (ended, output) = child("broken", &[]);
    assert!(ended && output.contains("WRONG") && !output.contains("NOTHING WRONG"), "{output}");
}
