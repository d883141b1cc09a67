//! The call gate: what a call passes so that its target can be replaced.
//!
//! Every instance of an interface stands behind a [`GateHead`], whose first word
//! says which instance answers now. A caller [enters](GateHead::enter): it writes
//! that instance's address into a cell of its own thread, looks whether the gate
//! still says the same, and is inside. To leave is to empty the cell. No cache
//! line that another thread writes is touched, and no atomic read-modify-write.
//! A replacer changes the word, has the kernel run a memory barrier on every
//! processor that runs this process (`membarrier`), and then looks at all cells:
//! whoever is still inside the old instance stands there by name.
//!
//! ```text
//!     swap ──────────► wait_quiet(old) ──► old may be destroyed      stateless
//!     Hold::begin ───► wait_quiet ──► save, restore ──► open_with ──► wait_quiet(old)
//!            └ drop: put back, held callers go through on the old    with state
//! ```
//!
//! What holds, whatever happens:
//!
//! 1. Between `enter` and the drop of its guard the instance is alive and is not
//!    being saved: no replacer finds it quiet.
//! 2. Nobody enters an instance after it was found quiet and its gate says
//!    something else; nobody enters an older one after a newer one.
//! 3. A thread that waits at a held gate occupies no cell for it. One that is
//!    already inside a gate of the same transaction does not wait: its call
//!    finishes on the version that it began on.
//! 4. A gate is read only by those who keep it alive (handles); leaving touches
//!    the cell alone, and cells are never freed. Guards drop in any order, and
//!    after their thread's locals are gone.
//!
//! The protocol itself stands in `protocol.rs`, and is modelled with loom
//! (`tests/loom_gate.rs`); what only the machine can show is in
//! `tests/gate_stress.rs`.
//!
//! # Libraries
//!
//! A library has its own copy of this crate, hence its own statics. Its calls
//! must land in the host's cells all the same: it is handed [`Reach`] when it is
//! loaded, and [adopts](Reach::adopt) it. Layouts are therefore ABI.
//!
//! # Signals, forks
//!
//! A signal handler may call through a gate if its thread has called before (a first
//! call allocates, and so does one that is nested in eight) and does not replace just now:
//! the handler would wait for what it has interrupted. A thread that replaces blocks
//! signals, as lcr-control's do. A child of `fork` knows the forking thread's calls
//! only, and its gates are open unless that thread itself held them.

mod barrier;
mod cells;
mod hold;
mod protocol;
mod quiet;
mod slow;

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::abi::RawStr;
use protocol::{COUNTING, HELD, TAGS};

#[cfg(feature = "testing")]
#[doc(hidden)]
pub use barrier::WITHOUT_HEAVY;
pub use barrier::{BarrierRefused, readers_pay_a_fence};
pub use hold::{Hold, HoldRefused, Opened, Worker, Working};
pub use quiet::{Inside, NotQuiet, Pins, wait_quiet, wait_quiet_unless};

/// What callers see of an interface: which instance answers.
///
/// In host memory at an address that never changes, for as long as a handle, an
/// instance or a caller may look at it. Two cache lines: what every call reads,
/// and what is written now and then.
#[repr(C, align(64))]
pub struct GateHead {
    /// Address of the current [`InstanceHead`], with [`TAGS`] in its low bits.
    cur: AtomicUsize,
    /// Bumped when a hold ends; held callers sleep on it (a futex).
    turn: AtomicU32,
    zero: u32,
    /// The transaction that holds the gate, or held it last.
    transaction: AtomicU64,
    name: RawStr,
    /// The next gate of the same hold.
    next_held: AtomicPtr<GateHead>,
    spare: [usize; 2],
    /// On its own line from here: cloning a handle must not slow callers.
    refs: AtomicUsize,
    /// Callers that waited for the current hold.
    waited: AtomicU64,
    /// Calls, while they are counted.
    calls: AtomicU64,
    spare_written: [usize; 5],
}

/// One constructed instance of an interface, as far as calls are concerned.
///
/// In host memory; whoever owns it frees it only after [`wait_quiet`] found
/// nobody inside and [`pins`](Self::pins) says 0.
#[repr(C, align(64))]
pub struct InstanceHead {
    /// What methods are called on.
    pub object: *const (),
    /// The method table, behind its prologue.
    pub methods: *const (),
    /// How many methods the table has.
    pub method_count: usize,
    gate: *const GateHead,
    spare: [usize; 4],
    /// On its own line: pinning must not slow callers.
    pins: AtomicUsize,
    /// Calls that panicked, and those that returned an error.
    panics: AtomicU64,
    errors: AtomicU64,
    /// Calls, while they are counted.
    calls: AtomicU64,
    spare_written: [usize; 4],
}

