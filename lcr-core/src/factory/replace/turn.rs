//! Who may replace, and for how long: one transaction at a time in a process.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::ReplaceError;
use crate::factory::turn::{self, For};
#[cfg(all(target_os = "linux", not(miri)))]
use crate::kernel;

/// How long whoever asked will wait.
#[derive(Clone, Copy)]
pub(super) struct Patience<'r> {
    timeout: Duration,
    /// None: it will wait for ever.
    pub(super) deadline: Option<Instant>,
    pub(super) cancelled: &'r AtomicBool,
}

impl<'r> Patience<'r> {
    /// From `start` on.
    pub(super) fn new(start: Instant, timeout: Duration, cancelled: &'r AtomicBool) -> Self {
        Patience { timeout, deadline: start.checked_add(timeout), cancelled }
    }

    /// The same, for a step that begins now.
    pub(super) fn anew(self) -> Self {
        Patience::new(Instant::now(), self.timeout, self.cancelled)
    }

    /// How long it will wait still.
    fn left(self) -> Duration {
        self.deadline.map_or(Duration::MAX, |then| then.saturating_duration_since(Instant::now()))
    }

    pub(super) fn is_over(self) -> bool {
        self.left().is_zero()
    }

    /// Is it wanted still?
    pub(super) fn check(self) -> Result<(), ReplaceError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(ReplaceError::Cancelled) } else { Ok(()) }
    }
}

/// The right to replace: one transaction at a time in a process.
pub(super) struct Turn;

/// The process one of whose threads has the turn; 0: nobody has. A child of `fork`
/// finds its parent's number where one of the parent's threads had it, which the child
/// does not have: so it is free there. (A mutex could have been locked, for good.)
static HAS: AtomicU32 = AtomicU32::new(0);

impl Turn {
    pub(super) fn take(what: For, patience: Patience<'_>) -> Result<Self, ReplaceError> {
        match turn::what() {
            Some(For::Replacing) => return Err(ReplaceError::Nested),
            Some(For::Retiring) => return Err(ReplaceError::Retiring),
            None => {}
        }
        let process = std::process::id();
        let may_take = |has: u32| (has != process).then_some(process);
        while let Err(has) = HAS.fetch_update(Ordering::Acquire, Ordering::Relaxed, may_take) {
            patience.check()?;
            if patience.is_over() {
                return Err(ReplaceError::Busy);
            }
            // Nobody wakes us for having been called off.
            wait_while(has, patience.left().min(Duration::from_millis(50)));
        }
        turn::here(Some(what));
        Ok(Turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        turn::here(None);
        HAS.store(0, Ordering::Release);
        wake_one();
    }
}

/// Waits until it is not `has` that has the turn, or for so long.
#[cfg(all(target_os = "linux", not(miri)))]
fn wait_while(has: u32, longest: Duration) {
    // Woken, changed, interrupted or over: whoever waits looks again.
    kernel::wait(&HAS, has, Some(longest));
}

#[cfg(all(target_os = "linux", not(miri)))]
fn wake_one() {
    kernel::wake(&HAS, 1);
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn wait_while(_: u32, longest: Duration) {
    std::thread::park_timeout(longest.min(Duration::from_millis(1)));
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn wake_one() {}
