//! A window after the switch in which a new version has to prove itself; else the
//! old one is taken back by itself.
//!
//! Three things count: calls that panic, calls that return errors, and a check of
//! one's own. Failures are counted where they come back, in the caller's end of a
//! call, in the instance's own counters: a call that succeeds writes nothing. Calls
//! are counted while a window is open and an error rate is asked for, and at no other
//! time.
//!
//! The way back is an ordinary [rollback](super::Factory::rollback), in one
//! transaction for all that was replaced in one, and it stands in the history. If
//! somebody replaces the new version within its window, the window closes.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::instance::GateRef;
use super::status::Event;
use super::{Factory, Replacement};
use crate::call::panic_text;

/// How often is looked.
const PAUSE: Duration = Duration::from_millis(5);

type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What a new version must keep to, and for how long; see
/// [`Replacement::watch`](super::Replacement::watch).
///
/// ```no_run
/// # fn main() -> Result<(), lcr_core::factory::Failure> {
/// use std::time::Duration;
/// use lcr_core::Factory;
/// use lcr_core::factory::Health;
///
/// let health = Health::within(Duration::from_secs(30)).max_error_rate(0.01);
/// Factory::process().replace("greeter").watch(health).run()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Health {
    window: Duration,
    max_panics: u64,
    max_error_rate: Option<f64>,
    check: Option<Check>,
}

impl Health {
    /// For this long after the switch. Without more, the first call that panics takes
    /// the old version back.
    pub fn within(window: Duration) -> Self {
        Health { window, max_panics: 0, max_error_rate: None, check: None }
    }

    /// Lets so many calls panic.
    pub fn max_panics(mut self, calls: u64) -> Self {
        self.max_panics = calls;
        self
    }

    /// Of all calls, this part may return an error: 0.01 is one in a hundred. It is not
    /// judged before twenty calls were made.
    pub fn max_error_rate(mut self, rate: f64) -> Self {
        self.max_error_rate = Some(rate);
        self
    }

    /// Asks `check` again and again, on a thread of its own; what it returns as an error
    /// takes the old version back, and so does a panic in it. It is asked at least once.
    pub fn check(mut self, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.check = Some(Arc::new(check));
        self
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Health { window, max_panics, max_error_rate, check } = self;
        f.debug_struct("Health")
            .field("window", window)
            .field("max_panics", max_panics)
            .field("max_error_rate", max_error_rate)
            .field("check", &check.is_some())
            .finish()
    }
}

/// How many calls must have been made before their rate of errors means something.
const ENOUGH: u64 = 20;

/// One new instance that is watched.
struct Patient {
    name: String,
    version: i32,
    gate: GateRef,
    /// Where it stands behind its gate, as a number to compare.
    instance: usize,
    calls_before: u64,
    was_counting: bool,
}

/// The window of one replacement.
pub(super) struct Window {
    health: Health,
    /// What was replaced: the first.
    interface: String,
    patients: Vec<Patient>,
}

impl Window {
    /// Opens it, for instances that were just put behind their gates.
    pub(super) fn open(health: Health, interface: String, new: Vec<(String, i32, GateRef)>) -> Self {
        let patient = |(name, version, gate): (String, i32, GateRef)| {
            let head = gate.head();
            let was_counting = head.is_counting();
            if health.max_error_rate.is_some() {
                head.count_calls(true);
            }
            let (instance, calls_before) = (head.current().addr(), head.counted_calls());
            Patient { name, version, gate, instance, calls_before, was_counting }
        };
        let patients = new.into_iter().map(patient).collect();
        Window { health, interface, patients }
    }

    /// Watches on a thread of its own. Where none can be started nobody watches, and
    /// that is told as an event.
    pub(super) fn watch(self, factory: Factory, back: Replacement) {
        let told = factory.clone();
        let (interface, version) = self.first();
        let thread = std::thread::Builder::new().name("lcr-health".to_owned());
        let thread = thread.spawn(move || self.run(&factory, back));
        if let Err(error) = thread {
            let reason = format!("nobody watches it: no thread could be started: {error}");
            told.inner.tell(&Event::Unhealthy { interface, version, reason });
        }
    }

    fn first(&self) -> (String, i32) {
        let first = self.patients.first();
        first.map_or_else(|| (self.interface.clone(), 0), |p| (p.name.clone(), p.version))
    }

    fn run(self, factory: &Factory, back: Replacement) {
        let end = Instant::now() + self.health.window;
        loop {
            let is_last = Instant::now() >= end;
            if !self.patients.iter().all(Patient::is_there) {
                return;
            }
            if let Some((interface, version, reason)) = self.illness() {
                factory.inner.tell(&Event::Unhealthy { interface, version, reason });
                // Callers need not be counted any more, nor the instances be kept.
                drop(self);
                // Done or not, it stands in the history.
                let _ = back.run();
                return;
            }
            if is_last {
                return;
            }
            std::thread::sleep(PAUSE.min(self.health.window));
        }
    }

    /// Which is ill, and of what.
    fn illness(&self) -> Option<(String, i32, String)> {
        for patient in &self.patients {
            if let Some(reason) = patient.illness(&self.health) {
                return Some((patient.name.clone(), patient.version, reason));
            }
        }
        let check = self.health.check.as_ref()?;
        let said = catch_unwind(AssertUnwindSafe(|| check()))
            .unwrap_or_else(|payload| Err(format!("it panicked: {}", panic_text(&*payload))));
        let reason = format!("its check failed: {}", said.err()?);
        let (interface, version) = self.first();
        Some((interface, version, reason))
    }
}

impl Patient {
    /// Nobody has replaced it.
    fn is_there(&self) -> bool {
        self.gate.head().current().addr() == self.instance
    }

    fn illness(&self, health: &Health) -> Option<String> {
        let (panics, errors) = self.gate.failures_of(self.instance)?;
        if panics > health.max_panics {
            return Some(match panics {
                1 => "a call panicked".to_owned(),
                n => format!("{n} calls panicked, and {} may", health.max_panics),
            });
        }
        let rate = health.max_error_rate?;
        let calls = self.gate.head().counted_calls() - self.calls_before;
        #[allow(clippy::cast_precision_loss, reason = "a rate is compared")]
        let is_too_much = calls >= ENOUGH && errors as f64 > rate * calls as f64;
        is_too_much.then(|| format!("{errors} of {calls} calls returned an error, and {rate} of all may"))
    }
}

impl Drop for Patient {
    fn drop(&mut self) {
        if !self.was_counting {
            self.gate.head().count_calls(false);
        }
    }
}
