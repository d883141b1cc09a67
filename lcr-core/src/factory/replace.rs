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
//! [`Paused`], [`HeldGates`], [`Closed`]), and can only be made from the step before;
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

use std::cell::Cell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::health::{Health, Window};
use super::history::{Entry, Previous, sha256_of};
use super::instance::{Acceptance, Built, Dependencies, GateRef};
use super::lines::{Line, Succession};
use super::offer::Offer;
use super::retire::Retired;
use super::search::{Hit, Seen};
use super::slot::Slot;
use super::{Factory, Inner, Source, Wanted, plan};
use crate::contract::Mismatch;
use crate::error::ReferenceError;
use crate::gate::{
    BarrierRefused, Hold, HoldRefused, Inside, InstanceHead, NotQuiet, Pins, check_barrier, wait_quiet,
    wait_quiet_unless,
};
use crate::handover::{Failed as Refusal, Saved};
use crate::library::Candidate;
use crate::metadata::{Contract, Interface};
use crate::version::Version;

/// How long a replacement waits for callers to leave, unless it is told otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A replacement that is being asked for; see [`Factory::replace`].
#[derive(Debug)]
#[must_use = "nothing is replaced before `run`"]
pub struct Replacement {
    factory: Factory,
    asks: Vec<Ask>,
    timeout: Duration,
    requester: Option<u32>,
    cancelled: Arc<AtomicBool>,
    health: Option<Health>,
}

/// One interface of it.
#[derive(Clone, Debug)]
struct Ask {
    interface: String,
    file: Option<PathBuf>,
    version: Option<i32>,
    back: Option<Back>,
}

/// Going back.
#[derive(Clone, Debug)]
struct Back {
    /// The version that is gone back from: no other one is replaced.
    from: i32,
    /// The very offer that served before, if it was compiled in,
    offer: Option<Offer>,
    /// else what its library must be.
    sha256: Option<String>,
}

impl Ask {
    fn new(interface: &str) -> Self {
        Ask { interface: interface.to_owned(), file: None, version: None, back: None }
    }
}

impl Factory {
    /// Asks for the replacement of `interface` while the program runs.
    ///
    /// The new version is the highest one that is compiled in or in the factory's
    /// places, unless [`with`](Replacement::with) names a library or
    /// [`version`](Replacement::version) a number. It must say that it replaces the
    /// version that serves (or be the same version, built anew).
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
        Replacement {
            factory: self.clone(),
            asks: vec![Ask::new(interface)],
            timeout: TIMEOUT,
            requester: None,
            cancelled: Arc::default(),
            health: None,
        }
    }

    /// Asks for the way back: the version that served before the last replacement
    /// of `interface`, by the same transaction.
    ///
    /// # Errors
    ///
    /// It was not replaced, or what served before cannot be had any more: its file
    /// has changed.
    pub fn rollback(&self, interface: &str) -> Result<Replacement, Failure> {
        let fail = |error| Failure::new(interface, Step::Prepare, error);
        let previous = self
            .inner
            .history
            .previous(interface)
            .ok_or_else(|| fail(ReplaceError::NothingBefore { interface: interface.to_owned() }))?;
        let mut replacement = self.replace(interface).version(previous.version);
        let ask = &mut replacement.asks[0];
        let mut back = Back { from: previous.to, offer: previous.offer, sha256: None };
        if let (None, Some((file, sha256))) = (&back.offer, previous.file) {
            back.same_file(&file, Some(sha256_of(&file).map_err(|e| e.to_string())), &sha256)
                .map_err(fail)?;
            ask.file = Some(file);
            back.sha256 = Some(sha256);
        }
        ask.back = Some(back);
        Ok(replacement)
    }
}

impl Back {
    /// Is what was found the library that served before?
    fn same_file(
        &self,
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
    /// it does not keep to what `health` asks. [`run`](Self::run) does not wait for
    /// that; [`Factory::events`] and [`Factory::history`] tell.
    pub fn watch(mut self, health: Health) -> Self {
        self.health = Some(health);
        self
    }

    /// All of both, as one.
    pub(super) fn with_all_of(mut self, other: Replacement) -> Self {
        self.asks.extend(other.asks);
        self
    }

    fn patience(&self, start: Instant) -> Patience<'_> {
        Patience { timeout: self.timeout, deadline: start + self.timeout, cancelled: &self.cancelled }
    }

    /// Makes every check and changes nothing: no code of the new version runs.
    ///
    /// # Errors
    ///
    /// What [`run`](Self::run) would fail with before it builds.
    pub fn plan(self) -> Result<Report, Failure> {
        let start = Instant::now();
        let turn = Turn::take(self.patience(start)).map_err(|e| self.failure(Step::Prepare, e))?;
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
        let outcome = self.transact(start);
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
        let mut choices: Vec<Choice> = Vec::new();
        for ask in &self.asks {
            let fail = |error| Failure::new(&ask.interface, Step::Prepare, error);
            if choices.iter().any(|c| c.name == ask.interface) {
                return Err(fail(ReplaceError::Twice { interface: ask.interface.clone() }));
            }
            let choice = Choice::make(inner, ask).map_err(fail)?;
            choice.check(inner).map_err(fail)?;
            choices.push(choice);
        }
        Ok(choices)
    }

