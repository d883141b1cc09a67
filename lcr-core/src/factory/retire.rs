//! Old instances on their way out: destroyed when the last caller has left.
//!
//! A replacement waits for that until its deadline. Whoever stays longer keeps
//! only the old instance, not the replacement: it is handed to one thread that
//! looks after all such instances, and ends when there are none.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::instance::{Built, GateRef};
use super::offer::Offer;
use super::replace::quiet;

/// An instance that stands behind its gate no more.
pub(crate) struct Retired {
    // Dropped in this order: an instance's gate outlives it.
    built: Box<Built>,
    gate: GateRef,
}

impl Retired {
    pub(crate) fn new(gate: GateRef, built: Box<Built>) -> Self {
        Retired { built, gate }
    }

    /// Destroys it, if nobody is inside and nobody has it pinned by `deadline`.
    fn destroy(self, deadline: Instant) -> Result<(), Self> {
        if quiet(self.built.head(), Some(deadline)).is_err() {
            return Err(self);
        }
        let Retired { built, gate } = self;
        drop(built);
        drop(gate);
        Ok(())
    }
}

/// Destroys `old` by the deadline, or leaves it to the thread that waits longer.
/// Says which.
pub(crate) fn until(old: Retired, deadline: Instant) -> bool {
    match old.destroy(deadline) {
        Ok(()) => true,
        Err(old) => {
            later(old);
            false
        }
    }
}

/// The instances that are waited for, and whether a thread does.
static WAITING: Mutex<(Vec<Retired>, bool)> = Mutex::new((Vec::new(), false));

/// How often they are looked at.
const PAUSE: Duration = Duration::from_millis(10);

fn later(old: Retired) {
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.0.push(old);
    if !waiting.1 {
        // Without a thread they are looked at again at the next replacement.
        waiting.1 = std::thread::Builder::new().name("lcr-retire".to_owned()).spawn(wait_for_all).is_ok();
    }
}

fn wait_for_all() {
    loop {
        let round = std::mem::take(&mut WAITING.lock().unwrap_or_else(PoisonError::into_inner).0);
        let now = Instant::now();
        let mut left: Vec<Retired> = round.into_iter().filter_map(|old| old.destroy(now).err()).collect();
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.0.append(&mut left);
        if waiting.0.is_empty() {
            waiting.1 = false;
            return;
        }
        drop(waiting);
        std::thread::sleep(PAUSE);
    }
}

/// What was behind `gate` and is on its way out.
pub(crate) fn leaving(gate: &GateRef) -> Vec<Offer> {
    let waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    let of_gate = waiting.0.iter().filter(|r| std::ptr::eq(r.gate.head(), gate.head()));
    of_gate.map(|r| r.built.offer().clone()).collect()
}
