//! Holding gates: callers wait while state is handed over.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::{self, null_mut};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use super::protocol;
use super::quiet::{NotQuiet, Pins, wait_quiet, wait_quiet_unless};
use super::{BarrierRefused, GateHead, InstanceHead, barrier, cells};

/// Counts entries into held gates from inside the transaction.
pub(super) static PASSES: AtomicU64 = AtomicU64::new(0);

/// Numbers transactions; none is used twice.
static LAST: AtomicU64 = AtomicU64::new(0);
/// The thread that holds gates, 0 if none does.
static HOLDER: AtomicU32 = AtomicU32::new(0);
/// The gates it holds, for a child of `fork`.
static HELD_GATES: AtomicPtr<GateHead> = AtomicPtr::new(null_mut());

/// The instances of the hold that is going on. Their addresses are compared with what a
/// thread's cells name, and never followed: a cell whose guard was forgotten
/// ([`std::mem::forget`]) may name an instance that is gone.
struct Listed {
    /// Whose the addresses are; 0 while they change.
    transaction: AtomicU64,
    first: Addresses,
}

/// Some of them, zeros behind the last. Never freed: who reads them may be late.
struct Addresses {
    some: [AtomicUsize; 30],
    next: AtomicPtr<Addresses>,
}

static LISTED: Listed = Listed { transaction: AtomicU64::new(0), first: Addresses::none() };

impl Addresses {
    const fn none() -> Self {
        Addresses { some: [const { AtomicUsize::new(0) }; 30], next: AtomicPtr::new(null_mut()) }
    }

    fn next(&self) -> Option<&'static Addresses> {
        // SAFETY: null, or a chunk that was leaked.
        unsafe { self.next.load(Ordering::SeqCst).as_ref() }
    }
}

impl Listed {
    /// By the one thread that holds.
    fn fill(&'static self, transaction: u64, instances: &[*const InstanceHead]) {
        self.transaction.store(0, Ordering::SeqCst);
        let mut all = instances.iter().map(|instance| instance.addr());
        let mut chunk = &self.first;
        loop {
            for place in &chunk.some {
                place.store(all.next().unwrap_or(0), Ordering::SeqCst);
            }
            chunk = match chunk.next() {
                Some(next) => next,
                None if all.len() == 0 => break,
                None => {
                    let next: &'static Addresses = Box::leak(Box::new(Addresses::none()));
                    chunk.next.store(ptr::from_ref(next).cast_mut(), Ordering::SeqCst);
                    next
                }
            };
        }
        self.transaction.store(transaction, Ordering::SeqCst);
    }

    /// Whether an instance of `transaction`, which holds its gates, is at `address`.
    /// False if it has ended meanwhile.
    fn has(&'static self, transaction: u64, address: usize) -> bool {
        let is_its = || self.transaction.load(Ordering::SeqCst) == transaction;
        let mut chunks = std::iter::successors(Some(&self.first), |chunk| chunk.next());
        is_its()
            && chunks.any(|chunk| chunk.some.iter().any(|at| at.load(Ordering::SeqCst) == address))
            && is_its()
    }
}

/// Whether the calling thread is inside an instance of the transaction that holds `gate`,
/// as another of its cells than `but` says.
pub(super) fn is_inside_transaction_of(gate: &GateHead, but: Option<&AtomicUsize>) -> bool {
    let transaction = gate.transaction.load(Ordering::Acquire);
    transaction != 0
        && cells::own_cells_any(|cell, address| {
            !but.is_some_and(|but| ptr::eq(but, cell)) && LISTED.has(transaction, address)
        })
}

thread_local! {
    /// The transaction that this thread works for.
    static WORKS_FOR: Cell<u64> = const { Cell::new(0) };
}