    fn transact(&self, start: Instant) -> Result<Report, Failure> {
        let inner = &self.factory.inner;
        let patience = self.patience(start);
        let turn = Turn::take(patience).map_err(|error| self.failure(Step::Prepare, error))?;
        let patience = patience.anew();
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
        let window = self.health.clone().map(|health| {
            let new = switched.iter().map(|old| {
                let gate = old.gate();
                let version = gate.offer().version();
                (gate.head().name().to_owned(), version, gate)
            });
            Window::open(health, new.collect())
        });
        // The next transaction need not wait for these callers.
        drop(turn);
        if let Some(window) = window {
            window.watch(self.factory.clone(), self.asks.iter().map(|ask| ask.interface.clone()).collect());
        }
        // In the order of the switch, each until the same deadline.
        let mut drained = true;
        for old in switched {
            drained &= old.until(switch_at + self.timeout);
        }
        report.drained = drained.then(|| switch_at.elapsed());
        Ok(report)
    }
}

/// An interface's new version, chosen and not yet loaded.
struct Choice {
    name: String,
    source: Source,
    interface: Interface,
    /// The live instances that it replaces,
    gates: Vec<GateRef>,
    /// and those of the same name that it does not.
    others: Vec<GateRef>,
    /// Versions that serve, or would, before.
    from: Vec<i32>,
    back: Option<Back>,
}

impl Choice {
    fn make(inner: &Inner, ask: &Ask) -> Result<Self, ReplaceError> {
        let name = &ask.interface;
        let gates: Vec<GateRef> = inner.gates.all().into_iter().filter(|g| g.head().name() == name).collect();
        let raw = inner.raw_holders(name);
        let mut from: Vec<i32> = gates.iter().map(|g| g.offer().version()).collect();
        from.extend(raw.iter().map(|(version, _)| *version));
        let mut is_typed = (!from.is_empty()).then_some(!gates.is_empty());
        if from.is_empty()
            && let Ok(idle) = inner.source(name, Version::any())
        {
            // Nobody uses it now: later references will get the new version.
            from.push(idle.version(inner));
            is_typed = Some(idle.is_typed(inner));
        }
        from.sort_unstable();
        from.dedup();
        let mut candidates = candidates(inner, ask)?;
        if let Some(version) = ask.version {
            candidates.retain(|(_, interface)| interface.version == version);
        }
        let replaces = |interface: &Interface, v: i32| match &ask.back {
            Some(back) => v == back.from,
            None => v == interface.version || interface.replaces.contains(&v),
        };
        let may = |interface: &Interface| from.iter().any(|v| replaces(interface, *v));
        candidates.sort_by_key(|(_, interface)| std::cmp::Reverse(interface.version));
        let fits = candidates.iter().position(|(_, interface)| may(interface));
        let Some(fits) = fits else {
            return Err(match candidates.into_iter().next() {
                Some((_, found)) if !from.is_empty() => ReplaceError::DoesNotReplace {
                    interface: name.clone(),
                    serving: from,
                    found: found.version,
                    replaces: found.replaces,
                },
                Some(_) | None => ReplaceError::NoSuchVersion {
                    interface: name.clone(),
                    version: ask.version,
                    place: ask.file.clone(),
                    serving: from,
                },
            });
        };
        let (source, interface) = candidates.swap_remove(fits);
        if is_typed.is_some_and(|typed| typed != interface.contract.is_some()) {
            let contract = interface.contract.map(|contract| contract.name);
            return Err(ReplaceError::Kind { interface: name.clone(), to: interface.version, contract });
        }
        from.retain(|v| replaces(&interface, *v));
        let (gates, others) = gates.into_iter().partition(|g| replaces(&interface, g.offer().version()));
        let choice =
            Choice { name: name.clone(), source, interface, gates, others, from, back: ask.back.clone() };
        if choice.gates.iter().any(|g| g.close_acceptance().built().head().inside()) {
            return Err(ReplaceError::Inside { interface: name.clone() });
        }
        Ok(choice)
    }

    /// All checks that need no code of the new version.
    fn check(&self, inner: &Inner) -> Result<(), ReplaceError> {
        for gate in &self.gates {
            gate.accepts_successor(&self.name, self.interface.version, self.interface.contract.as_ref())?;
            let hands_over = gate.offer().handover().is_some();
            if hands_over && !self.interface.state {
                return Err(ReplaceError::StateLost {
                    interface: self.name.clone(),
                    from: gate.offer().version(),
                    to: self.interface.version,
                });
            }
        }
        if let Source::External(hit) = &self.source {
            let candidate = Candidate::open(&hit.seen.path, &inner.policy).map_err(ReferenceError::from)?;
            drop(candidate);
        }
        plan::check(inner, &self.source)?;
        Ok(())
    }

    fn describe(&self) -> Replaced {
        Replaced {
            interface: self.name.clone(),
            from: self.from.last().copied(),
            to: self.interface.version,
            file: match &self.source {
                Source::External(hit) => Some(hit.seen.path.clone()),
                Source::Line(line) => line.offer.library().map(|l| l.path().to_owned()),
                Source::CompiledIn(_) | Source::Late(_) => None,
            },
            sha256: None,
            pinned: 0,
        }
    }

