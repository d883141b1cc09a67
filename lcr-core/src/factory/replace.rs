//! Replacement: a transaction.
//!
//! ```text
//! prepare  find the new version: it replaces the old, fits every caller, may be
//!          loaded; its dependencies are constructed. The old version serves.
//! build    stateless: the new instance is constructed, the old version serves.
//!          stateful: the old one pauses, the gates are held, the last caller
//!          leaves; the old one saves, the new one is restored.
//! switch   one store for each gate. From here every call reaches the new version.
//! retire   when the last caller has left the old instance: it is destroyed, what
//!          it required is released, its library unloaded.
//! ```
//!
//! Each step is a value that owns what it has done so far ([`Choice`], [`Prepared`],
//! [`Paused`](held::Paused), [`HeldGates`](held::HeldGates), [`Closed`](switch::Closed)), and can only be made from the step before;
//! dropping one undoes it. So whatever fails before the switch, the old version goes
//! on serving, the calls that waited go through on it, and nothing stays loaded or
//! allocated. After [`Closed`] nothing can fail.
//!
//! Invariants:
//!
//! * Transactions are made one at a time in a process.
//! * No component's code runs under the lock of a gate's acceptance, or while gates
//!   are counted; while gates are held, it runs as the transaction's worker.
//! * What is behind a gate is destroyed only when it was found quiet after it stood
//!   there no more: [`Retired`] sees to that even when it is just dropped.
//! * From the switch on no instance of the old version comes into being. A reference
//!   that has chosen the old version before and constructs it now finds out when it
//!   lists its gate, throws it away, and asks again; one that listed it before is
//!   found by the transaction, which takes it in.

mod choice;
mod error;
mod held;
mod prepared;
mod report;
mod rewire;
mod switch;
mod turn;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use self::choice::Choice;
pub use self::error::{Failure, ReplaceError, Step};
use self::held::switch_held;
use self::prepared::Prepared;
pub use self::report::{Replaced, Report};
pub use self::rewire::TableMismatch;
use self::switch::switch_open;
use self::turn::{Patience, Turn};
use super::health::{Health, Window};
use super::history::{Entry, Previous};
use super::instance::GateRef;
use super::lines::Back;
use super::offer::Offer;
use super::turn::For;
use super::{Factory, sweep};
use crate::services;

/// How long a replacement waits for callers to leave, unless it is told otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A replacement that is being asked for; see [`Factory::replace`].
#[derive(Clone, Debug)]
#[must_use = "nothing is replaced before `run`"]
pub struct Replacement {
    factory: Factory,
    asks: Vec<Ask>,
    timeout: Duration,
    requester: Option<u32>,
    cancelled: Arc<AtomicBool>,
    health: Option<Health>,
    unpinned: bool,
}

/// One interface of it.
#[derive(Clone, Debug)]
struct Ask {
    interface: String,
    file: Option<PathBuf>,
    version: Option<i32>,
    way: Way,
}

/// Which way it goes.
#[derive(Clone, Debug)]
enum Way {
    /// To a newer version.
    On,
    /// To what served before.
    Back(Back),
    /// Back, and nothing served before.
    Nowhere,
}

impl Ask {
    fn new(interface: &str) -> Self {
        Ask { interface: interface.to_owned(), file: None, version: None, way: Way::On }
    }

    /// Back to what serves before `interface` is replaced once more by somebody else:
    /// one for each version that was replaced.
    fn back(factory: &Factory, interface: &str) -> Vec<Self> {
        let all = factory.inner.history.previous(interface);
        if all.is_empty() {
            return vec![Ask { way: Way::Nowhere, ..Ask::new(interface) }];
        }
        let back = |at: usize| {
            let Previous { to: from, version, offer, file } = all[at].clone();
            let same = |p: &&Previous| p.to == from && p.version != version;
            let is_last = !all[at + 1..].iter().any(|p| p.to == from);
            let others = is_last.then(|| all.iter().filter(same).map(|p| p.version).collect());
            let (file, sha256) = file.unzip();
            let back = Back { from, to: version, others, offer, sha256 };
            Ask { interface: interface.to_owned(), file, version: Some(version), way: Way::Back(back) }
        };
        (0..all.len()).map(back).collect()
    }

    fn is_back(&self) -> Option<&Back> {
        match &self.way {
            Way::Back(back) => Some(back),
            Way::On | Way::Nowhere => None,
        }
    }
}

impl Factory {
    /// Asks for the replacement of `interface` while the program runs.
    ///
    /// The new version is the highest one that is compiled in or in the factory's
    /// places, and not lower than what serves, unless [`with`](Replacement::with) names a
    /// library or [`version`](Replacement::version) a number. It must say that it replaces
    /// the version that serves (or be the same version, built anew).
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use lcr_core::Factory;
    ///
    /// let report = Factory::process().replace("greeter").with("/srv/hotfix/libgreeter.so").run()?;
    /// println!("{report}");
    /// # Ok(()) }
    /// ```
    pub fn replace(&self, interface: &str) -> Replacement {
        self.replacement(vec![Ask::new(interface)])
    }

