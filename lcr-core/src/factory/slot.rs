//! A singleton's place: empty, being built, live, or being released.
//!
//! Sixteen threads that reference one singleton at once build it once: one builds,
//! the others wait. Waiting could become a deadlock, in two ways: a constructor
//! references what is being built because of it; or two constructors, on two
//! threads, reference each other. So whoever would wait first looks along the
//! line of who waits for whom, and gets an error where the line ends at itself.
//!
//! Work is followed, not threads: a library's constructor runs on a thread of its
//! own, yet belongs to the reference that caused it ([`Work`]).

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::ReferenceError;
use crate::gate::GateHead;
use crate::handle::{release_last, retain};

#[derive(Debug)]
pub(crate) struct Slot {
    name: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Empty,
    Busy { work: u64, stage: &'static str },
    Live(*const GateHead),
}

// SAFETY: the pointer in `Live` is to a gate that all threads may use, and is
// followed only under the lock.
unsafe impl Send for State {}

impl Slot {
    pub(crate) fn new(name: String) -> Arc<Self> {
        Arc::new(Slot {
            name,
            state: Mutex::new(State::Empty),
            changed: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The live gate, with a count for the caller.
    #[inline]
    pub(crate) fn live(&self) -> Option<*const GateHead> {
        match *self.lock() {
            State::Live(gate) => {
                // SAFETY: a live gate has at least one count, and the last one is
                // only taken under this lock.
                unsafe { retain(gate) };
                Some(gate)
            }
            _ => None,
        }
    }

    /// The live gate with a count for the caller, or else what `build` makes: a
    /// gate that has the caller's count already.
    pub(crate) fn live_or(
        &self,
        build: impl FnOnce() -> Result<*const GateHead, ReferenceError>,
    ) -> Result<*const GateHead, ReferenceError> {
        let work = Work::enter(&self.name);
        let mut state = self.lock();
        loop {
            match *state {
                State::Live(gate) => {
                    // SAFETY: as in `live`.
                    unsafe { retain(gate) };
                    return Ok(gate);
                }
                State::Busy { work: other, stage } => {
                    let waiting = work.wait_for(other, &self.name, stage)?;
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    drop(waiting);
                }
                State::Empty => break,
            }
        }
        *state = State::Busy { work: work.id, stage: "constructed" };
        drop(state);
        // Whatever ends the building, an unwinding included, the slot is let go.
        let mut built = Leave { slot: self, next: State::Empty };
        let gate = build()?;
        built.next = State::Live(gate);
        Ok(gate)
    }

    /// Gives back a count that may be the last one; if it is, the gate goes to
    /// `destroy`.
    ///
    /// # Safety
    ///
    /// The count must be the caller's, and the gate be this slot's.
    pub(crate) unsafe fn release(&self, gate: *const GateHead, destroy: impl FnOnce()) {
        let mut state = self.lock();
        // SAFETY: alive by the caller's count.
        if !unsafe { release_last(gate) } {
            return;
        }
        let work = Work::enter(&self.name);
        *state = State::Busy { work: work.id, stage: "released" };
        drop(state);
        let leave = Leave { slot: self, next: State::Empty };
        destroy();
        drop(leave);
    }
}

/// Ends a busy time.
struct Leave<'s> {
    slot: &'s Slot,
    next: State,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        *self.slot.lock() = self.next;
        self.slot.changed.notify_all();
    }
}

/// A line of references, each made because of the one before.
#[derive(Clone, Debug, Default)]
struct Line {
    id: u64,
    names: Vec<String>,
}

thread_local! {
    static LINE: RefCell<Line> = const { RefCell::new(Line { id: 0, names: Vec::new() }) };
}

static NEXT: AtomicU64 = AtomicU64::new(1);

/// Which work waits for which other, and for what.
static WAITS: Mutex<Option<HashMap<u64, (u64, String)>>> = Mutex::new(None);

/// One reference of a line, while it lasts.
struct Work {
    id: u64,
}

impl Work {
    fn enter(name: &str) -> Work {
        LINE.with_borrow_mut(|line| {
            if line.names.is_empty() {
                line.id = NEXT.fetch_add(1, Ordering::Relaxed);
            }
            line.names.push(name.to_owned());
            Work { id: line.id }
        })
    }

    /// Notes that this work waits for `other`, unless that waits for this one.
    fn wait_for(&self, other: u64, name: &str, stage: &'static str) -> Result<Waiting, ReferenceError> {
        let mut waits = WAITS.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = waits.get_or_insert_default();
        let mut path: Vec<String> = LINE.with_borrow(|line| line.names.clone());
        let mut end = other;
        while end != self.id {
            match waits.get(&end) {
                Some((next, name)) => {
                    path.push(name.clone());
                    end = *next;
                }
                None => {
                    waits.insert(self.id, (other, name.to_owned()));
                    return Ok(Waiting { id: self.id });
                }
            }
        }
        Err(ReferenceError::Reentered { name: name.to_owned(), stage, path })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        LINE.with_borrow_mut(|line| line.names.pop());
    }
}

struct Waiting {
    id: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waits = WAITS.lock().unwrap_or_else(PoisonError::into_inner);
        waits.get_or_insert_default().remove(&self.id);
    }
}

/// Runs `f` on a thread of its own that has ended when this returns, as part of
/// the same line of references.
///
/// Constructors and destructors of libraries run so: what they leave in the
/// thread (keys, destructors of thread-locals) is gone before the library may be.
pub(crate) fn on_ended_thread<R: Send>(
    name: &str,
    f: impl FnOnce() -> R + Send,
) -> std::io::Result<std::thread::Result<R>> {
    let line = LINE.with_borrow(Line::clone);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, move || {
            LINE.set(line);
            f()
        })?;
        Ok(thread.join())
    })
}