    /// Loads it, and constructs what it requires.
    fn prepare(self, inner: &Arc<Inner>) -> Result<Prepared, ReplaceError> {
        let wanted = if self.interface.contract.is_some() { Wanted::Typed } else { Wanted::Raw };
        let offer = inner.offer(&self.source, wanted)?;
        let mut report = self.describe();
        report.sha256 = offer.library().and_then(|l| l.sha256());
        if let (Some(back), Some(file)) = (&self.back, &report.file)
            && let Some(wanted) = &back.sha256
        {
            back.same_file(file, report.sha256.clone().map(Ok), wanted)?;
        }
        let raw = inner.raw_holders(&self.name);
        report.pinned = raw.iter().filter(|(v, _)| self.from.contains(v)).map(|(_, count)| count).sum();
        let before = match self.gates.first() {
            Some(gate) => Some(gate.offer()),
            None => {
                let version = self.from.last().map_or(Version::any(), |v| Version::exact(*v));
                inner.source(&self.name, version).and_then(|s| inner.offer(&s, wanted)).ok()
            }
        };
        let mut targets = Vec::new();
        for gate in self.gates {
            let dependencies = Some(inner.dependencies(&offer)?);
            let version = gate.offer().version();
            targets.push(Target { built: None, dependencies, version, gate });
        }
        Ok(Prepared {
            targets,
            others: self.others,
            replaces: match &self.back {
                Some(back) => vec![back.from],
                None => offer.replaces().iter().copied().chain([offer.version()]).collect(),
            },
            is_back: self.back.is_some(),
            name: self.name,
            offer,
            from: self.from,
            // Here, and not when callers wait: it may have to hash a file.
            previous: Previous::of(before.as_ref(), self.interface.version),
            _before: before,
            report,
        })
    }
}

impl GateRef {
    /// Could every caller that it has accepted call a successor with this contract?
    fn accepts_successor(
        &self,
        interface: &str,
        to: i32,
        contract: Option<&Contract>,
    ) -> Result<(), ReplaceError> {
        self.callers_accept(contract).map_err(|mismatch| ReplaceError::Contract {
            interface: interface.to_owned(),
            to,
            mismatch,
        })
    }
}

/// What could be the new version.
fn candidates(inner: &Inner, ask: &Ask) -> Result<Vec<(Source, Interface)>, ReplaceError> {
    let name = &ask.interface;
    if let Some(offer) = ask.back.as_ref().and_then(|back| back.offer.as_ref()) {
        let line = Line {
            name: name.clone(),
            answers: vec![offer.version()],
            earlier: Vec::new(),
            offer: offer.clone(),
            slot: Slot::new(name.clone()),
        };
        return Ok(vec![(Source::Line(Box::new(line)), offer.describe())]);
    }
    let hits = |seen: &Arc<Seen>, is_named: bool| -> Vec<(Source, Interface)> {
        let of_name = seen.interfaces().filter(|i| i.name == *name).map(|interface| {
            let wish = Version::exact(interface.version);
            let hit = Hit { wish, is_named, seen: Arc::clone(seen), interface: interface.clone() };
            (Source::External(hit), interface.clone())
        });
        of_name.collect()
    };
    if let Some(file) = &ask.file {
        let seen = Arc::new(inner.look_at(file)?);
        let hits = hits(&seen, true);
        if hits.is_empty() {
            let offers = seen.interfaces().map(|i| format!("`{}` version {}", i.name, i.version)).collect();
            return Err(ReplaceError::NotInFile { interface: name.clone(), file: file.clone(), offers });
        }
        return Ok(hits);
    }
    let mut all = Vec::new();
    for (position, offer) in inner.compiled_in().index.all(name)? {
        all.push((Source::CompiledIn(position), offer.describe()));
    }
    for seen in inner.search.look() {
        all.extend(hits(&seen, false));
    }
    Ok(all)
}

/// A new version that is loaded, and whose dependencies live.
struct Prepared {
    // Dropped before the offer: what is built of it.
    targets: Vec<Target>,
    others: Vec<GateRef>,
    /// All versions that it replaces, whether they serve or not.
    replaces: Vec<i32>,
    is_back: bool,
    name: String,
    offer: Offer,
    from: Vec<i32>,
    previous: Option<Previous>,
    /// Its library is not unloaded before this is dropped.
    _before: Option<Offer>,
    report: Replaced,
}

/// One live instance that is to be replaced.
struct Target {
    // Dropped in this order: an instance's gate outlives it.
    built: Option<Box<Built>>,
    dependencies: Option<Dependencies>,
    version: i32,
    gate: GateRef,
}

impl Target {
    fn hands_state_over(&self) -> bool {
        self.gate.offer().handover().is_some()
    }
}

impl Prepared {
    fn hands_state_over(&self) -> bool {
        self.targets.iter().any(Target::hands_state_over)
    }

    /// Constructs what needs no state of the old.
    fn build(&mut self) -> Result<(), Failure> {
        let waiting = self.targets.iter_mut().filter(|t| t.built.is_none() && !t.hands_state_over());
        for target in waiting {
            let dependencies = target.dependencies.take().unwrap_or_default();
            let built = Built::successor(&target.gate, self.offer.clone(), dependencies)
                .map_err(|error| Failure::new(&self.name, Step::Build, error.into()))?;
            target.built = Some(built);
        }
        Ok(())
    }