// Frozen: libraries built earlier read these.
const _: () = {
    assert!(size_of::<GateHead>() == 128 && align_of::<GateHead>() == 64);
    assert!(mem::offset_of!(GateHead, cur) == 0);
    assert!(mem::offset_of!(GateHead, refs) == 64);
    assert!(mem::offset_of!(GateHead, calls) == 80);
    assert!(size_of::<InstanceHead>() == 128 && align_of::<InstanceHead>() == 64);
    assert!(mem::offset_of!(InstanceHead, object) == 0);
    assert!(mem::offset_of!(InstanceHead, methods) == 8);
    assert!(mem::offset_of!(InstanceHead, method_count) == 16);
    assert!(mem::offset_of!(InstanceHead, gate) == 24);
    assert!(mem::offset_of!(InstanceHead, pins) == 64);
    assert!(mem::offset_of!(InstanceHead, panics) == 72);
    assert!(mem::offset_of!(InstanceHead, errors) == 80);
    assert!(mem::offset_of!(InstanceHead, calls) == 88);
};

// SAFETY: the addresses in it are only followed by the owner of what they point
// to (`object`, `methods`) or under `new`'s condition (`gate`); all that changes
// is atomic.
unsafe impl Sync for InstanceHead {}
// SAFETY: as above; nothing in it belongs to a thread.
unsafe impl Send for InstanceHead {}
// SAFETY: `next_held` is followed only while a hold borrows the gates; the rest
// is atomic or never changes.
unsafe impl Sync for GateHead {}
// SAFETY: as above.
unsafe impl Send for GateHead {}

/// What `enter` answers across a library's border: two registers. Both null: the
/// call was [refused](Refused).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct EnteredWire {
    cell: *const AtomicUsize,
    head: *const InstanceHead,
}

/// A thread that works for a transaction (it saves, restores or constructs)
/// called what the transaction holds: it would wait for itself.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "`{interface}` was called by its own replacement: a save, restore or constructor may not call an \
     interface that is being replaced in the same transaction; pass what is needed in the state"
)]
pub struct Refused {
    /// The interface that was called.
    pub interface: &'static str,
}

type EnterSlow = unsafe extern "C" fn(*const GateHead) -> EnteredWire;

/// This copy's way to the cells when the fast one does not do: the host's
/// function. In a host, its own.
static ENTER_SLOW: AtomicPtr<()> = AtomicPtr::new(slow::enter as EnterSlow as *mut ());

/// How a library reaches the host's cells: part of the services it is handed.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// Where the thread's cells are found, from the thread pointer; 0: nowhere.
    pub tls_offset: isize,
    /// Enters where that does not do.
    pub enter_slow: unsafe extern "C" fn(gate: *const GateHead) -> EnteredWire,
}

impl Reach {
    /// What stands in a table that is not handed to anyone.
    pub(crate) const NOWHERE: Reach = Reach { tls_offset: 0, enter_slow: slow::enter };

    /// What a host hands to its libraries.
    #[must_use]
    pub fn of_host() -> Self {
        barrier::decide();
        Reach { tls_offset: barrier::TLS_OFFSET.load(Ordering::Acquire), enter_slow: slow::enter }
    }

    /// Makes this copy of the crate, in a library, use the host's cells.
    ///
    /// # Safety
    ///
    /// The value must be what the host of this process made by [`Reach::of_host`],
    /// and this copy must not have entered any gate before.
    pub unsafe fn adopt(self) {
        let Reach { tls_offset, enter_slow } = self;
        ENTER_SLOW.store(enter_slow as *mut (), Ordering::Relaxed);
        barrier::TLS_OFFSET.store(tls_offset, Ordering::Release);
    }
}

