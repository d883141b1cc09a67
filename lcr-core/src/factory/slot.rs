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
//!
//! Nobody sees, however, that a constructor waits for a *thread* that it has started, and
//! that this thread references what the constructor constructs: the thread's references
//! are a line of their own, and most threads that reference do so for nobody's sake but
//! their own. Only time tells the one from the other. So nobody waits for longer than the
//! factory's patience ([`Builder::construct_wait`](super::Builder::construct_wait)); who
//! has waited so long gets an error that names the thread that it waited for.
//!
//! What is constructed at each reference has no slot, and cannot wait; but its
//! constructor could reference it again, and again, until the stack is full. So
//! [`Work::once`] refuses it where the same line constructs it already.
//!
//! The successor of what serves is constructed while that is live, and a handle to it would
//! lead to the successor itself before long: [`Work::succeed`] has such references refused.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::turn;
use crate::error::ReferenceError;
use crate::gate::{GateHead, Worker};
use crate::handle::{release_last, retain};
use crate::kernel;

#[derive(Debug)]
pub(crate) struct Slot {
    name: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Empty,
    Busy { work: u64, stage: &'static str, thread: i32 },
    Live(*const GateHead),
}

// SAFETY: the pointer in `Live` is to a gate that all threads may use, and is
// followed only under the lock.
unsafe impl Send for State {}

impl Slot {
    pub(crate) fn new(name: String) -> Arc<Self> {
        Arc::new(Slot { name, state: Mutex::new(State::Empty), changed: Condvar::new() })
    }

    /// What names it among all slots, while it is in use.
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
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
    /// gate that has the caller's count already. Others that build or release it are
    /// waited for, each of them for as long as `patience`.
    pub(crate) fn live_or<E: From<ReferenceError>>(
        &self,
        patience: Duration,
        build: impl FnOnce() -> Result<*const GateHead, E>,
    ) -> Result<*const GateHead, E> {
        let work = Work::enter(&self.name);
        let mut state = self.lock();
        // Whom we wait for, and until when.
        let mut waits: Option<(u64, Instant)> = None;
        loop {
            match *state {
                State::Live(gate) => {
                    // SAFETY: as in `live`.
                    unsafe { retain(gate) };
                    return Ok(gate);
                }
                State::Busy { work: other, stage, thread } => {
                    let waiting = work.wait_for(other, self, stage)?;
                    let now = Instant::now();
                    let since = match waits {
                        Some((same, since)) if same == other => since,
                        _ => now,
                    };
                    waits = Some((other, since));
                    let Some(left) = patience.checked_sub(now - since).filter(|left| !left.is_zero()) else {
                        drop(state);
                        let (name, thread) = (self.name.clone(), thread_name(thread));
                        return Err(ReferenceError::Waited { name, stage, thread, patience }.into());
                    };
                    let woken = self.changed.wait_timeout(state, left);
                    state = woken.unwrap_or_else(PoisonError::into_inner).0;
                    drop(waiting);
                }
                State::Empty => break,
            }
        }
        *state = State::Busy { work: work.id, stage: "constructed", thread: this_thread() };
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
        *state = State::Busy { work: work.id, stage: "released", thread: this_thread() };
        drop(state);
        let leave = Leave { slot: self, next: State::Empty };
        destroy();
        drop(leave);
    }
}

/// The system's number of the calling thread.
fn this_thread() -> i32 {
    thread_local! {
        // Asked for once: a system call takes longer than many a constructor. After a fork
        // it is the parent's, and no more than a word in a message.
        static THREAD: Cell<i32> = const { Cell::new(0) };
    }
    if THREAD.get() == 0 {
        THREAD.set(kernel::thread_id());
    }
    THREAD.get()
}

/// A thread as a person may find it: `"main", number 4711`.
fn thread_name(thread: i32) -> String {
    match std::fs::read_to_string(format!("/proc/self/task/{thread}/comm")) {
        Ok(name) => format!("\"{}\", number {thread}", name.trim_end()),
        Err(_) => format!("number {thread}, which has ended"),
    }
}

/// Ends a busy time.
struct Leave<'s> {
    slot: &'s Slot,
    next: State,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut state = self.slot.lock();
        *state = self.next;
        // Whoever waited for it does so no longer, even before it has woken: else a
        // line that ends here would be taken for a circle meanwhile.
        let slot = self.slot.address();
        WAITS.lock().unwrap_or_else(PoisonError::into_inner).retain(|wait| wait.slot != slot);
        drop(state);
        self.slot.changed.notify_all();
    }
}