    /// Live instances of the old version that are none of the targets: they were
    /// constructed since. They become targets, if no state is to be handed over.
    fn catch_up(&mut self, inner: &Arc<Inner>) -> Result<(), Failure> {
        let fail = |error: ReplaceError| Failure::new(&self.name, Step::Build, error);
        for gate in inner.gates.all() {
            let known = self.targets.iter().map(|t| &t.gate).chain(&self.others);
            if gate.head().name() != self.name || known.clone().any(|k| k.is(&gate)) {
                continue;
            }
            let version = gate.offer().version();
            if !self.replaces.contains(&version) {
                self.others.push(gate);
                continue;
            }
            if !self.from.contains(&version) {
                self.from.push(version);
            }
            gate.accepts_successor(&self.name, self.offer.version(), self.offer.contract().as_ref())
                .map_err(fail)?;
            let dependencies = Some(inner.dependencies(&self.offer).map_err(|e| fail(e.into()))?);
            self.targets.push(Target { built: None, dependencies, version, gate });
        }
        Ok(())
    }

    /// How references see it.
    fn succession(&self, inner: &Inner) -> Succession<'_> {
        let mut places: Vec<(i32, Arc<Slot>, bool)> =
            self.targets.iter().filter_map(|t| Some((t.version, t.gate.slot()?.clone(), true))).collect();
        for version in &self.from {
            if !places.iter().any(|(v, _, _)| v == version) {
                places.push((*version, inner.slot_of(&self.name, *version), false));
            }
        }
        Succession {
            name: &self.name,
            offer: self.offer.clone(),
            replaced: &self.replaces,
            places,
            is_back: self.is_back,
        }
    }
}

/// The old instances' places, closed for new callers, with all that have been
/// accepted known to fit. What is left to do cannot fail.
struct Closed<'g> {
    acceptances: Vec<Acceptance<'g>>,
    /// What answered references before: dropped when no lock is held, for it may be
    /// the last use of a library.
    before: Vec<Line>,
}

impl<'g> Closed<'g> {
    /// `None` if there are instances of the old version that nobody knows of.
    fn close(inner: &Inner, prepared: &[Prepared], gates: &'g [GateRef]) -> Result<Option<Self>, Failure> {
        let mut acceptances = Vec::new();
        let targets = prepared.iter().flat_map(|p| p.targets.iter().map(move |_| p));
        for (p, gate) in targets.zip(gates) {
            acceptances.push(gate.close_acceptance());
            gate.accepts_successor(&p.name, p.offer.version(), p.offer.contract().as_ref())
                .map_err(|error| Failure::new(&p.name, Step::Switch, error))?;
        }
        let name = prepared.first().map_or("", |p| &p.name);
        check_barrier().map_err(|error| Failure::new(name, Step::Switch, error.into()))?;
        let successions: Vec<Succession<'_>> = prepared.iter().map(|p| p.succession(inner)).collect();
        let known: Vec<(&str, Vec<&GateRef>)> = prepared
            .iter()
            .map(|p| (&*p.name, p.targets.iter().map(|t| &t.gate).chain(&p.others).collect()))
            .collect();
        let known: Vec<(&str, &[&GateRef])> = known.iter().map(|(name, gates)| (*name, &gates[..])).collect();
        let before = inner.gates.settled(&known, || {
            // From here references are answered by the new version; who has constructed
            // the old one without having listed it throws it away.
            successions.iter().flat_map(|new| inner.lines.succeed(new)).collect::<Vec<Line>>()
        });
        let Some(before) = before else { return Ok(None) };
        for p in prepared {
            inner.history.remember(&p.name, p.previous.clone());
        }
        Ok(Some(Closed { acceptances, before }))
    }

    /// Puts `built` into their places; their heads stand behind the gates. Returns
    /// what was there.
    #[allow(clippy::vec_box, reason = "gates point to them: they must not move")]
    fn succeed(self, built: Vec<Box<Built>>, gates: &[GateRef]) -> Vec<Retired> {
        let Closed { acceptances, before } = self;
        let succeeded = acceptances.into_iter().zip(built).zip(gates);
        let retired = succeeded
            .map(|((place, built), gate)| Retired::new(gate.clone(), place.succeed(built)))
            .collect();
        drop(before);
        retired
    }
}

/// What was built, out of the targets' hands.
#[allow(clippy::vec_box, reason = "gates point to them: they must not move")]
fn take_built(prepared: &mut [Prepared]) -> Vec<Box<Built>> {
    prepared.iter_mut().flat_map(|p| &mut p.targets).filter_map(|t| t.built.take()).collect()
}