impl GateHead {
    /// A gate that nothing stands behind yet: callers wait until it is
    /// [opened](Self::open). `name` is the interface's, for messages, and must
    /// be text that stays.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        GateHead {
            cur: AtomicUsize::new(HELD),
            turn: AtomicU32::new(0),
            zero: 0,
            transaction: AtomicU64::new(0),
            name: RawStr::new(name),
            next_held: AtomicPtr::new(std::ptr::null_mut()),
            spare: [0; 2],
            refs: AtomicUsize::new(0),
            waited: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            spare_written: [0; 5],
        }
    }

    /// The interface's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        // SAFETY: `new` took it from a `&'static str`, or a host's copy of `new`
        // did, and hosts are never unloaded.
        unsafe { self.name.as_str() }
    }

    /// The count of handles: kept by whoever hands them out, not by the gate.
    #[must_use]
    pub(crate) fn refs(&self) -> &AtomicUsize {
        &self.refs
    }

    /// Enters: the instance that answers now stays alive, and is not saved,
    /// until the guard is dropped. Waits while the gate is held by a transaction
    /// that this thread is not inside of.
    ///
    /// # Panics
    ///
    /// If the call is [`Refused`].
    #[inline(always)]
    pub fn enter(&self) -> Entered<'_> {
        match self.enter_at_once() {
            Some(entered) => entered,
            None => self.enter_out_of_line(),
        }
    }

    /// [`enter`](Self::enter), with an error where that panics.
    ///
    /// # Errors
    ///
    /// [`Refused`], on a thread that works for the transaction holding the gate.
    #[inline(always)]
    pub fn try_enter(&self) -> Result<Entered<'_>, Refused> {
        match self.enter_at_once() {
            Some(entered) => Ok(entered),
            None => self.try_enter_out_of_line(),
        }
    }

    /// Enters an open gate through the thread's first cell, or the second one: so a
    /// component's own calls, made while it is being called, are no slower.
    #[inline(always)]
    fn enter_at_once(&self) -> Option<Entered<'_>> {
        #[cfg(all(target_arch = "x86_64", target_pointer_width = "64", target_os = "linux", not(miri)))]
        {
            let offset = barrier::TLS_OFFSET.load(Ordering::Relaxed);
            let first = cells::first_cell_at(offset);
            let seen = self.cur.load(Ordering::Relaxed);
            if seen & TAGS != 0 {
                return None;
            }
            // SAFETY: the thread's first cell, or its thread pointer, or the first cell
            // of a block that nobody writes: alive while the thread is.
            let mut cell: &'static AtomicUsize = unsafe { &*first };
            if cell.load(Ordering::Relaxed) != 0 {
                if offset == 0 {
                    return None;
                }
                // SAFETY: a block has more cells than one.
                cell = unsafe { &*first.add(1) };
                if cell.load(Ordering::Relaxed) != 0 {
                    return None;
                }
            }
            self.enter_through(cell, seen)
        }
        #[cfg(not(all(
            target_arch = "x86_64",
            target_pointer_width = "64",
            target_os = "linux",
            not(miri)
        )))]
        None
    }

    /// Enters the open gate through an empty cell of this thread's, where the
    /// replacer's barrier is membarrier: where `TLS_OFFSET` is not 0.
    #[cfg(all(target_arch = "x86_64", target_pointer_width = "64", target_os = "linux", not(miri)))]
    #[inline(always)]
    fn enter_through(&self, cell: &'static AtomicUsize, seen: usize) -> Option<Entered<'_>> {
        let light = || std::sync::atomic::compiler_fence(Ordering::SeqCst);
        protocol::publish(&self.cur, cell, seen, light).then(|| Entered::new(cell, instance_at(seen)))
    }

    /// The same through one of the thread's other cells.
    #[inline]
    fn enter_deeper(&self) -> Option<Entered<'_>> {
        #[cfg(all(target_arch = "x86_64", target_pointer_width = "64", target_os = "linux", not(miri)))]
        {
            let offset = barrier::TLS_OFFSET.load(Ordering::Relaxed);
            let seen = self.cur.load(Ordering::Relaxed);
            if offset == 0 || seen & TAGS != 0 {
                return None;
            }
            // SAFETY: the offset leads to a block, which has that many cells.
            let cells: &'static [AtomicUsize] =
                unsafe { std::slice::from_raw_parts(cells::first_cell_at(offset), cells::CELLS) };
            let free = cells[2..].iter().find(|cell| cell.load(Ordering::Relaxed) == 0)?;
            self.enter_through(free, seen)
        }
        #[cfg(not(all(
            target_arch = "x86_64",
            target_pointer_width = "64",
            target_os = "linux",
            not(miri)
        )))]
        None
    }

    #[cold]
    #[inline(never)]
    fn enter_out_of_line(&self) -> Entered<'_> {
        match self.try_enter_out_of_line() {
            Ok(entered) => entered,
            Err(refused) => panic_refused(refused),
        }
    }

    #[cold]
    fn try_enter_out_of_line(&self) -> Result<Entered<'_>, Refused> {
        if let Some(entered) = self.enter_deeper() {
            return Ok(entered);
        }
        let slow = ENTER_SLOW.load(Ordering::Relaxed);
        // SAFETY: nothing else is ever stored in ENTER_SLOW.
        let slow = unsafe { mem::transmute::<*mut (), EnterSlow>(slow) };
        // SAFETY: the gate is alive, by the reference.
        let EnteredWire { cell, head } = unsafe { slow(self) };
        match NonNull::new(cell.cast_mut()) {
            // SAFETY: cells live for ever.
            Some(cell) => Ok(Entered::new(unsafe { cell.as_ref() }, head)),
            None => Err(Refused { interface: self.name() }),
        }
    }

    /// Puts the first instance behind the gate, and opens it.
    ///
    /// # Safety
    ///
    /// As for [`swap`](Self::swap). The gate must be new.
    pub unsafe fn open(&self, first: *const InstanceHead) {
        protocol::exchange(&self.cur, first.expose_provenance());
        self.wake();
    }

    /// The instance that answers now, or would if the gate were not held; null
    /// before [`open`](Self::open). May change at any time, unless the caller is
    /// the one who replaces.
    #[must_use]
    pub fn current(&self) -> *const InstanceHead {
        instance_at(self.cur.load(Ordering::Acquire))
    }

    /// Puts another instance behind the open gate in one step. Returns the one
    /// that stood there, which callers may still be inside of: [`wait_quiet`].
    /// From here every call, nested ones too, reaches the new one.
    ///
    /// # Errors
    ///
    /// If the barrier without which nobody could ever tell when the old one is
    /// quiet is refused. Nothing has changed then.
    ///
    /// # Safety
    ///
    /// `new` must be an instance built for this gate, that stays alive until it
    /// stands behind the gate no more and [`wait_quiet`] found it quiet. Only one
    /// thread may replace at a time, the gate must not be held, and this copy of the
    /// crate must be the program's: a library's does not see who is inside.
    pub unsafe fn swap(&self, new: *const InstanceHead) -> Result<*const InstanceHead, BarrierRefused> {
        check_barrier()?;
        // SAFETY: the caller's word; the barrier was not refused.
        Ok(unsafe { self.exchange(new) })
    }

    /// [`swap`](Self::swap) by one who has just made sure of the barrier with
    /// [`check_barrier`], for several gates perhaps: it cannot fail.
    ///
    /// # Safety
    ///
    /// As for `swap`.
    pub unsafe fn exchange(&self, new: *const InstanceHead) -> *const InstanceHead {
        let old = protocol::exchange(&self.cur, new.expose_provenance());
        debug_assert_eq!(old & HELD, 0, "`{}` was swapped while it was held", self.name());
        instance_at(old)
    }

    /// Whether the gate is held (or not yet opened).
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.cur.load(Ordering::Relaxed) & HELD != 0
    }

    /// Starts or stops counting calls. While they are counted, every call takes
    /// the slow way and increments shared counters: the gate's and the instance's.
    pub fn count_calls(&self, count: bool) {
        if count {
            self.cur.fetch_or(COUNTING, Ordering::SeqCst);
        } else {
            self.cur.fetch_and(!COUNTING, Ordering::SeqCst);
        }
    }

    /// How many calls were counted; only those made while
    /// [`count_calls`](Self::count_calls) was on.
    #[must_use]
    pub fn counted_calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Whether calls are being counted.
    #[must_use]
    pub fn is_counting(&self) -> bool {
        self.cur.load(Ordering::Relaxed) & COUNTING != 0
    }

    fn wake(&self) {
        protocol::end_turn(&self.turn);
        slow::wake_all(&self.turn);
    }
}

