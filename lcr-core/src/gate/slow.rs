//! Entering when the fast way does not do: the thread's first call, a nested
//! call, a held gate, counted calls, and processes without `membarrier` or
//! whose host is not the executable.

use std::ptr::null;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::protocol::{self, COUNTING, HELD};
use super::{EnteredWire, GateHead, barrier, cells, hold, instance_at};
#[cfg(target_os = "linux")]
use crate::kernel;

/// # Safety
///
/// The gate must be alive during the call.
pub(super) unsafe extern "C" fn enter(gate: *const GateHead) -> EnteredWire {
    // SAFETY: the caller's word.
    let gate = unsafe { &*gate };
    barrier::decide();
    let mut waited = false;
    loop {
        let turn = protocol::turn(&gate.turn);
        let seen = gate.cur.load(Ordering::Acquire);
        let cell = if seen & HELD == 0 {
            cells::in_free_cell(|cell| protocol::publish(&gate.cur, cell, seen, barrier::light))
        } else if hold::is_worker_of(gate) {
            return EnteredWire { cell: null(), head: null() };
        } else if hold::is_inside_transaction_of(gate, None) {
            cells::in_free_cell(|cell| pass(gate, cell, seen))
        } else {
            if !waited {
                gate.waited.fetch_add(1, Ordering::Relaxed);
                waited = true;
            }
            wait(&gate.turn, turn);
            continue;
        };
        if let Some(cell) = cell {
            if seen & COUNTING != 0 {
                gate.calls.fetch_add(1, Ordering::Relaxed);
                // SAFETY: the cell names it, so the instance is alive.
                unsafe { &*instance_at(seen) }.calls.fetch_add(1, Ordering::Relaxed);
            }
            return EnteredWire { cell, head: instance_at(seen) };
        }
    }
}

fn pass(gate: &GateHead, cell: &AtomicUsize, seen: usize) -> bool {
    // The cell that is being filled is the thread's, too, but does not speak for
    // it: what it names is not known to be alive yet.
    protocol::pass(&gate.cur, cell, seen, &hold::PASSES, || hold::is_inside_transaction_of(gate, Some(cell)))
}

/// Sleeps until `word` is no longer `seen`, or a little less.
fn wait(word: &AtomicU32, seen: u32) {
    #[cfg(target_os = "linux")]
    kernel::wait(word, seen, None);
    #[cfg(not(target_os = "linux"))]
    if word.load(Ordering::Acquire) == seen {
        std::thread::park_timeout(std::time::Duration::from_micros(50));
    }
}

/// Wakes whoever sleeps on `word`.
pub(super) fn wake_all(word: &AtomicU32) {
    #[cfg(target_os = "linux")]
    kernel::wake(word, i32::MAX);
    #[cfg(not(target_os = "linux"))]
    let _ = word;
}
