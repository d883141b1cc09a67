//! What a call through a gate costs, against the same call without one.
//!
//! ```sh
//! cargo run --release -p lcr-core --example gate_cost
//! LCR_NO_MEMBARRIER=1 cargo run --release -p lcr-core --example gate_cost
//! ```
//!
//! Prints the minimum of 300 interleaved rounds, in nanoseconds a call; then how
//! long a swap and its grace period take while every processor calls.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lcr_core::gate::{GateHead, InstanceHead, Pins, wait_quiet};

trait Contract {
    fn call(&self, x: u64) -> u64;
}

struct Component(u64);

impl Contract for Component {
    #[inline(never)]
    fn call(&self, x: u64) -> u64 {
        self.0.wrapping_add(x)
    }
}

#[repr(C)]
struct Table {
    call: unsafe extern "C" fn(*const (), u64) -> u64,
}

static TABLE: Table = Table { call: thunk };

unsafe extern "C" fn thunk(this: *const (), x: u64) -> u64 {
    // SAFETY: every caller below passes the component's address.
    unsafe { &*this.cast::<Component>() }.call(x)
}

/// What a contract's generated method does, without its panic capture.
#[inline(always)]
fn through(head: &InstanceHead, x: u64) -> u64 {
    // SAFETY: `main` builds the instance from this table and a component.
    unsafe { ((*head.methods.cast::<Table>()).call)(head.object, x) }
}

/// Not inlined, to be read in a disassembly.
#[inline(never)]
#[unsafe(no_mangle)]
fn gated_call(gate: &GateHead, x: u64) -> u64 {
    through(&gate.enter(), x)
}

const CALLS: u64 = 20_000;

fn time(f: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64() * 1e9 / CALLS as f64
}

fn main() {
    let component = Component(black_box(1));
    let gate = GateHead::new("bench");
    let object = (&raw const component).cast();
    // SAFETY: gate and component outlive the instance.
    let instance = unsafe { InstanceHead::new(object, (&raw const TABLE).cast(), 1, &gate) };
    // SAFETY: the instance outlives every call.
    unsafe { gate.open(&instance) };
    let boxed: Box<dyn Contract> = black_box(Box::new(Component(black_box(1))));
    let (gate, instance) = (black_box(&gate), black_box(&instance));

    let mut sum = 0u64;
    let mut rows: [(&str, f64); 7] = [
        ("Box<dyn>", f64::MAX),
        ("table, no gate (an Instance)", f64::MAX),
        ("gate", f64::MAX),
        ("gate, not inlined", f64::MAX),
        ("enter once, then calls", f64::MAX),
        ("gate, nested in another call", f64::MAX),
        ("gate, counting", f64::MAX),
    ];
    for _ in 0..300 {
        let mut best = |i: usize, f: &mut dyn FnMut()| rows[i].1 = rows[i].1.min(time(f));
        best(0, &mut || (0..CALLS).for_each(|i| sum = boxed.call(sum ^ i)));
        best(1, &mut || (0..CALLS).for_each(|i| sum = through(instance, sum ^ i)));
        best(2, &mut || (0..CALLS).for_each(|i| sum = through(&gate.enter(), sum ^ i)));
        best(3, &mut || (0..CALLS).for_each(|i| sum = gated_call(gate, sum ^ i)));
        best(4, &mut || {
            let inside = gate.enter();
            (0..CALLS).for_each(|i| sum = through(&inside, sum ^ i));
        });
        best(5, &mut || {
            let _outer = gate.enter();
            (0..CALLS).for_each(|i| sum = through(&gate.enter(), sum ^ i));
        });
        gate.count_calls(true);
        best(6, &mut || (0..CALLS).for_each(|i| sum = through(&gate.enter(), sum ^ i)));
        gate.count_calls(false);
    }
    black_box(sum);
    println!("readers pay a fence: {}", lcr_core::gate::readers_pay_a_fence());
    for (name, ns) in rows {
        println!("{ns:7.2} ns  {:+6.2}  {name}", ns - rows[1].1);
    }

    for callers in [1, thread::available_parallelism().map_or(2, usize::from)] {
        grace(callers, object);
    }
}

/// Swaps two instances, waiting for each to become quiet, every 200 µs.
fn grace(callers: usize, object: *const ()) {
    let gate = GateHead::new("swapped");
    // SAFETY: gate and component outlive the instances.
    let instances =
        [(); 2].map(|()| unsafe { InstanceHead::new(object, (&raw const TABLE).cast(), 1, &gate) });
    // SAFETY: the instances outlive every call.
    unsafe { gate.open(&instances[0]) };
    let over = AtomicBool::new(false);
    let mut took: Vec<Duration> = Vec::new();
    thread::scope(|s| {
        for _ in 0..callers {
            s.spawn(|| {
                let mut sum = 0;
                while !over.load(Ordering::Relaxed) {
                    sum = through(&gate.enter(), black_box(sum));
                }
            });
        }
        for i in 1..10_000 {
            let start = Instant::now();
            // SAFETY: this thread alone swaps; the instances outlive the scope.
            unsafe { gate.swap(&instances[i % 2]) }.unwrap();
            wait_quiet(&[&instances[(i + 1) % 2]], Pins::Count, None).unwrap();
            took.push(start.elapsed());
            thread::sleep(Duration::from_micros(200));
        }
        over.store(true, Ordering::Relaxed);
    });
    took.sort();
    let at = |permille: usize| took[took.len() * permille / 1000].as_secs_f64() * 1e6;
    println!(
        "{callers} callers: swap and grace p50 {:.1} µs, p99 {:.1} µs, p99.9 {:.1} µs",
        at(500),
        at(990),
        at(999)
    );
}
