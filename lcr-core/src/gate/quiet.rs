//! Waiting until nobody is inside: the grace period.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{BarrierRefused, InstanceHead, barrier, cells, hold, protocol};
#[cfg(all(target_os = "linux", not(miri)))]
use crate::kernel;

/// How long the replacer spins before it sleeps. With a caller on every
/// processor, more keeps callers from running that it waits for.
const SPIN: Duration = Duration::from_micros(1);
/// The first sleep. Shorter than the replacer has just run, and a scheduler that
/// keeps account (EEVDF) has not paid it back when it wakes: it then waits for the
/// whole slice of a caller. Two callers on two processors, first sleep 5 µs: the
/// longest 1 % of waits took 2 ms; 20 µs: 0.1 ms, at the same median; 80 µs: 0.14 ms.
/// Each is twice as long as the one before, for the same reason.
const SHORT: Duration = Duration::from_micros(20);
/// The longest.
const LONG: Duration = Duration::from_micros(100);

/// Whether pinned instances are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pins {
    /// Yes: before a save, before memory is freed.
    Count,
    /// No: the calls only.
    Ignore,
}

/// Somebody who was inside when a wait ended without success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// The thread's name (the kernel keeps 15 bytes of it), `main`, or
    /// `thread N`; for a thread that ended inside, `thread N, gone`; for pins,
    /// `2 pinned instances`.
    pub thread: String,
    /// The kernel's number of the thread; `None` for pins, which have no thread.
    pub tid: Option<u32>,
    /// Whether the thread ended inside (a raw exit, or a forgotten guard): it
    /// will never leave.
    pub gone: bool,
    /// The interface.
    pub interface: &'static str,
    /// How long since this wait first saw it there.
    pub age: Duration,
}

impl Inside {
    /// Those who have the instance pinned, since `since` at least; `None` if nobody
    /// has.
    pub(crate) fn pinned(instance: &InstanceHead, since: Instant) -> Option<Self> {
        let pins = instance.pins();
        (pins > 0).then(|| Inside {
            thread: pins_of(pins),
            tid: None,
            gone: false,
            interface: instance.gate().name(),
            age: since.elapsed(),
        })
    }
}

fn pins_of(count: usize) -> String {
    if count == 1 { "1 pinned instance".to_owned() } else { format!("{count} pinned instances") }
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in `{}`, for {:?} at least", self.thread, self.interface, self.age)
    }
}

