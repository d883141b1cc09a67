//! A window after the switch in which a new version has to prove itself; else the
//! old one is taken back by itself.
//!
//! Three things count: calls that panic, calls that return errors, and a check of
//! one's own. Failures are counted where they come back, in the caller's end of a
//! call, in the instance's own counters: a call that succeeds writes nothing. Calls
//! are counted while a window is open and an error rate is asked for (and while
//! somebody else [observes](super::Factory::observe)), and at no other time.
//!
//! All instances of the new version are watched as one: those that were put behind
//! live gates, those that come to life within the window, and those that are gone
//! again. The window keeps none of them alive.
//!
//! The way back is an ordinary [rollback](super::Factory::rollback), in one
//! transaction for all that was replaced in one, and it stands in the history. Where
//! it fails, for a caller stays inside, it is tried again as long as the window is
//! open. If somebody replaces the new version within its window, the window closes.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::observe::{Counting, Look, Numbers, Watching};
use super::watch::Event;
use super::{Factory, Replaced, Replacement};
use crate::call::panic_text;

/// How often is looked.
const PAUSE: Duration = Duration::from_millis(5);

/// How long to rest after a way back that failed, for the first time, and at most: while
/// it is tried callers may have to wait.
const FIRST_REST: Duration = Duration::from_secs(1);
const LAST_REST: Duration = Duration::from_secs(60);

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
    /// judged before twenty calls were made. Calls are those that go through a handle:
    /// a run of calls through a guard counts as one, and calls of a pinned instance do
    /// not count, while their errors do.
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

/// A window that opens with the switch: what is to be watched is watched already, so
/// that no call of the new version is missed.
pub(super) struct Ahead(Window);

/// The window of one replacement.
pub(super) struct Window {
    health: Health,
    patients: Vec<Patient>,
    /// While it lasts, and calls matter.
    counting: Vec<Counting>,
}

/// The new version of one interface.
struct Patient {
    watching: Watching,
    version: i32,
}

/// What a look at all of them says.
enum Finding {
    /// Somebody has replaced one of them.
    Replaced,
    /// Not all could be looked at just now.
    Later,
    Fine,
    /// Which one is ill, and of what.
    Ill {
        interface: String,
        version: i32,
        reason: String,
    },
}

impl Window {
    /// Before anything new is built, in the turn of the replacement.
    pub(super) fn ahead<'a>(
        health: Health,
        factory: &Factory,
        interfaces: impl Iterator<Item = &'a str>,
    ) -> Ahead {
        let (mut patients, mut counting) = (Vec::new(), Vec::new());
        for interface in interfaces {
            if health.max_error_rate.is_some() {
                counting.push(Counting::of(factory, interface));
            }
            patients.push(Patient { watching: Watching::begin(factory, interface), version: 0 });
        }
        Ahead(Window { health, patients, counting })
    }

    /// Watches on a thread of its own. Where none can be started nobody watches, and
    /// that is told as an event.
    pub(super) fn watch(self, factory: Factory, back: Replacement) {
        let told = factory.clone();
        let (interface, version) = self.first();
        let thread = std::thread::Builder::new().name("lcr-health".to_owned());
        let thread = thread.spawn(move || self.run(&factory, &back));
        if let Err(error) = thread {
            let reason = format!("nobody watches it: no thread could be started: {error}");
            told.inner.tell(&Event::Unhealthy { interface, version, reason });
        }
    }

    fn first(&self) -> (String, i32) {
        // A replacement has one interface at least.
        let Patient { watching, version } = &self.patients[0];
        (watching.name.clone(), *version)
    }

    fn run(mut self, factory: &Factory, back: &Replacement) {
        // None: never.
        let end = Instant::now().checked_add(self.health.window);
        loop {
            let is_last = is_over(end);
            match self.look() {
                Finding::Replaced => return,
                Finding::Fine if is_last => return,
                Finding::Fine | Finding::Later => {}
                Finding::Ill { interface, version, reason } => {
                    factory.inner.tell(&Event::Unhealthy { interface, version, reason });
                    // Calls need not be counted any more.
                    self.counting.clear();
                    self.take_back(back, end);
                    return;
                }
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn look(&self) -> Finding {
        let mut all = Vec::new();
        for Patient { watching, version } in &self.patients {
            match watching.look() {
                Look::Replaced => return Finding::Replaced,
                Look::Later => return Finding::Later,
                Look::Numbers(numbers) => all.push((&watching.name, *version, numbers)),
            }
        }
        for (name, version, numbers) in all {
            if let Some(reason) = self.health.illness(numbers) {
                return Finding::Ill { interface: name.clone(), version, reason };
            }
        }
        match self.health.ask() {
            Ok(()) => Finding::Fine,
            Err(reason) => {
                let (interface, version) = self.first();
                Finding::Ill { interface, version, reason }
            }
        }
    }

    /// Tries until it succeeds, or the window ends: once at least, and then when it
    /// ends. Each try stands in the history.
    fn take_back(&self, back: &Replacement, end: Option<Instant>) {
        let mut pause = FIRST_REST;
        while back.clone().run().is_err() && !is_over(end) {
            let rested = Instant::now() + pause;
            let again = end.map_or(rested, |end| end.min(rested));
            while Instant::now() < again {
                if self.is_replaced() {
                    return;
                }
                std::thread::sleep(PAUSE);
            }
            if self.is_replaced() {
                return;
            }
            pause = (pause * 2).min(LAST_REST);
        }
    }

    fn is_replaced(&self) -> bool {
        self.patients.iter().any(|patient| matches!(patient.watching.look(), Look::Replaced))
    }
}

impl Ahead {
    /// The switch has taken place, and the turn lasts.
    pub(super) fn open(self, new: &[Replaced]) -> Window {
        let Ahead(mut window) = self;
        for (patient, new) in window.patients.iter_mut().zip(new) {
            patient.version = new.to;
            patient.watching.switched_to(new.to);
        }
        window
    }
}

fn is_over(end: Option<Instant>) -> bool {
    end.is_some_and(|end| Instant::now() >= end)
}

impl Health {
    /// What is wrong with an interface whose calls went like this.
    fn illness(&self, numbers: Numbers) -> Option<String> {
        let Numbers { panics, errors, calls } = numbers;
        if panics > self.max_panics {
            return Some(match panics {
                1 => "a call panicked".to_owned(),
                n => format!("{n} calls panicked, and {} may", self.max_panics),
            });
        }
        let rate = self.max_error_rate?;
        #[allow(clippy::cast_precision_loss, reason = "a rate is compared")]
        let is_too_much = calls >= ENOUGH && errors as f64 > rate * calls as f64;
        is_too_much.then(|| format!("{errors} of {calls} calls returned an error, and {rate} of all may"))
    }

    /// Asks the check of one's own.
    fn ask(&self) -> Result<(), String> {
        let Some(check) = &self.check else { return Ok(()) };
        catch_unwind(AssertUnwindSafe(|| check()))
            .unwrap_or_else(|payload| Err(format!("it panicked: {}", panic_text(&*payload))))
            .map_err(|said| format!("its check failed: {said}"))
    }
}