/// A line of references, each made because of the one before.
#[derive(Clone, Debug)]
struct Line {
    id: u64,
    /// The first step, which most lines have no other but, needs no memory.
    first: Option<Step>,
    others: Vec<Step>,
}

impl Line {
    const EMPTY: Line = Line { id: 0, first: None, others: Vec::new() };

    fn steps(&self) -> impl DoubleEndedIterator<Item = &Step> {
        self.first.iter().chain(&self.others)
    }

    #[inline(always)]
    fn enter(&mut self, step: Step) -> Work {
        match self.first {
            None => {
                self.id = next_id(self.id);
                self.first = Some(step);
            }
            Some(_) => self.others.push(step),
        }
        Work { id: self.id }
    }

    /// The refusal of what this line is just constructing or releasing, if it is.
    #[cold]
    fn is_at(&self, factory: u64, name: &str, version: i32) -> Option<ReferenceError> {
        let is_same =
            |step: &&Step| step.name == name && step.once.is_some_and(|(once, _)| once == (factory, version));
        let (_, stage) = self.steps().rfind(is_same)?.once?;
        let path = self.steps().map(|step| &*step.name).chain([name]).map(str::to_owned).collect();
        Some(ReferenceError::Reentered { name: name.to_owned(), stage, path })
    }

    fn pop(&mut self) {
        if self.others.pop().is_none() {
            self.first = None;
        } else if self.others.is_empty() {
            self.others = Vec::new();
        }
    }
}