    fn replacement(&self, asks: Vec<Ask>) -> Replacement {
        Replacement {
            factory: self.clone(),
            asks,
            timeout: TIMEOUT,
            requester: None,
            cancelled: Arc::default(),
            health: None,
            unpinned: false,
        }
    }

    /// Asks for the way back: the version that served before the last replacement
    /// of `interface`, by the same transaction. Where it was not replaced, or what
    /// served before cannot be had any more, for its file has changed, the
    /// transaction fails.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use lcr_core::Factory;
    ///
    /// let factory = Factory::process();
    /// factory.replace("store").also("index").run()?;
    /// let report = factory.rollback("store").also_rollback("index").run()?;
    /// println!("{report}");
    /// # Ok(()) }
    /// ```
    pub fn rollback(&self, interface: &str) -> Replacement {
        self.replacement(Ask::back(self, interface))
    }
}

impl Back {
    /// Does what stands behind this gate go back to this version?
    fn is_of(&self, gate: &GateRef) -> bool {
        gate.offer().version() == self.from && self.takes(gate.before().as_slice())
    }

    /// Is what was found the library that served before?
    fn same_file(
        file: &Path,
        found: Option<Result<String, String>>,
        wanted: &str,
    ) -> Result<(), ReplaceError> {
        let reason = match found {
            Some(Ok(now)) if now == wanted => return Ok(()),
            Some(Ok(now)) => format!("its SHA-256 was {wanted} and is {now}"),
            Some(Err(error)) => error,
            None => "what was loaded cannot be read".to_owned(),
        };
        Err(ReplaceError::Gone { file: file.to_owned(), reason })
    }
}

impl Replacement {
    fn last(&mut self) -> &mut Ask {
        let last = self.asks.len() - 1;
        &mut self.asks[last]
    }

    /// Takes the new version from this library.
    pub fn with(mut self, file: impl Into<PathBuf>) -> Self {
        self.last().file = Some(file.into());
        self
    }

    /// Takes this version.
    pub fn version(mut self, version: i32) -> Self {
        self.last().version = Some(version);
        self
    }

    /// Replaces another interface in the same transaction: all or none.
    /// [`with`](Self::with) and [`version`](Self::version) speak of it from here on.
    pub fn also(mut self, interface: &str) -> Self {
        self.asks.push(Ask::new(interface));
        self
    }

    /// Takes another interface back in the same transaction: all or none.
    pub fn also_rollback(mut self, interface: &str) -> Self {
        self.asks.extend(Ask::back(&self.factory, interface));
        self
    }

    /// Refuses to leave anybody on the old version: a raw reference keeps the table that
    /// it got, of whose length nobody knows, so it cannot be changed under its holder.
    /// Unless this is said, such references keep the old version until they are
    /// released, and the report counts them.
    pub fn unpinned(mut self) -> Self {
        self.unpinned = true;
        self
    }

    /// How long to wait for others, at most, each time: for another replacement to end;
    /// for callers to leave, while calls are held; for callers to leave the old version
    /// after the switch. Five seconds unless told.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Who asks, for the history: a user's number.
    pub fn requester(mut self, uid: u32) -> Self {
        self.requester = Some(uid);
        self
    }

    /// Calls it off when `cancelled` becomes true before the switch: it is undone
    /// then, as at a failure. Afterwards it is too late, and done.
    pub fn cancelled_by(mut self, cancelled: Arc<AtomicBool>) -> Self {
        self.cancelled = cancelled;
        self
    }

    /// Watches the new version after the switch, and takes the old one back by itself if
    /// it does not keep to what `health` asks; where that fails, with this replacement's
    /// own [`timeout`](Self::timeout), it is tried again until the window ends.
    /// [`run`](Self::run) does not wait for that; [`Factory::events`] and
    /// [`Factory::history`] tell.
    pub fn watch(mut self, health: Health) -> Self {
        self.health = Some(health);
        self
    }