/// One stateless interface: constructed beside the old one, switched by one store.
/// Callers never wait.
fn switch_open(
    inner: &Arc<Inner>,
    prepared: &mut [Prepared],
    start: Instant,
    patience: Patience<'_>,
    report: &mut Report,
) -> Result<Option<Vec<Retired>>, Failure> {
    let mut door = None;
    loop {
        for p in prepared.iter_mut() {
            p.build()?;
            patience.check().map_err(|error| Failure::new(&p.name, Step::Build, error))?;
        }
        report.prepared = start.elapsed();
        let switching = Instant::now();
        let gates: Vec<GateRef> = prepared.iter().flat_map(|p| &p.targets).map(|t| t.gate.clone()).collect();
        if let Some(closed) = Closed::close(inner, prepared, &gates)? {
            let built = take_built(prepared);
            for (gate, built) in gates.iter().zip(&built) {
                // SAFETY: the instance was built for this gate, and is owned by it from
                // `succeed` on until `retire` found it quiet; this thread has the turn, so
                // nobody else replaces or holds.
                unsafe { gate.head().exchange(built.head()) };
            }
            let retired = closed.succeed(built, &gates);
            report.switched = switching.elapsed();
            return Ok(Some(retired));
        }
        // The next round shall be the last one.
        let names = || prepared.iter().map(|p| p.name.clone()).collect();
        door.get_or_insert_with(|| inner.gates.close_door(names()));
        for p in prepared.iter_mut() {
            p.catch_up(inner)?;
        }
        if patience.is_over() || prepared.iter().any(Prepared::hands_state_over) {
            return Ok(None);
        }
    }
}

/// Old instances whose own threads stand still; they go on when this is dropped.
struct Paused<'t> {
    gates: Vec<&'t GateRef>,
}

impl<'t> Paused<'t> {
    fn pause(prepared: &[Prepared], gates: &'t [GateRef]) -> Result<Self, Failure> {
        let mut paused = Paused { gates: Vec::new() };
        let names = prepared.iter().flat_map(|p| p.targets.iter().map(move |_| &p.name));
        for (name, gate) in names.zip(gates) {
            // Whoever stops half-way is let go on, too.
            paused.gates.push(gate);
            let said = gate.with_built(|built| {
                // SAFETY: the object is the table's, alive behind its gate.
                built.hand_over(|table, object| unsafe { table.pause(object) })
            });
            flatten(said).map_err(|refusal| Failure::of_component(name, Step::Pause, "pause", refusal))?;
        }
        Ok(paused)
    }

    /// They will not go on: the new ones do.
    fn leave_standing(mut self) {
        self.gates.clear();
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        for gate in self.gates.drain(..).rev() {
            gate.with_built(Built::resume);
        }
    }
}

type Said<T> = Option<std::io::Result<Result<T, Refusal>>>;

/// `None` where the interface hands nothing over.
fn flatten<T>(said: Said<T>) -> Result<Option<T>, Refusal> {
    match said {
        None => Ok(None),
        Some(Ok(answer)) => answer.map(Some),
        Some(Err(error)) => {
            Err(Refusal { message: format!("no thread for it could be started: {error}"), panicked: false })
        }
    }
}

/// State is handed over, or several interfaces switch as one: callers wait.
///
/// `None`, and all is as before: instances of an old version were constructed
/// meanwhile.
fn switch_held(
    inner: &Arc<Inner>,
    prepared: &mut [Prepared],
    start: Instant,
    patience: Patience<'_>,
    report: &mut Report,
) -> Result<Option<Vec<Retired>>, Failure> {
    let name = prepared.first().map_or_else(String::new, |p| p.name.clone());
    let fail = |step, error: ReplaceError| Failure::new(&name, step, error);
    // While the old ones serve.
    for p in prepared.iter_mut() {
        p.build()?;
    }
    report.prepared = start.elapsed();
    let patience = patience.anew();
    wait_until_unpinned(prepared, patience).map_err(|error| fail(Step::Drain, error))?;

    // Declared in the order in which they are undone, the last one first.
    let gates: Vec<GateRef> = prepared.iter().flat_map(|p| &p.targets).map(|t| t.gate.clone()).collect();
    let heads: Vec<_> = gates.iter().map(|gate| gate.head()).collect();
    let paused = Paused::pause(prepared, &gates)?;
    let holding = Instant::now();
    // SAFETY: this thread has the turn, so nobody else swaps; instances behind the
    // gates are freed by `retire` only; the gates differ: no interface is named twice.
    let hold = unsafe { Hold::begin(&heads) }.map_err(|error| fail(Step::Drain, error.into()))?;
    let hold = HeldGates { hold: Some(hold), paused: Some(paused) };
    let left = wait_until_left(hold.get(), prepared, patience);
    patience.check().map_err(|error| fail(Step::Drain, error))?;
    left.map_err(|error| fail(Step::Drain, error.into()))?;

    // Whatever runs for the transaction from here must not call what it holds.
    let working = hold.get().worker().work();
    let mut states: Vec<Option<Saved>> = Vec::new();
    for (p, target) in each_target(prepared) {
        states.push(save(&p.name, &target.gate)?);
    }
    let mut states = states.into_iter();
    for p in prepared.iter_mut() {
        let (name, offer) = (&p.name, &p.offer);
        for (target, state) in p.targets.iter_mut().zip(states.by_ref()) {
            let Some(state) = state else { continue };
            let dependencies = target.dependencies.take().unwrap_or_default();
            let built = Built::restored(&target.gate, offer.clone(), dependencies, state)
                .map_err(|error| Failure::new(name, Step::Restore, ReplaceError::of_restore(error)))?;
            target.built = Some(built);
        }
    }
    drop(working);
    patience.check().map_err(|error| fail(Step::Switch, error))?;

    let switching = Instant::now();
    let Some(closed) = Closed::close(inner, prepared, &gates)? else { return Ok(None) };
    let built = take_built(prepared);
    let new: Vec<*const InstanceHead> = built.iter().map(|b| std::ptr::from_ref(b.head())).collect();
    // SAFETY: nobody is inside; the instances were built for these gates, in this
    // order, and are owned by them from here on until `retire` found them quiet.
    report.held_calls = unsafe { hold.open_with(&new) };
    report.switched = switching.elapsed();
    report.held = holding.elapsed();
    Ok(Some(closed.succeed(built, &gates)))
}