/// One reference of a line.
#[derive(Clone, Debug)]
struct Step {
    name: Cow<'static, str>,
    /// What is constructed or released, where that is one for each reference.
    once: Option<(Once, &'static str)>,
    /// The address of the gate, where it is a successor that is constructed; else 0.
    gate: usize,
}

/// How many successors are being constructed.
static SUCCEEDING: AtomicUsize = AtomicUsize::new(0);

/// The construction of a successor.
pub(crate) struct Succeeding {
    _work: Work,
}

impl Drop for Succeeding {
    fn drop(&mut self) {
        SUCCEEDING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What must not stand twice in a line: factory, and version of the step's name.
type Once = (u64, i32);

thread_local! {
    // Without a destructor, so that a handle can be dropped by one that runs later.
    // Its memory is freed when the last step is left.
    static LINE: RefCell<ManuallyDrop<Line>> =
        const { RefCell::new(ManuallyDrop::new(Line::EMPTY)) };
}

/// Threads take numbers by the batch, and then one after the other.
const BATCH: u64 = 1 << 10;
static NEXT: AtomicU64 = AtomicU64::new(BATCH);

/// A number that no line had, for a thread whose line before was `id`; 0 for none.
fn next_id(id: u64) -> u64 {
    let next = id + 1;
    if id == 0 || next.is_multiple_of(BATCH) { NEXT.fetch_add(BATCH, Ordering::Relaxed) } else { next }
}

/// Which work waits for which other, and for what.
static WAITS: Mutex<Vec<Wait>> = Mutex::new(Vec::new());

struct Wait {
    work: u64,
    other: u64,
    slot: usize,
    name: String,
}

/// One reference of a line, while it lasts.
pub(crate) struct Work {
    id: u64,
}

impl Work {
    fn enter(name: &str) -> Work {
        Self::step(Step { name: name.to_owned().into(), once: None, gate: 0 })
    }

    /// The construction of what will stand behind `gate`.
    pub(crate) fn succeed(gate: &GateHead) -> Succeeding {
        SUCCEEDING.fetch_add(1, Ordering::Relaxed);
        let gate_at = std::ptr::from_ref(gate).addr();
        Succeeding { _work: Self::step(Step { name: gate.name().into(), once: None, gate: gate_at }) }
    }

    /// Refuses a reference to `gate` by who constructs what will stand behind it.
    #[inline(always)]
    pub(crate) fn may_have(gate: &GateHead) -> Result<(), ReferenceError> {
        if SUCCEEDING.load(Ordering::Relaxed) == 0 { Ok(()) } else { Self::may_have_now(gate) }
    }

    #[cold]
    fn may_have_now(gate: &GateHead) -> Result<(), ReferenceError> {
        let (name, at) = (gate.name(), std::ptr::from_ref(gate).addr());
        LINE.with_borrow(|line| {
            if !line.steps().any(|step| step.gate == at) {
                return Ok(());
            }
            let path = line.steps().map(|step| &*step.name).chain([name]).map(str::to_owned).collect();
            Err(ReferenceError::Succeeding { name: name.to_owned(), path })
        })
    }

    #[inline(always)]
    fn step(step: Step) -> Work {
        LINE.with_borrow_mut(|line| line.enter(step))
    }

    /// The construction of something that has no slot, unless this line is just
    /// constructing or releasing such a thing already.
    #[inline]
    pub(crate) fn once(factory: u64, name: Cow<'static, str>, version: i32) -> Result<Work, ReferenceError> {
        LINE.with_borrow_mut(|line| {
            if line.first.is_some()
                && let Some(error) = line.is_at(factory, &name, version)
            {
                return Err(error);
            }
            Ok(line.enter(Step { name, once: Some(((factory, version), "constructed")), gate: 0 }))
        })
    }

    /// The release of something that has no slot.
    pub(crate) fn release(factory: u64, name: Cow<'static, str>, version: i32) -> Work {
        Self::step(Step { name, once: Some(((factory, version), "released")), gate: 0 })
    }

    /// Notes that this work waits for `other`, unless that waits for this one.
    fn wait_for(&self, other: u64, slot: &Slot, stage: &'static str) -> Result<Waiting, ReferenceError> {
        let mut waits = WAITS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut path: Vec<String> =
            LINE.with_borrow(|line| line.steps().map(|step| step.name.clone().into_owned()).collect());
        let mut end = other;
        while end != self.id {
            match waits.iter().find(|wait| wait.work == end) {
                Some(next) => {
                    path.push(next.name.clone());
                    end = next.other;
                }
                None => {
                    waits.push(Wait { work: self.id, other, slot: slot.address(), name: slot.name.clone() });
                    return Ok(Waiting { id: self.id });
                }
            }
        }
        Err(ReferenceError::Reentered { name: slot.name.clone(), stage, path })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        LINE.with_borrow_mut(|line| line.pop());
    }
}

struct Waiting {
    id: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITS.lock().unwrap_or_else(PoisonError::into_inner).retain(|wait| wait.work != self.id);
    }
}

/// Runs `f` on a thread of its own that has ended when this returns, as part of
/// the same line of references and of the same transaction.
///
/// Constructors and destructors of libraries run so: what they leave in the
/// thread (keys, destructors of thread-locals) is gone before the library may be.
///
/// # Errors
///
/// No thread could be started; `f` comes back.
pub(crate) fn on_ended_thread<R: Send, F: FnOnce() -> R + Send>(
    name: &str,
    f: F,
) -> Result<std::thread::Result<R>, (std::io::Error, F)> {
    // Taken out by the thread: what could not be started has left it here.
    let (mut f, mut value) = (Some(f), None);
    let ended = run_on_ended_thread(name, &mut || value = f.take().map(|f| f()));
    match (ended, f) {
        (Ok(Err(payload)), _) => Ok(Err(payload)),
        (Err(error), Some(f)) => Err((error, f)),
        (Ok(Ok(())) | Err(_), _) => match value {
            Some(value) => Ok(Ok(value)),
            None => unreachable!("`f` is taken by a thread that was started, and by no other"),
        },
    }
}

/// What of it is compiled once.
fn run_on_ended_thread(name: &str, f: &mut (dyn FnMut() + Send)) -> std::io::Result<std::thread::Result<()>> {
    // An empty line has no number to go on with: it would be counted on twice.
    let line = LINE.with_borrow(|line| if line.first.is_some() { Line::clone(line) } else { Line::EMPTY });
    let (worker, turn) = (Worker::current(), turn::carried());
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, move || {
            LINE.set(ManuallyDrop::new(line));
            let _working = worker.map(Worker::work);
            turn.carry_on();
            f();
            // Freed here: nothing else would.
            LINE.with_borrow_mut(|line| **line = Line::EMPTY);
        })?;
        Ok(thread.join())
    })
}
