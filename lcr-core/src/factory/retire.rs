//! Old instances on their way out: destroyed when the last caller has left.
//!
//! A replacement waits for that until its deadline. Whoever stays longer keeps
//! only the old instance, not the replacement: it is handed to one thread that
//! looks after all such instances, and ends when there are none.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::instance::{Built, GateRef};
use super::offer::Offer;
use crate::gate::{Pins, wait_quiet};

/// An instance that stands behind its gate no more. Whatever becomes of this
/// value, the instance is destroyed only when it was found quiet: one that is
/// dropped is waited for.
pub(crate) struct Retired(Option<Leaving>);

struct Leaving {
    // Dropped in this order: an instance's gate outlives it.
    built: Box<Built>,
    gate: GateRef,
}

impl Leaving {
    fn is_quiet(&self, deadline: Option<Instant>) -> bool {
        wait_quiet(&[self.built.head()], Pins::Count, deadline).is_ok()
    }
}

impl Retired {
    pub(crate) fn new(gate: GateRef, built: Box<Built>) -> Self {
        Retired(Some(Leaving { built, gate }))
    }

    /// The gate behind which it stood.
    pub(crate) fn gate(&self) -> GateRef {
        self.0
            .as_ref()
            .map_or_else(|| unreachable!("emptied by `until` and `drop` alone"), |old| old.gate.clone())
    }

    /// Destroys it, if nobody is inside and nobody has it pinned by the deadline;
    /// else leaves it to the thread that waits longer. Says whether it is gone.
    pub(crate) fn until(mut self, deadline: Option<Instant>) -> bool {
        match self.0.take_if(|old| old.is_quiet(deadline)) {
            Some(old) => {
                drop(old);
                look_again();
                true
            }
            None => false,
        }
    }
}

impl Drop for Retired {
    fn drop(&mut self) {
        if let Some(old) = self.0.take() {
            waiting().old.push(old);
            look_again();
        }
    }
}

/// The instances that are waited for, and whether a thread does.
struct Waiting {
    old: Vec<Leaving>,
    has_thread: bool,
}

static WAITING: Mutex<Waiting> = Mutex::new(Waiting { old: Vec::new(), has_thread: false });

fn waiting() -> MutexGuard<'static, Waiting> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often they are looked at.
const PAUSE: Duration = Duration::from_millis(10);

/// Sees to it that a thread waits, if there is something to wait for. Where none
/// can be started, they are looked at again at the next replacement.
fn look_again() {
    let mut waiting = waiting();
    if !waiting.old.is_empty() && !waiting.has_thread {
        waiting.has_thread =
            std::thread::Builder::new().name("lcr-retire".to_owned()).spawn(wait_for_all).is_ok();
    }
}

fn wait_for_all() {
    loop {
        let gone: Vec<Leaving> = {
            let mut waiting = waiting();
            if waiting.old.is_empty() {
                waiting.has_thread = false;
                return;
            }
            let now = Instant::now();
            // No component's code runs here; it does when they are dropped.
            waiting.old.extract_if(.., |old| old.is_quiet(Some(now))).collect()
        };
        if gone.is_empty() {
            std::thread::sleep(PAUSE);
        }
        drop(gone);
    }
}

/// What was behind `gate` and is on its way out.
pub(crate) fn leaving(gate: &GateRef) -> Vec<Offer> {
    let waiting = waiting();
    let of_gate = waiting.old.iter().filter(|r| std::ptr::eq(r.gate.head(), gate.head()));
    of_gate.map(|r| r.built.offer().clone()).collect()
}