/// Why gates cannot be held. None is.
#[derive(Debug, thiserror::Error)]
pub enum HoldRefused {
    /// Another hold is going on.
    #[error("another replacement holds its gates just now: replacements are made one at a time")]
    Busy,
    /// The caller is inside of what it wants to hold.
    #[error(
        "the replacement of `{0}` was asked for from inside a call to it, and would wait for itself; ask \
         from a thread that is not inside"
    )]
    Inside(&'static str),
    /// Nothing stands behind the gate yet.
    #[error("`{0}` has no instance yet")]
    NeverOpened(&'static str),
    /// See there.
    #[error(transparent)]
    Barrier(#[from] BarrierRefused),
}

/// The gates of one transaction, held together. Dropped without
/// [`open_with`](Self::open_with), it opens them as they were: callers that
/// waited go through on the old instances.
#[derive(Debug)]
pub struct Hold<'g> {
    gates: Vec<&'g GateHead>,
    instances: Vec<*const InstanceHead>,
    transaction: u64,
    /// A hold belongs to the thread that made it: a child of `fork` goes by it.
    one_thread: PhantomData<*mut ()>,
}

/// What [`Hold::open_with`] left behind.
#[derive(Debug)]
pub struct Opened {
    /// The instances that stood behind the gates, in their order. Callers that
    /// looked too early may still name one for a moment: [`wait_quiet`] again
    /// before it is destroyed.
    pub old: Vec<*const InstanceHead>,
    /// How many callers waited.
    pub held_calls: u64,
}

impl<'g> Hold<'g> {
    /// Holds `gates`. Whoever calls from now on waits, but for threads that are
    /// inside one of them.
    ///
    /// # Errors
    ///
    /// See [`HoldRefused`]; no gate is held then.
    ///
    /// # Safety
    ///
    /// Until the hold ends nobody else may swap a gate of it or free an instance
    /// behind it. No gate may be named twice. As for [`GateHead::swap`], this copy of the
    /// crate must be the program's.
    pub unsafe fn begin(gates: &[&'g GateHead]) -> Result<Self, HoldRefused> {
        barrier::heavy()?;
        let holder = cells::tid();
        if HOLDER.compare_exchange(0, holder, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return Err(HoldRefused::Busy);
        }
        // From here `Drop` puts back.
        let transaction = LAST.fetch_add(1, Ordering::SeqCst) + 1;
        let mut hold =
            Hold { gates: Vec::new(), instances: Vec::new(), transaction, one_thread: PhantomData };
        for gate in gates {
            let instance = gate.current();
            // SAFETY: null, or alive by the caller's word.
            match unsafe { instance.as_ref() } {
                None => return Err(HoldRefused::NeverOpened(gate.name())),
                Some(i) if i.inside() => return Err(HoldRefused::Inside(gate.name())),
                Some(_) => {}
            }
            gate.transaction.store(transaction, Ordering::SeqCst);
            gate.waited.store(0, Ordering::Relaxed);
            hold.gates.push(gate);
            hold.instances.push(instance);
        }
        // All instances are listed before the first gate is held: who is inside one must
        // be known at the others.
        LISTED.fill(transaction, &hold.instances);
        for gate in &hold.gates {
            gate.next_held.store(HELD_GATES.load(Ordering::Relaxed), Ordering::Relaxed);
            HELD_GATES.store(ptr::from_ref(*gate).cast_mut(), Ordering::Release);
            protocol::hold(&gate.cur);
        }
        Ok(hold)
    }

    /// Waits until nobody is inside any of the instances behind the gates, and
    /// no pin on them is left.
    ///
    /// # Errors
    ///
    /// As [`wait_quiet`]. The gates stay held.
    pub fn wait_quiet(&self, deadline: Option<Instant>) -> Result<(), NotQuiet> {
        let instances: Vec<&InstanceHead> = self.instances().collect();
        wait_quiet(&instances, Pins::Count, deadline)
    }

    /// [`wait_quiet`](Self::wait_quiet), which ends as at its deadline when
    /// `cancelled` becomes true.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn wait_quiet_unless(
        &self,
        deadline: Option<Instant>,
        cancelled: &AtomicBool,
    ) -> Result<(), NotQuiet> {
        let instances: Vec<&InstanceHead> = self.instances().collect();
        wait_quiet_unless(&instances, Pins::Count, deadline, cancelled)
    }

    /// The instances behind the gates, in the gates' order.
    pub fn instances(&self) -> impl Iterator<Item = &InstanceHead> {
        // SAFETY: alive during the hold, by `begin`'s condition.
        self.instances.iter().map(|i| unsafe { &**i })
    }

    /// For the threads that save, restore and construct.
    #[must_use]
    pub fn worker(&self) -> Worker {
        Worker { transaction: self.transaction }
    }

    /// How many callers wait, so far.
    #[must_use]
    pub fn held_calls(&self) -> u64 {
        self.gates.iter().map(|g| g.waited.load(Ordering::Relaxed)).sum()
    }

    /// Puts new instances behind the gates, in the gates' order, and opens them.
    ///
    /// # Panics
    ///
    /// If there are not as many as gates.
    ///
    /// # Safety
    ///
    /// [`wait_quiet`](Self::wait_quiet) has succeeded, and for each instance
    /// [`GateHead::swap`]'s condition holds.
    pub unsafe fn open_with(mut self, new: &[*const InstanceHead]) -> Opened {
        assert_eq!(new.len(), self.gates.len(), "one new instance a gate");
        let old = std::mem::replace(&mut self.instances, new.to_vec());
        let held_calls = self.held_calls();
        drop(self); // opens with `instances`
        Opened { old, held_calls }
    }

    /// Opens the gates as they were. Returns how many callers waited. (So does a
    /// drop.)
    pub fn reopen(self) -> u64 {
        self.held_calls()
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        for (gate, instance) in self.gates.iter().zip(&self.instances) {
            protocol::exchange(&gate.cur, instance.expose_provenance());
        }
        for gate in &self.gates {
            gate.wake();
        }
        HELD_GATES.store(null_mut(), Ordering::Release);
        HOLDER.store(0, Ordering::SeqCst);
    }
}

/// Makes a thread known as one that works for a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Worker {
    transaction: u64,
}