fn each_target(prepared: &[Prepared]) -> impl Iterator<Item = (&Prepared, &Target)> {
    prepared.iter().flat_map(|p| p.targets.iter().map(move |t| (p, t)))
}

/// Held gates of paused instances. When it is dropped, callers are let in to the
/// old instances again, and these go on.
struct HeldGates<'g> {
    // Dropped in this order: what an instance does when it goes on may need its gate.
    hold: Option<Hold<'g>>,
    paused: Option<Paused<'g>>,
}

impl<'g> HeldGates<'g> {
    fn get(&self) -> &Hold<'g> {
        self.hold.as_ref().unwrap_or_else(|| unreachable!("taken by `open_with` alone"))
    }

    /// # Safety
    ///
    /// As [`Hold::open_with`].
    unsafe fn open_with(mut self, new: &[*const InstanceHead]) -> u64 {
        if let Some(paused) = self.paused.take() {
            paused.leave_standing();
        }
        // SAFETY: the caller's word.
        self.hold.take().map_or(0, |hold| unsafe { hold.open_with(new) }.held_calls)
    }
}

/// Waits until nobody has an instance pinned whose state is to be saved; callers do
/// not, meanwhile. Somebody may pin one again before the gates are held.
fn wait_until_unpinned(prepared: &[Prepared], patience: Patience<'_>) -> Result<(), ReplaceError> {
    const PAUSE: Duration = Duration::from_micros(200);
    let began = Instant::now();
    loop {
        let pinned = each_target(prepared).filter(|(_, target)| target.hands_state_over());
        let pinned: Vec<Inside> = pinned
            .filter_map(|(_, target)| target.gate.with_built(|built| Inside::pinned(built.head(), began)))
            .collect();
        if pinned.is_empty() {
            return Ok(());
        }
        patience.check()?;
        if patience.is_over() {
            return Err(ReplaceError::Deadline(pinned));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Waits until no call is inside any of the instances that are held, and nobody has
/// one pinned whose state is to be saved.
fn wait_until_left(hold: &Hold<'_>, prepared: &[Prepared], patience: Patience<'_>) -> Result<(), NotQuiet> {
    let Patience { timeout: _, deadline, cancelled } = patience;
    let held: Vec<&InstanceHead> = hold.instances().collect();
    wait_quiet_unless(&held, Pins::Ignore, Some(deadline), cancelled)?;
    // Nobody is inside any more who could pin, or enter: what is pinned can only
    // become less. What has no state stays with those who have it pinned.
    let saved = each_target(prepared).zip(held).filter(|((_, target), _)| target.hands_state_over());
    let saved: Vec<&InstanceHead> = saved.map(|(_, instance)| instance).collect();
    wait_quiet_unless(&saved, Pins::Count, Some(deadline), cancelled)
}

fn save(name: &str, gate: &GateRef) -> Result<Option<Saved>, Failure> {
    let said = gate.with_built(|built| {
        // SAFETY: the object is the table's; its gate is held, and nobody is inside.
        built.hand_over(|table, object| unsafe { table.save(object) })
    });
    flatten(said).map_err(|refusal| Failure::of_component(name, Step::Save, "save", refusal))
}

/// How long whoever asked will wait.
#[derive(Clone, Copy)]
struct Patience<'r> {
    timeout: Duration,
    deadline: Instant,
    cancelled: &'r AtomicBool,
}

impl Patience<'_> {
    /// The same, for a step that begins now.
    fn anew(self) -> Self {
        Patience { deadline: Instant::now() + self.timeout, ..self }
    }

    fn is_over(self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Is it wanted still?
    fn check(self) -> Result<(), ReplaceError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(ReplaceError::Cancelled) } else { Ok(()) }
    }
}

/// The right to replace: one transaction at a time in a process.
pub(super) struct Turn;

static TURN: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

thread_local! {
    /// Does this thread have the turn, or work for one that has it?
    static HAS_TURN: Cell<bool> = const { Cell::new(false) };
}

/// What a thread that works in the place of another is to know of its turn.
#[derive(Clone, Copy)]
pub(super) struct Carried(bool);

