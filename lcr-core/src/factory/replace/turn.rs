//! Who may replace, and for how long: one transaction at a time in a process.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::ReplaceError;

/// How long whoever asked will wait.
#[derive(Clone, Copy)]
pub(super) struct Patience<'r> {
    pub(super) timeout: Duration,
    pub(super) deadline: Instant,
    pub(super) cancelled: &'r AtomicBool,
}

impl Patience<'_> {
    /// The same, for a step that begins now.
    pub(super) fn anew(self) -> Self {
        Patience { deadline: Instant::now() + self.timeout, ..self }
    }

    pub(super) fn is_over(self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Is it wanted still?
    pub(super) fn check(self) -> Result<(), ReplaceError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(ReplaceError::Cancelled) } else { Ok(()) }
    }
}

/// The right to replace: one transaction at a time in a process.
pub(in crate::factory) struct Turn;

static TURN: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

thread_local! {
    /// Does this thread have the turn, or work for one that has it?
    static HAS_TURN: Cell<bool> = const { Cell::new(false) };
}

/// What a thread that works in the place of another is to know of its turn.
#[derive(Clone, Copy)]
pub(in crate::factory) struct Carried(bool);

impl Turn {
    pub(super) fn take(patience: Patience<'_>) -> Result<Self, ReplaceError> {
        if HAS_TURN.get() {
            return Err(ReplaceError::Nested);
        }
        let mut taken = TURN.0.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken {
            patience.check()?;
            if patience.is_over() {
                return Err(ReplaceError::Busy);
            }
            // Nobody wakes us for having been called off.
            let left = patience.deadline.saturating_duration_since(Instant::now());
            let left = left.min(Duration::from_millis(50));
            taken = TURN.1.wait_timeout(taken, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *taken = true;
        HAS_TURN.set(true);
        Ok(Turn)
    }

    /// Does this thread have it, or work for one that has?
    pub(in crate::factory) fn is_here() -> bool {
        HAS_TURN.get()
    }

    /// For a thread that works in this one's place.
    pub(in crate::factory) fn carried() -> Carried {
        Carried(HAS_TURN.get())
    }
}

impl Carried {
    /// From here on, on the thread that works.
    pub(in crate::factory) fn carry_on(self) {
        HAS_TURN.set(self.0);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        HAS_TURN.set(false);
        *TURN.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
        TURN.1.notify_one();
    }
}
