//! Old instances on their way out: destroyed when the last caller has left.
//!
//! A replacement waits for that until its deadline. Whoever stays longer keeps
//! only the old instance, not the replacement: it is handed to one thread that
//! looks after all such instances, and ends when there are none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
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
/// Whether somebody waits for an instance at all,
static IS_WAITED: AtomicBool = AtomicBool::new(false);
/// and what tells the thread that it is worth a look.
static LOOK: Condvar = Condvar::new();

fn waiting() -> MutexGuard<'static, Waiting> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long until they are looked at again: this at first, and the double each time, up to
/// the longest. Who was inside says nothing when it leaves; who had one pinned does.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The last pin of an instance is gone.
#[inline]
pub(crate) fn unpinned() {
    if IS_WAITED.load(Ordering::SeqCst) {
        drop(waiting());
        LOOK.notify_all();
    }
}

/// Sees to it that a thread waits, if there is something to wait for. Where none
/// can be started, they are looked at again at the next replacement.
fn look_again() {
    let mut waiting = waiting();
    if !waiting.old.is_empty() && !waiting.has_thread {
        waiting.has_thread =
            std::thread::Builder::new().name("lcr-retire".to_owned()).spawn(wait_for_all).is_ok();
    } else {
        LOOK.notify_all();
    }
}

fn wait_for_all() {
    let mut pause = PAUSE;
    loop {
        let mut waiting = waiting();
        if waiting.old.is_empty() {
            IS_WAITED.store(false, Ordering::SeqCst);
            waiting.has_thread = false;
            return;
        }
        // Before the look: a pin that goes after it finds this.
        IS_WAITED.store(true, Ordering::SeqCst);
        let now = Instant::now();
        // No component's code runs here; it does when they are dropped.
        let gone: Vec<Leaving> = waiting.old.extract_if(.., |old| old.is_quiet(Some(now))).collect();
        if gone.is_empty() {
            let all = waiting.old.len();
            let (waiting, _) = LOOK.wait_timeout(waiting, pause).unwrap_or_else(PoisonError::into_inner);
            let is_news = waiting.old.len() != all;
            pause = if is_news { PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        } else {
            drop(waiting);
            pause = PAUSE;
            drop(gone);
        }
    }
}

/// What was behind `gate` and is on its way out.
pub(crate) fn leaving(gate: &GateRef) -> Vec<Offer> {
    let waiting = waiting();
    let of_gate = waiting.old.iter().filter(|r| std::ptr::eq(r.gate.head(), gate.head()));
    of_gate.map(|r| r.built.offer().clone()).collect()
}
