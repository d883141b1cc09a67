//! The gate's protocol under loom: every interleaving, and every value that the
//! memory model allows a load to see, up to three preemptions.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test --release -p lcr-core --test loom_gate
//! ```
//!
//! The modelled code is `src/gate/protocol.rs` itself, over loom's atomics. Both
//! barriers are `SeqCst` fences here: that `membarrier` is as good as one is
//! shown by `gate_stress`. Three models must fail, each with one thing taken out.
#![cfg(loom)]

#[path = "../src/gate/protocol.rs"]
#[allow(dead_code, unreachable_pub)]
mod protocol;

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
}

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use protocol::{HELD, TAGS};
use sync::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// What is taken out.
#[derive(Clone, Copy, PartialEq)]
enum Without {
    Nothing,
    HeavyBarrier,
    LightBarrier,
    Passes,
}

const ALIVE: u32 = 1;
const SAVED: u32 = 2;
const DESTROYED: u32 = 3;

/// A gate, an old instance behind it, and a new one.
struct Gate {
    cur: AtomicUsize,
    turn: AtomicU32,
    /// The kernel's side of `turn`.
    sleepers: (Mutex<()>, Condvar),
    /// Loom fails the model when an access to these is not ordered with a write.
    instances: [UnsafeCell<u32>; 2],
    first: usize,
}

impl Gate {
    fn new(first: usize) -> Self {
        Gate {
            cur: AtomicUsize::new(first << 2),
            turn: AtomicU32::new(0),
            sleepers: (Mutex::new(()), Condvar::new()),
            instances: [UnsafeCell::new(ALIVE), UnsafeCell::new(ALIVE)],
            first,
        }
    }

    fn old(&self) -> usize {
        self.first << 2
    }

    fn new_one(&self) -> usize {
        (self.first + 1) << 2
    }

    fn instance(&self, address: usize) -> &UnsafeCell<u32> {
        &self.instances[(address >> 2) - self.first]
    }

    /// `futex(FUTEX_WAIT)`: compares and goes to sleep in one step.
    fn sleep(&self, word: &AtomicU32, seen: u32) {
        let (lock, sleepers) = &self.sleepers;
        let guard = lock.lock().unwrap();
        if word.load(Ordering::SeqCst) == seen {
            drop(sleepers.wait(guard).unwrap());
        }
    }

    /// `futex(FUTEX_WAKE)`.
    fn wake(&self) {
        let (lock, sleepers) = &self.sleepers;
        let _guard = lock.lock().unwrap();
        sleepers.notify_all();
    }

    fn set(&self, address: usize, state: u32) {
        // SAFETY: loom fails the model if anyone else has access.
        self.instance(address).with_mut(|p| unsafe { *p = state });
    }
}

struct World {
    gates: [Gate; 2],
    /// Two cells for each of two readers.
    cells: [[AtomicUsize; 2]; 2],
    passes: AtomicU64,
    /// The transaction, and which it is that the gates' old instances are in.
    transaction: AtomicU64,
    without: Without,
}

impl World {
    fn new(without: Without) -> Arc<World> {
        let cells = || [AtomicUsize::new(0), AtomicUsize::new(0)];
        Arc::new(World {
            gates: [Gate::new(1), Gate::new(3)],
            cells: [cells(), cells()],
            passes: AtomicU64::new(0),
            transaction: AtomicU64::new(0),
            without,
        })
    }

    fn light(&self) {
        if self.without != Without::LightBarrier {
            fence(Ordering::SeqCst);
        }
    }

    fn heavy(&self) {
        if self.without != Without::HeavyBarrier {
            fence(Ordering::SeqCst);
        }
    }

    /// `slow::enter`, for a thread whose other cell, `inside`, may speak for it.
    fn enter(&self, gate: &Gate, cell: &AtomicUsize, inside: Option<&AtomicUsize>) -> usize {
        loop {
            let turn = protocol::turn(&gate.turn);
            let seen = gate.cur.load(Ordering::Acquire);
            let entered = if seen & HELD == 0 {
                protocol::publish(&gate.cur, cell, seen, || self.light())
            } else if inside.is_some_and(|c| self.in_transaction(c)) {
                protocol::pass(&gate.cur, cell, seen, &self.passes, || {
                    inside.is_some_and(|c| self.in_transaction(c))
                })
            } else {
                gate.sleep(&gate.turn, turn);
                continue;
            };
            if entered {
                return seen & !TAGS;
            }
        }
    }

    /// Whether the cell names an old instance, and those are in the transaction.
    fn in_transaction(&self, cell: &AtomicUsize) -> bool {
        let address = cell.load(Ordering::Relaxed);
        self.gates.iter().any(|g| g.old() == address) && self.transaction.load(Ordering::Acquire) != 0
    }

