//! The two barriers, and where the thread's cells are found.
//!
//! Which pair of barriers a process uses is decided once, before the first cell
//! is handed out, and never changes: readers that believe in `membarrier` and a
//! replacer that does not would miss each other.

use std::io;
use std::sync::atomic::{AtomicIsize, AtomicU8, Ordering, compiler_fence, fence};

#[cfg(all(target_os = "linux", not(miri)))]
use crate::kernel;

/// Not decided yet.
const UNDECIDED: u8 = 0;
/// Readers pay nothing, the replacer calls `membarrier`.
const MEMBARRIER: u8 = 1;
/// Both sides pay a full fence.
const FENCE: u8 = 2;

static MODE: AtomicU8 = AtomicU8::new(UNDECIDED);

/// Where this copy of the crate finds the host's pointer to the thread's cells,
/// from the thread pointer; 0: not known, take the slow way.
///
/// On x86-64 the word at offset 0 is the thread pointer itself, and points to
/// itself: read as "the first cell" it is never empty. So 0 needs no test.
pub(super) static TLS_OFFSET: AtomicIsize = AtomicIsize::new(0);

/// Taking the heavy barrier out shows that the stress test would notice.
#[cfg(feature = "testing")]
#[doc(hidden)]
pub static WITHOUT_HEAVY: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// The kernel refuses the barrier that a replacement cannot do without.
#[derive(Debug, thiserror::Error)]
#[error(
    "the kernel refuses membarrier(PRIVATE_EXPEDITED), which it granted when the program started: \
     {0}; nothing was replaced; allow membarrier in the program's seccomp filter, or start it with \
     LCR_NO_MEMBARRIER=1"
)]
pub struct BarrierRefused(#[source] pub io::Error);

/// Decides the mode, on the first call.
#[inline]
pub(super) fn decide() {
    if MODE.load(Ordering::Acquire) == UNDECIDED {
        decide_now();
    }
}

#[cold]
fn decide_now() {
    let wanted = if unwanted() || !register() { FENCE } else { MEMBARRIER };
    // Two threads may come here with two answers (the environment can change):
    // the first counts.
    let mode = match MODE.compare_exchange(UNDECIDED, wanted, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => wanted,
        Err(decided) => decided,
    };
    if mode == MEMBARRIER {
        TLS_OFFSET.store(super::cells::offset_from_thread_pointer(), Ordering::Release);
    }
    super::cells::survive_fork();
}

/// `LCR_NO_MEMBARRIER=1`.
fn unwanted() -> bool {
    std::env::var_os("LCR_NO_MEMBARRIER").is_some_and(|v| !v.is_empty() && v != "0")
}

#[cfg(all(target_os = "linux", not(miri)))]
fn register() -> bool {
    kernel::register_private_barrier().is_ok() && kernel::private_barrier().is_ok()
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn register() -> bool {
    false
}

/// Whether readers pay a fence (no `membarrier`, or `LCR_NO_MEMBARRIER=1`).
#[must_use]
pub fn readers_pay_a_fence() -> bool {
    decide();
    MODE.load(Ordering::Relaxed) == FENCE
}

/// The reader's barrier, out of line: whichever the process uses.
#[inline(always)]
pub(super) fn light() {
    if MODE.load(Ordering::Relaxed) == MEMBARRIER {
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

/// The replacer's barrier.
pub(super) fn heavy() -> Result<(), BarrierRefused> {
    decide();
    #[cfg(feature = "testing")]
    if WITHOUT_HEAVY.load(Ordering::Relaxed) {
        return Ok(());
    }
    fence(Ordering::SeqCst);
    #[cfg(all(target_os = "linux", not(miri)))]
    if MODE.load(Ordering::Relaxed) == MEMBARRIER {
        let mut done = kernel::private_barrier();
        if done.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied) {
            // Not registered: a process that was made in some unusual way
            // (registration is the address space's, not the program's).
            let _ = kernel::register_private_barrier();
            done = kernel::private_barrier();
        }
        done.map_err(BarrierRefused)?;
    }
    Ok(())
}