impl Turn {
    fn take(patience: Patience<'_>) -> Result<Self, ReplaceError> {
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
    pub(super) fn is_here() -> bool {
        HAS_TURN.get()
    }

    /// For a thread that works in this one's place.
    pub(super) fn carried() -> Carried {
        Carried(HAS_TURN.get())
    }
}

impl Carried {
    /// From here on, on the thread that works.
    pub(super) fn carry_on(self) {
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

/// What a replacement did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Each interface, in the order of the request.
    pub interfaces: Vec<Replaced>,
    /// From the request until everything was ready for the switch (or, with state,
    /// for holding the gates). The old version served.
    pub prepared: Duration,
    /// How long calls were held; zero where no state was handed over.
    pub held: Duration,
    /// The switch itself.
    pub switched: Duration,
    /// From the switch until the last caller had left the old version, and it was
    /// destroyed. `None`: somebody is inside still, or has it pinned; it is
    /// destroyed after them.
    pub drained: Option<Duration>,
    /// How many calls waited.
    pub held_calls: u64,
}

/// One interface of a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Its name.
    pub interface: String,
    /// The version that served; `None` where none was known.
    pub from: Option<i32>,
    /// The version that serves.
    pub to: i32,
    /// The library that it comes from; `None`: compiled in.
    pub file: Option<PathBuf>,
    /// The library's SHA-256, in hexadecimal.
    pub sha256: Option<String>,
    /// Raw references to the old version, which keep it until they are released.
    pub pinned: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, replaced) in self.interfaces.iter().enumerate() {
            let Replaced { interface, from, to, file, sha256: _, pinned } = replaced;
            let end = if at + 1 < self.interfaces.len() { "\n" } else { "" };
            write!(f, "{interface}: ")?;
            if let Some(from) = from {
                write!(f, "version {from} → ")?;
            }
            write!(f, "version {to}")?;
            match file {
                Some(file) => write!(f, " from {}", file.display())?,
                None => write!(f, ", compiled in")?,
            }
            if *pinned > 0 {
                write!(f, "; {pinned} raw references keep the old version")?;
            }
            f.write_str(end)?;
        }
        Ok(())
    }
}

/// The steps of a replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Finding, checking, loading.
    Prepare,
    /// Constructing the new instance.
    Build,
    /// Stopping the old one's own threads.
    Pause,
    /// Waiting until callers have left.
    Drain,
    /// Saving the old one's state.
    Save,
    /// Making the new one from it.
    Restore,
    /// Switching.
    Switch,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Prepare => "prepare",
            Step::Build => "build",
            Step::Pause => "pause",
            Step::Drain => "drain",
            Step::Save => "save",
            Step::Restore => "restore",
            Step::Switch => "switch",
        })
    }
}

/// A replacement that was undone. The old version serves.
#[derive(Debug, thiserror::Error)]
#[error("`{interface}` was not replaced ({step}): {error}")]
pub struct Failure {
    /// The interface at which it failed.
    pub interface: String,
    /// The step that failed.
    pub step: Step,
    /// Why.
    #[source]
    pub error: ReplaceError,
    /// When.
    pub time: SystemTime,
}

impl Failure {
    fn new(interface: &str, step: Step, error: ReplaceError) -> Self {
        Failure { interface: interface.to_owned(), step, error, time: SystemTime::now() }
    }

    fn of_component(interface: &str, step: Step, what: &'static str, refusal: Refusal) -> Self {
        let Refusal { message, panicked } = refusal;
        Self::new(interface, step, ReplaceError::Component { what, message, panicked })
    }