impl fmt::Debug for GateHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateHead")
            .field("name", &self.name())
            .field("current", &self.current())
            .field("held", &self.is_held())
            .field("counting", &self.is_counting())
            .finish_non_exhaustive()
    }
}

impl InstanceHead {
    /// An instance for `gate`.
    ///
    /// # Safety
    ///
    /// The gate must outlive the instance.
    #[must_use]
    pub const unsafe fn new(
        object: *const (),
        methods: *const (),
        method_count: usize,
        gate: *const GateHead,
    ) -> Self {
        InstanceHead {
            object,
            methods,
            method_count,
            gate,
            spare: [0; 4],
            pins: AtomicUsize::new(0),
            panics: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            spare_written: [0; 4],
        }
    }

    /// The gate it was built for.
    #[must_use]
    pub fn gate(&self) -> &GateHead {
        // SAFETY: `new`'s condition.
        unsafe { &*self.gate }
    }

    /// Keeps the instance alive, and counts for a drain with [`Pins::Count`],
    /// until [`unpin`](Self::unpin). The caller must be inside, or hold a pin.
    pub fn pin(&self) {
        self.pins.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives a pin back. Says whether it was the last one.
    ///
    /// # Safety
    ///
    /// The pin must be the caller's to give.
    pub unsafe fn unpin(&self) -> bool {
        let before = self.pins.fetch_sub(1, Ordering::AcqRel);
        debug_assert_ne!(before, 0, "a pin on `{}` was given back twice", self.gate().name());
        before == 1
    }

    /// A call panicked. The caller's end says so, still inside.
    #[cold]
    pub fn note_panic(&self) {
        self.panics.fetch_add(1, Ordering::Release);
    }

    /// A call returned an error. The caller's end says so, still inside.
    #[cold]
    pub fn note_error(&self) {
        self.errors.fetch_add(1, Ordering::Release);
    }

    /// How many calls panicked, and how many returned an error.
    #[must_use]
    pub fn failures(&self) -> (u64, u64) {
        (self.panics.load(Ordering::Acquire), self.errors.load(Ordering::Acquire))
    }

    /// How many of its calls were counted. Who asks for the [failures](Self::failures)
    /// first finds the calls in which they happened among them, if those were counted.
    #[must_use]
    pub fn counted_calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// How many pins there are.
    #[must_use]
    pub fn pins(&self) -> usize {
        self.pins.load(Ordering::Acquire)
    }

    /// Whether the calling thread is inside this very instance: then it must not
    /// wait for it to become quiet.
    #[must_use]
    pub fn inside(&self) -> bool {
        let this = std::ptr::from_ref(self).addr();
        cells::own_cells_any(|_, v| v == this)
    }
}

impl fmt::Debug for InstanceHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceHead")
            .field("object", &self.object)
            .field("methods", &self.methods)
            .field("method_count", &self.method_count)
            .field("pins", &self.pins())
            .finish_non_exhaustive()
    }
}