    /// A call: what is reached must be alive, from entry to leaving.
    fn call(&self, gate: &Gate, address: usize) {
        gate.instance(address).with(|p| {
            // SAFETY: loom fails the model if anyone writes meanwhile.
            assert_eq!(unsafe { *p }, ALIVE, "a call reached an instance that is not alive");
        });
    }

    fn wait_quiet(&self, addresses: &[usize]) {
        self.heavy();
        let occupied = || {
            // From the last to the first, against the order of entering.
            self.cells.iter().flatten().rev().any(|c| addresses.contains(&c.load(Ordering::Acquire)))
        };
        loop {
            let quiet = if self.without == Without::Passes {
                !occupied()
            } else {
                protocol::is_quiet(&self.passes, occupied)
            };
            if quiet {
                return;
            }
            thread::yield_now();
        }
    }

    fn hold(&self, gates: &[Gate]) {
        self.transaction.store(1, Ordering::SeqCst);
        for gate in gates {
            protocol::hold(&gate.cur);
        }
    }

    fn open(&self, gates: &[Gate], with: impl Fn(&Gate) -> usize) {
        for gate in gates {
            protocol::exchange(&gate.cur, with(gate));
        }
        for gate in gates {
            protocol::end_turn(&gate.turn);
            gate.wake();
        }
    }
}

/// A thread that calls through the first gate, with a thread's own cells.
fn reader(world: &Arc<World>, which: usize, calls: usize) -> thread::JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || {
        let (gate, cell) = (&world.gates[0], &world.cells[which][0]);
        let mut latest = 0;
        for _ in 0..calls {
            let address = world.enter(gate, cell, None);
            assert!(address >= latest, "an older instance after a newer one");
            latest = address;
            world.call(gate, address);
            protocol::leave(cell);
        }
    })
}

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(f);
}

/// Two readers, one of them twice, and a swap.
fn stateless(without: Without) {
    model(move || {
        let world = World::new(without);
        let readers = [reader(&world, 0, 2), reader(&world, 1, 1)];
        let gate = &world.gates[0];
        let old = protocol::exchange(&gate.cur, gate.new_one());
        assert_eq!(old, gate.old());
        world.wait_quiet(&[old]);
        gate.set(old, DESTROYED);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

/// Two readers, and a replacement that hands state over.
fn held(without: Without) {
    model(move || {
        let world = World::new(without);
        let readers = [reader(&world, 0, 1), reader(&world, 1, 1)];
        let gate = &world.gates[0];
        let gates = &world.gates[..1];
        world.hold(gates);
        world.wait_quiet(&[gate.old()]);
        gate.set(gate.old(), SAVED);
        world.open(gates, Gate::new_one);
        world.wait_quiet(&[gate.old()]);
        gate.set(gate.old(), DESTROYED);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

/// A reader inside one held gate enters another, and leaves the first before.
fn nested(without: Without) {
    model(move || {
        let world = World::new(without);
        let nester = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let [outer, inner] = &world.gates;
                let [first, second] = &world.cells[0];
                let a = world.enter(outer, first, None);
                let b = world.enter(inner, second, Some(first));
                protocol::leave(first);
                world.call(inner, b);
                protocol::leave(second);
                assert_eq!(a == outer.new_one(), b == inner.new_one(), "two versions in one call");
            })
        };
        let gates = &world.gates;
        world.hold(gates);
        world.wait_quiet(&[gates[0].old(), gates[1].old()]);
        gates[1].set(gates[1].old(), SAVED);
        world.open(gates, Gate::new_one);
        world.wait_quiet(&[gates[0].old(), gates[1].old()]);
        gates[1].set(gates[1].old(), DESTROYED);
        nester.join().unwrap();
    });
}

#[test]
fn a_swap_loses_nobody() {
    stateless(Without::Nothing);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_the_heavy_barrier_a_swap_is_wrong() {
    stateless(Without::HeavyBarrier);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_the_light_barrier_a_swap_is_wrong() {
    stateless(Without::LightBarrier);
}

#[test]
fn a_hold_lets_nobody_in() {
    held(Without::Nothing);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_the_heavy_barrier_a_hold_is_wrong() {
    held(Without::HeavyBarrier);
}

#[test]
fn a_failed_hold_goes_on_with_the_old() {
    model(|| {
        let world = World::new(Without::Nothing);
        let readers = [reader(&world, 0, 1), reader(&world, 1, 1)];
        let gate = &world.gates[0];
        let gates = &world.gates[..1];
        world.hold(gates);
        world.wait_quiet(&[gate.old()]);
        gate.set(gate.old(), SAVED);
        gate.set(gate.old(), ALIVE);
        world.open(gates, Gate::old);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn a_nested_call_passes_the_hold_it_is_inside_of() {
    nested(Without::Nothing);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_counting_passes_a_scan_is_wrong() {
    nested(Without::Passes);
}