    /// Who was inside at a deadline.
    #[must_use]
    pub fn inside(&self) -> &[Inside] {
        match &self.error {
            ReplaceError::Deadline(inside) => inside,
            _ => &[],
        }
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplaceError {
    /// Nothing offers such a version.
    #[error("{}", no_such(.interface, *.version, .place.as_deref(), .serving))]
    NoSuchVersion {
        /// The interface.
        interface: String,
        /// The version that was asked for.
        version: Option<i32>,
        /// The library that was named.
        place: Option<PathBuf>,
        /// What serves.
        serving: Vec<i32>,
    },
    /// The named library does not offer the interface.
    #[error("{} offers no `{interface}`; it offers: {}", .file.display(), or_nothing(.offers))]
    NotInFile {
        /// The interface.
        interface: String,
        /// The library.
        file: PathBuf,
        /// What it offers.
        offers: Vec<String>,
    },
    /// The new version does not say that it replaces what serves.
    #[error(
        "version {found} does not replace version {}: its `replaces` {}; add the version that serves to its \
         `#[interface(…, replaces(…))]`", numbers(.serving), listed(.replaces)
    )]
    DoesNotReplace {
        /// The interface.
        interface: String,
        /// What serves.
        serving: Vec<i32>,
        /// The best version that was found.
        found: i32,
        /// What it replaces.
        replaces: Vec<i32>,
    },
    /// A live handle could not be called through the new version.
    #[error("version {to} does not fit the handles that are live: {mismatch}")]
    Contract {
        /// The interface.
        interface: String,
        /// The new version.
        to: i32,
        /// The difference.
        mismatch: Mismatch,
    },
    /// The old version hands state over, and the new one does not take it.
    #[error(
        "version {from} hands its state over and version {to} takes none: it would be lost; \
         add `state` to its `#[interface(…)]` and implement `Handover`"
    )]
    StateLost {
        /// The interface.
        interface: String,
        /// The old version.
        from: i32,
        /// The new version.
        to: i32,
    },
    /// A raw table cannot stand in for a typed interface, nor the other way round.
    #[error("{}", other_kind(.interface, *.to, .contract.as_deref()))]
    Kind {
        /// The interface.
        interface: String,
        /// The new version.
        to: i32,
        /// Its contract; `None` where it has a raw table.
        contract: Option<String>,
    },
    /// The same interface stands twice in one request.
    #[error("`{interface}` stands twice in this request; name each interface once")]
    Twice {
        /// The interface.
        interface: String,
    },
    /// New instances of the old version were constructed without a break.
    #[error(
        "other threads constructed new instances of the old version, again and again, until the time was over;          try again, with a longer timeout"
    )]
    Outrun,
    /// It cannot be found, loaded, or constructed.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The component refused to pause or save.
    #[error("the old version's `{what}` {}: {message}", if *.panicked { "panicked" } else { "failed" })]
    Component {
        /// `pause` or `save`.
        what: &'static str,
        /// What it said.
        message: String,
        /// Did it panic?
        panicked: bool,
    },
    /// The new version refused what the old one had saved.
    #[error(
        "the `restore` of version {to} ({origin}) {}: {message}", if *.panicked { "panicked" } else { "failed" }
    )]
    Restore {
        /// The new version.
        to: i32,
        /// Where it comes from.
        origin: String,
        /// What it said.
        message: String,
        /// Did it panic?
        panicked: bool,
    },
    /// Callers were inside when the time was over.
    #[error("the time was over while callers were inside: {}", who(.0))]
    Deadline(Vec<Inside>),
    /// The thread that asks is inside what it wants to replace.
    #[error(
        "the replacement of `{interface}` was asked for from inside a call to it, and would wait for itself; \
         ask from a thread that is not inside"
    )]
    Inside {
        /// The interface.
        interface: String,
    },
    /// The thread that asks is replacing already.
    #[error("this was asked for from within another replacement (a constructor, save or restore)")]
    Nested,
    /// Another replacement went on until the time was over.
    #[error("another replacement was going on until the time was over: they are made one at a time")]
    Busy,
    /// Whoever asked for it called it off.
    #[error("whoever asked for it called it off, or went away, before the switch")]
    Cancelled,
    /// Gates could not be held.
    #[error(transparent)]
    Hold(HoldRefused),
    /// The system refuses the barrier that a drain needs.
    #[error(transparent)]
    Barrier(#[from] BarrierRefused),
    /// There is no way back.
    #[error("`{interface}` was not replaced since the program started, so there is nothing to go back to")]
    NothingBefore {
        /// The interface.
        interface: String,
    },
    /// What served before cannot be had any more.
    #[error("{}, which served before, cannot be loaded again: {reason}", .file.display())]
    Gone {
        /// The library.
        file: PathBuf,
        /// Why.
        reason: String,
    },
}

impl ReplaceError {
    fn of_restore(error: ReferenceError) -> Self {
        match error {
            ReferenceError::Construct { name: _, version: to, origin, message, panicked } => {
                ReplaceError::Restore { to, origin, message, panicked }
            }
            other => other.into(),
        }
    }
}

impl From<HoldRefused> for ReplaceError {
    fn from(refused: HoldRefused) -> Self {
        match refused {
            HoldRefused::Inside(interface) => ReplaceError::Inside { interface: interface.to_owned() },
            HoldRefused::Barrier(refused) => ReplaceError::Barrier(refused),
            other => ReplaceError::Hold(other),
        }
    }
}

impl From<NotQuiet> for ReplaceError {
    fn from(error: NotQuiet) -> Self {
        match error {
            NotQuiet::Deadline(inside) => ReplaceError::Deadline(inside),
            NotQuiet::Barrier(refused) => ReplaceError::Barrier(refused),
        }
    }
}

fn other_kind(interface: &str, to: i32, contract: Option<&str>) -> String {
    let (found, serves) = match contract {
        Some(contract) => (format!("a typed interface of contract `{contract}`"), "a raw table"),
        None => ("a raw table".to_owned(), "a typed interface"),
    };
    format!("version {to} of `{interface}` is {found}, and what serves is {serves}: callers could not go on")
}

fn numbers(versions: &[i32]) -> String {
    versions.iter().map(i32::to_string).collect::<Vec<_>>().join(", ")
}

fn listed(replaces: &[i32]) -> String {
    if replaces.is_empty() { "is empty".to_owned() } else { format!("lists {}", numbers(replaces)) }
}

fn or_nothing(offers: &[String]) -> String {
    if offers.is_empty() { "nothing".to_owned() } else { offers.join(", ") }
}

fn no_such(interface: &str, version: Option<i32>, place: Option<&Path>, serving: &[i32]) -> String {
    let what = version.map_or_else(|| "no version".to_owned(), |v| format!("no version {v}"));
    let place = place.map_or_else(
        || "is compiled in or in the directories that are searched".to_owned(),
        |p| format!("is in {}", p.display()),
    );
    let serving = if serving.is_empty() {
        "none serves".to_owned()
    } else {
        format!("version {} serves", numbers(serving))
    };
    format!("{what} of `{interface}` that could replace it {place}; {serving}")
}

fn who(inside: &[Inside]) -> String {
    inside.iter().map(Inside::to_string).collect::<Vec<_>>().join("; ")
}

/// Waits for an instance that stands behind no gate any more.
pub(super) fn quiet(old: &InstanceHead, deadline: Option<Instant>) -> Result<(), NotQuiet> {
    wait_quiet(&[old], Pins::Count, deadline)
}
