//! The gate's protocol: every memory operation that its correctness rests on,
//! and nothing of the machine.
//!
//! Two sides. A *reader* writes the instance's address into a cell of its own
//! thread, passes a *light* barrier, and looks whether the gate still says the
//! same. A *replacer* changes the gate, passes a *heavy* barrier, and looks into
//! all cells. Of two such "write mine, barrier, read the other's" at least one
//! sees the other: either the reader sees the change and takes its cell back, or
//! the replacer sees the cell and waits. A light barrier that costs nothing is
//! paid for by a heavy one that reaches into every processor (`membarrier`);
//! where that is missing, both are full fences. For the model, too, both are.
//!
//! Orderings, each with the pair it belongs to:
//!
//! - Every store to a cell is `Release`, every look into another's cell
//!   `Acquire`: whatever the replacer finds there, calls that left before are
//!   over for it. (`Relaxed` on entry would do on processors, not on paper: a
//!   plain store after a release store is no part of its release sequence.)
//! - Stores to the gate are `SeqCst`, and a reader's second look is `Acquire`:
//!   an instance is dereferenced only after all that built it.
//! - While a gate is held, a thread that is inside the transaction may occupy
//!   another cell and then leave the first. A scan that read the new cell
//!   before and the old one after would miss it; [`pass`] therefore counts
//!   `passes` in between, and a scan counts only if that number stood still.

use crate::sync::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// The gate is held: callers wait.
pub(crate) const HELD: usize = 1;
/// Calls are counted: they take the slow way.
pub(crate) const COUNTING: usize = 2;
/// The bits of a gate's word that are no address.
pub(crate) const TAGS: usize = HELD | COUNTING;

/// Enters through `cell`, if the gate still says `seen`. The cell must be this
/// thread's, and empty; after `false` it is empty again.
#[inline(always)]
pub(crate) fn publish(cur: &AtomicUsize, cell: &AtomicUsize, seen: usize, light: impl FnOnce()) -> bool {
    cell.store(seen & !TAGS, Ordering::Release);
    light();
    if cur.load(Ordering::Acquire) == seen {
        return true;
    }
    leave(cell);
    false
}

/// Leaves: the cell is empty, and what was done inside happened before.
#[inline(always)]
pub(crate) fn leave(cell: &AtomicUsize) {
    cell.store(0, Ordering::Release);
}

/// Enters a held gate from inside its transaction. `still_ours` says, after the
/// gate was looked at again, whether the hold is the one that the thread is
/// inside of: the one seen before may have ended, its instance may be gone, and
/// the address may be held anew.
#[inline]
pub(crate) fn pass(
    cur: &AtomicUsize,
    cell: &AtomicUsize,
    seen: usize,
    passes: &AtomicU64,
    still_ours: impl FnOnce() -> bool,
) -> bool {
    cell.store(seen & !TAGS, Ordering::SeqCst);
    passes.fetch_add(1, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    if cur.load(Ordering::Acquire) == seen && still_ours() {
        return true;
    }
    leave(cell);
    false
}

/// Replaces what the gate says in one step, the COUNTING bit kept. Returns what
/// it said before. A heavy barrier must follow before any cell is believed.
#[inline]
pub(crate) fn exchange(cur: &AtomicUsize, new: usize) -> usize {
    let mut seen = cur.load(Ordering::Relaxed);
    loop {
        let next = new | (seen & COUNTING);
        match cur.compare_exchange(seen, next, Ordering::SeqCst, Ordering::Relaxed) {
            Ok(old) => return old,
            Err(now) => seen = now,
        }
    }
}

/// Holds the gate. A heavy barrier must follow.
#[inline]
pub(crate) fn hold(cur: &AtomicUsize) {
    cur.fetch_or(HELD, Ordering::SeqCst);
}

/// Ends the wait of those who read `turn` before; the caller wakes them.
#[inline]
pub(crate) fn end_turn(turn: &AtomicU32) {
    turn.fetch_add(1, Ordering::SeqCst);
}

/// What a caller that finds the gate held sleeps on, until it differs. It must be read
/// before the gate's word, and that before it is asked whose transaction holds the gate:
/// then it differs as soon as that hold ends, and a caller never sleeps through the
/// beginning of another one, which may be one that it is inside of.
#[inline]
pub(crate) fn turn(turn: &AtomicU32) -> u32 {
    turn.load(Ordering::Acquire)
}

/// Looks once, after a heavy barrier, whether nobody is inside. `occupied` looks
/// into every cell (`Acquire`), then at the pins, and says whether it found any.
#[inline]
pub(crate) fn is_quiet(passes: &AtomicU64, occupied: impl FnOnce() -> bool) -> bool {
    let before = passes.load(Ordering::SeqCst);
    !occupied() && passes.load(Ordering::SeqCst) == before
}