/// Makes sure of the barrier without which nobody could tell when an instance that
/// was exchanged is quiet. It is refused at once or never.
///
/// # Errors
///
/// It is refused.
pub fn check_barrier() -> Result<(), BarrierRefused> {
    barrier::heavy()
}

/// The instance that a gate's word names.
#[inline(always)]
fn instance_at(word: usize) -> *const InstanceHead {
    std::ptr::with_exposed_provenance(word & !TAGS)
}

#[cold]
#[inline(never)]
fn panic_refused(refused: Refused) -> ! {
    panic!("{refused}")
}

/// Being inside: gives access to the instance, and leaves when it is dropped.
///
/// Not `Send`: the cell is the thread's.
pub struct Entered<'g> {
    cell: &'static AtomicUsize,
    head: *const InstanceHead,
    gate: PhantomData<&'g GateHead>,
}

impl Entered<'_> {
    /// `cell` must be the calling thread's and name `head`.
    #[inline(always)]
    fn new(cell: &'static AtomicUsize, head: *const InstanceHead) -> Self {
        Entered { cell, head, gate: PhantomData }
    }
}

impl Deref for Entered<'_> {
    type Target = InstanceHead;

    #[inline(always)]
    fn deref(&self) -> &InstanceHead {
        // SAFETY: the cell names it, so that it is not found quiet (invariant 1).
        unsafe { &*self.head }
    }
}

impl Drop for Entered<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        protocol::leave(self.cell);
    }
}

impl fmt::Debug for Entered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Entered").field(&**self).finish()
    }
}

#[cfg(test)]
mod tests;