impl Worker {
    /// For whom the calling thread works; to be carried to a thread that works in
    /// its place.
    #[must_use]
    pub fn current() -> Option<Self> {
        match WORKS_FOR.get() {
            0 => None,
            transaction => Some(Worker { transaction }),
        }
    }

    /// From here until the value is dropped, a call of this thread to what the
    /// transaction holds is [`Refused`](super::Refused) instead of waiting for
    /// ever.
    #[must_use]
    pub fn work(self) -> Working {
        Working { before: WORKS_FOR.replace(self.transaction), one_thread: PhantomData }
    }
}

/// See [`Worker::work`].
#[derive(Debug)]
pub struct Working {
    before: u64,
    one_thread: PhantomData<*mut ()>,
}

impl Drop for Working {
    fn drop(&mut self) {
        WORKS_FOR.set(self.before);
    }
}

/// Whether the calling thread works for the transaction that holds `gate`.
pub(super) fn is_worker_of(gate: &GateHead) -> bool {
    let works_for = WORKS_FOR.get();
    works_for != 0 && works_for == gate.transaction.load(Ordering::Acquire)
}

/// In a child of `fork`, on its only thread, which was `before` in the parent.
/// Gates that another thread held would stay so for ever.
#[cfg(not(miri))]
pub(super) fn after_fork(before: u32) {
    if HOLDER.load(Ordering::Relaxed) == before {
        HOLDER.store(cells::tid(), Ordering::Relaxed);
        return;
    }
    let mut gate = HELD_GATES.swap(null_mut(), Ordering::Acquire);
    // SAFETY: the parent's hold borrowed the gates, and the child's copy of them
    // has no other thread that could free them.
    while let Some(this) = unsafe { gate.as_ref() } {
        protocol::exchange(&this.cur, this.cur.load(Ordering::Relaxed) & !protocol::TAGS);
        gate = this.next_held.load(Ordering::Relaxed);
    }
    HOLDER.store(0, Ordering::Relaxed);
}