/// Why a wait ended with callers still inside, or not known to be outside.
#[derive(Debug, thiserror::Error)]
pub enum NotQuiet {
    /// The deadline passed.
    #[error("still inside at the deadline: {}", list(.0))]
    Deadline(Vec<Inside>),
    /// Nothing can be known without the barrier.
    #[error(transparent)]
    Barrier(#[from] BarrierRefused),
}

fn list(inside: &[Inside]) -> String {
    inside.iter().map(Inside::to_string).collect::<Vec<_>>().join("; ")
}

/// Waits until no thread is inside any of `instances`, all at the same moment.
///
/// Their gates must already say something else, or be held: else new callers
/// keep entering, and being quiet means nothing. Passes the heavy barrier first.
/// What callers did inside happened before the return.
///
/// A thread that is itself [inside](InstanceHead::inside) one of them waits for
/// itself, until the deadline.
///
/// # Errors
///
/// The deadline passed (one that has passed already: after one look), or the
/// barrier is refused.
pub fn wait_quiet(
    instances: &[&InstanceHead],
    pins: Pins,
    deadline: Option<Instant>,
) -> Result<(), NotQuiet> {
    wait_quiet_unless(instances, pins, deadline, &AtomicBool::new(false))
}

/// [`wait_quiet`], which ends as at its deadline when `cancelled` becomes true.
///
/// # Errors
///
/// As there.
pub fn wait_quiet_unless(
    instances: &[&InstanceHead],
    pins: Pins,
    deadline: Option<Instant>,
    cancelled: &AtomicBool,
) -> Result<(), NotQuiet> {
    barrier::heavy()?;
    let mut seen: Vec<Seen> = Vec::new();
    if protocol::is_quiet(&hold::PASSES, || look(instances, pins, &mut seen)) {
        return Ok(());
    }
    // Only cells that somebody left behind are in a forked child's way.
    cells::look_for_fork();
    let started = Instant::now();
    let mut slack = None;
    let mut pause = SHORT;
    loop {
        if protocol::is_quiet(&hold::PASSES, || look(instances, pins, &mut seen)) {
            return Ok(());
        }
        let now = Instant::now();
        let is_over = deadline.is_some_and(|d| now >= d) || cancelled.load(Ordering::Relaxed);
        if is_over && !seen.is_empty() {
            return Err(NotQuiet::Deadline(seen.iter().map(|s| s.describe(instances, now)).collect()));
        }
        if now.duration_since(started) < SPIN {
            std::hint::spin_loop();
            continue;
        }
        slack.get_or_insert_with(ShortSlack::new);
        let left = deadline.map_or(pause, |d| d.saturating_duration_since(now));
        std::thread::sleep(pause.min(left));
        pause = LONG.min(pause * 2);
    }
}

/// What the last look found, and since when.
struct Seen {
    what: What,
    instance: usize,
    since: Instant,
    again: bool,
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum What {
    Cell { cell: *const AtomicUsize, tid: u32 },
    Pinned,
}

/// One look. Keeps in `seen` exactly what it found, with the time of the first
/// look that found it without a break. Says whether there was anything.
fn look(instances: &[&InstanceHead], pins: Pins, seen: &mut Vec<Seen>) -> bool {
    let mut now = None;
    let mut note = |what, instance| match seen.iter_mut().find(|s| s.what == what && s.instance == instance) {
        Some(known) => known.again = true,
        None => {
            let since = *now.get_or_insert_with(Instant::now);
            seen.push(Seen { what, instance, since, again: true });
        }
    };
    cells::each_occupied(|found| {
        if instances.iter().any(|i| address(i) == found.instance) {
            note(What::Cell { cell: found.cell, tid: found.tid }, found.instance);
        }
    });
    if pins == Pins::Count {
        // After the cells: who is inside may pin, then leave.
        for instance in instances {
            if instance.pins() != 0 {
                note(What::Pinned, address(instance));
            }
        }
    }
    seen.retain_mut(|s| std::mem::take(&mut s.again));
    !seen.is_empty()
}

fn address(instance: &InstanceHead) -> usize {
    std::ptr::from_ref(instance).addr()
}

impl Seen {
    fn describe(&self, instances: &[&InstanceHead], now: Instant) -> Inside {
        let instance = instances.iter().find(|i| address(i) == self.instance);
        let interface = instance.map_or("?", |i| i.gate().name());
        let age = now.saturating_duration_since(self.since);
        match self.what {
            What::Cell { tid, .. } => {
                let gone = cells::is_gone(tid);
                Inside { thread: thread_name(tid, gone), tid: Some(tid), gone, interface, age }
            }
            What::Pinned => {
                let thread = pins_of(instance.map_or(0, |i| i.pins()));
                Inside { thread, tid: None, gone: false, interface, age }
            }
        }
    }
}

fn thread_name(tid: u32, gone: bool) -> String {
    if gone {
        return format!("thread {tid}, gone");
    }
    if tid == std::process::id() {
        return "main".to_owned();
    }
    match std::fs::read_to_string(format!("/proc/self/task/{tid}/comm")) {
        Ok(name) if !name.trim().is_empty() => name.trim().to_owned(),
        _ => format!("thread {tid}"),
    }
}

/// Sleeps are as short as they are asked to be, while this lives: the kernel
/// adds 50 µs otherwise.
struct ShortSlack {
    #[cfg(all(target_os = "linux", not(miri)))]
    before: Option<libc::c_ulong>,
}

impl ShortSlack {
    fn new() -> Self {
        #[cfg(all(target_os = "linux", not(miri)))]
        {
            let before = kernel::timer_slack();
            if before.is_some() {
                kernel::set_timer_slack(1);
            }
            ShortSlack { before }
        }
        #[cfg(not(all(target_os = "linux", not(miri))))]
        ShortSlack {}
    }
}

impl Drop for ShortSlack {
    fn drop(&mut self) {
        #[cfg(all(target_os = "linux", not(miri)))]
        if let Some(before) = self.before {
            kernel::set_timer_slack(before);
        }
    }
}