    fn patience(&self, start: Instant) -> Patience<'_> {
        Patience::new(start, self.timeout, &self.cancelled)
    }

    /// Makes every check and changes nothing: no code of the new version runs.
    ///
    /// # Errors
    ///
    /// What [`run`](Self::run) would fail with before it builds.
    pub fn plan(self) -> Result<Report, Failure> {
        let start = Instant::now();
        let turn =
            Turn::take(For::Replacing, self.patience(start)).map_err(|e| self.failure(Step::Prepare, e))?;
        let choices = self.choices()?;
        let interfaces = choices.iter().map(Choice::describe).collect();
        drop((choices, turn));
        Ok(Report { interfaces, prepared: start.elapsed(), ..Report::default() })
    }

    /// Replaces.
    ///
    /// Returns when the new version serves and the last caller has left the old
    /// one, or when the timeout has passed since: a caller that stays longer
    /// finishes on the old version, which is destroyed after it.
    ///
    /// # Errors
    ///
    /// The step that failed, and why. The old version serves on.
    pub fn run(self) -> Result<Report, Failure> {
        let start = Instant::now();
        let mut outcome = self.transact(start);
        // All that was loaded in vain is gone now, or it is told.
        let kept = sweep();
        match &mut outcome {
            Ok(report) => report.kept = kept,
            Err(failure) => failure.kept = kept,
        }
        let inner = &self.factory.inner;
        match &outcome {
            Ok(report) => {
                for replaced in &report.interfaces {
                    inner.record(Entry::done(replaced, report, self.requester));
                }
            }
            Err(failure) => {
                let of_it = self.asks.iter().find(|ask| ask.interface == failure.interface);
                let file = of_it.and_then(|ask| ask.file.clone());
                inner.record(Entry::failed(failure, file, self.requester));
            }
        }
        outcome
    }

    fn failure(&self, step: Step, error: ReplaceError) -> Failure {
        Failure::new(&self.asks[0].interface, step, error)
    }

    /// Chooses and checks everything, before anything is loaded.
    fn choices(&self) -> Result<Vec<Choice>, Failure> {
        let inner = &self.factory.inner;
        if !services::is_host() {
            let interface = self.asks[0].interface.clone();
            return Err(self.failure(Step::Prepare, ReplaceError::InLibrary { interface }));
        }
        let mut choices: Vec<Choice> = Vec::new();
        for ask in &self.asks {
            let fail = |error| Failure::new(&ask.interface, Step::Prepare, error);
            if choices.iter().any(|c| c.name == ask.interface && !c.shares(ask)) {
                return Err(fail(ReplaceError::Twice { interface: ask.interface.clone() }));
            }
            let choice = Choice::make(inner, ask).map_err(fail)?;
            choice.check(inner).map_err(fail)?;
            if self.unpinned {
                choice.check_unpinned(inner).map_err(fail)?;
            }
            choices.push(choice);
        }
        Ok(choices)
    }

    /// What undoes it, once it is done: whatever others replace afterwards.
    fn way_back(&self) -> Replacement {
        let mut names: Vec<&str> = self.asks.iter().map(|ask| &*ask.interface).collect();
        names.dedup();
        let asks = names.into_iter().flat_map(|name| Ask::back(&self.factory, name)).collect();
        self.factory.replacement(asks).timeout(self.timeout)
    }

    fn transact(&self, start: Instant) -> Result<Report, Failure> {
        let inner = &self.factory.inner;
        let patience = self.patience(start);
        let turn =
            Turn::take(For::Replacing, patience).map_err(|error| self.failure(Step::Prepare, error))?;
        let patience = patience.anew();
        let ahead = self
            .health
            .clone()
            .map(|health| Window::ahead(health, &self.factory, self.asks.iter().map(|ask| &*ask.interface)));
        let mut report = Report::default();
        // What was loaded stays so between two attempts.
        let mut loaded: Vec<Offer> = Vec::new();
        let mut door = None;
        let switched = loop {
            let mut prepared = Vec::new();
            for choice in self.choices()? {
                let name = choice.name.clone();
                let prepare = choice.prepare(inner);
                prepared.push(prepare.map_err(|error| Failure::new(&name, Step::Prepare, error))?);
                patience.check().map_err(|error| Failure::new(&name, Step::Prepare, error))?;
            }
            loaded.extend(prepared.iter().map(|p| p.offer.clone()));
            report.interfaces = prepared.iter().map(|p| p.report.clone()).collect();
            let together = self.asks.len() > 1;
            let switched = if together || prepared.iter().any(Prepared::hands_state_over) {
                switch_held(inner, &mut prepared, start, patience, &mut report)?
            } else {
                switch_open(inner, &mut prepared, start, patience, &mut report)?
            };
            if let Some(switched) = switched {
                break switched;
            }
            // Somebody constructed another instance of the old version meanwhile.
            if patience.is_over() {
                return Err(self.failure(Step::Switch, ReplaceError::Outrun));
            }
            let names = || self.asks.iter().map(|ask| ask.interface.clone()).collect();
            door.get_or_insert_with(|| inner.gates.close_door(names()));
        };
        drop(door);
        drop(loaded);
        let switch_at = Instant::now();
        let window = ahead.map(|ahead| ahead.open(&report.interfaces));
        let back = window.is_some().then(|| self.way_back());
        // The next transaction need not wait for these callers.
        drop(turn);
        if let (Some(window), Some(back)) = (window, back) {
            window.watch(self.factory.clone(), back);
        }
        // In the order of the switch, each until the same deadline.
        let mut drained = !switched.lingers;
        for old in switched.retired {
            drained &= old.until(switch_at.checked_add(self.timeout));
        }
        report.drained = drained.then(|| switch_at.elapsed());
        Ok(report)
    }
}
