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
//! Each step is a value that owns what it has done so far ([`Prepared`], [`Paused`],
//! [`Ready`]), and can only be made from the step before; dropping one undoes it.
//! So whatever fails before the switch, the old version goes on serving, the calls
//! that waited go through on it, and nothing stays loaded or allocated.
//!
//! Invariants: transactions are made one at a time in a process. Nothing is called
//! under the lock of a gate's acceptance. What is behind a gate is destroyed only
//! when it was found quiet after it stood there no more.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant, SystemTime};

use super::history::{Entry, Previous};
use super::instance::{Built, Dependencies, GateRef};
use super::lines::Line;
use super::offer::Offer;
use super::retire::{self, Retired};
use super::search::{Hit, Seen};
use super::slot::Slot;
use super::{Factory, Inner, Source, Wanted, plan};
use crate::contract::Mismatch;
use crate::error::ReferenceError;
use crate::gate::{
    BarrierRefused, Hold, HoldRefused, Inside, InstanceHead, NotQuiet, Pins, Worker, wait_quiet,
};
use crate::handover::{Failed as Refusal, Saved};
use crate::library::Candidate;
use crate::metadata::{Interface, Metadata};
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
    back: bool,
}

/// One interface of it.
#[derive(Clone, Debug)]
struct Ask {
    interface: String,
    file: Option<PathBuf>,
    version: Option<i32>,
    /// Going back: the very offer that served before.
    offer: Option<Offer>,
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
            asks: vec![Ask { interface: interface.to_owned(), file: None, version: None, offer: None }],
            timeout: TIMEOUT,
            requester: None,
            cancelled: Arc::default(),
            back: false,
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
        replacement.back = true;
        let ask = &mut replacement.asks[0];
        match (previous.offer, previous.file) {
            (Some(offer), _) => ask.offer = Some(offer),
            (None, Some((file, sha256))) => {
                let now = super::history::sha256_of(&file).map_err(|source| {
                    fail(ReplaceError::Gone { file: file.clone(), reason: source.to_string() })
                })?;
                if now != sha256 {
                    let reason = format!("its SHA-256 was {sha256} and is {now}");
                    return Err(fail(ReplaceError::Gone { file, reason }));
                }
                ask.file = Some(file);
            }
            (None, None) => {}
        }
        Ok(replacement)
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
        self.asks.push(Ask { interface: interface.to_owned(), file: None, version: None, offer: None });
        self
    }

    /// How long to wait for callers to leave. Five seconds unless told.
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

    /// Makes every check and changes nothing: no code of the new version runs.
    ///
    /// # Errors
    ///
    /// What [`run`](Self::run) would fail with before it builds.
    pub fn plan(self) -> Result<Report, Failure> {
        let start = Instant::now();
        let turn =
            Turn::take(start + self.timeout, &self.cancelled).map_err(|e| self.failure(Step::Prepare, e))?;
        let mut interfaces = Vec::new();
        for ask in &self.asks {
            let choice =
                Choice::make(&self.factory.inner, ask, self.back).map_err(|e| fail(ask, Step::Prepare, e))?;
            choice.check(&self.factory.inner).map_err(|e| fail(ask, Step::Prepare, e))?;
            interfaces.push(choice.describe());
        }
        drop(turn);
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
            Ok((report, previous)) => {
                for (replaced, previous) in report.interfaces.iter().zip(previous) {
                    let entry = Entry::done(replaced, report, self.requester);
                    inner.record(entry, Some(previous.clone()));
                }
            }
            Err(failure) => inner.record(
                Entry::failed(failure, self.asks.first().and_then(|a| a.file.clone()), self.requester),
                None,
            ),
        }
        outcome.map(|(report, _)| report)
    }

    fn failure(&self, step: Step, error: ReplaceError) -> Failure {
        Failure::new(&self.asks[0].interface, step, error)
    }

    fn transact(&self, start: Instant) -> Result<(Report, Vec<Option<Previous>>), Failure> {
        let deadline = start + self.timeout;
        let inner = &self.factory.inner;
        let turn =
            Turn::take(deadline, &self.cancelled).map_err(|error| self.failure(Step::Prepare, error))?;

        let mut prepared = Vec::new();
        for ask in &self.asks {
            let choice =
                Choice::make(inner, ask, self.back).map_err(|error| fail(ask, Step::Prepare, error))?;
            choice.check(inner).map_err(|error| fail(ask, Step::Prepare, error))?;
            prepared.push(choice.prepare(inner).map_err(|error| fail(ask, Step::Prepare, error))?);
            still_wanted(&self.cancelled).map_err(|error| fail(ask, Step::Prepare, error))?;
        }
        let mut report = Report::default();
        for p in &prepared {
            report.interfaces.push(p.report.clone());
        }
        let together = self.asks.len() > 1;
        let switched = if together || prepared.iter().any(Prepared::hands_state_over) {
            switch_held(&mut prepared, start, deadline, &self.cancelled, &mut report)?
        } else {
            switch_open(&mut prepared, start, &self.cancelled, &mut report)?
        };
        let switch_at = Instant::now();
        let mut previous = Vec::new();
        for p in &prepared {
            previous.push(Previous::of(&p.before));
            p.remember(inner, self.back);
        }
        drop(prepared);
        // The next transaction need not wait for these callers.
        drop(turn);
        // In the order of the switch, each until the same deadline.
        let mut drained = true;
        for old in switched {
            drained &= retire::until(old, deadline);
        }
        report.drained = drained.then(|| switch_at.elapsed());
        Ok((report, previous))
    }
}

/// An interface's new version, chosen and not yet loaded.
struct Choice {
    name: String,
    source: Source,
    interface: Interface,
    /// The live instances that it replaces.
    gates: Vec<GateRef>,
    /// Versions that serve, or would, before.
    from: Vec<i32>,
}

impl Choice {
    fn make(inner: &Inner, ask: &Ask, back: bool) -> Result<Self, ReplaceError> {
        let name = &ask.interface;
        let gates: Vec<GateRef> = inner.gates.all().into_iter().filter(|g| g.head().name() == name).collect();
        if gates.iter().any(|g| g.close_acceptance().built().head().inside()) {
            return Err(ReplaceError::Inside { interface: name.clone() });
        }
        let mut from: Vec<i32> = gates.iter().map(|g| g.offer().version()).collect();
        if from.is_empty() {
            // Nobody uses it now: later references will get the new version.
            let idle = inner.source(name, Version::any()).map(|s| s.version(inner));
            from.extend(idle.ok());
        }
        from.sort_unstable();
        from.dedup();
        let mut candidates = candidates(inner, ask)?;
        if let Some(version) = ask.version {
            candidates.retain(|(_, interface)| interface.version == version);
        }
        let may = |interface: &Interface| {
            back || from.iter().any(|v| *v == interface.version || interface.replaces.contains(v))
        };
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
        let replaced = |v: &i32| back || *v == interface.version || interface.replaces.contains(v);
        let gates = gates.into_iter().filter(|g| replaced(&g.offer().version())).collect();
        from.retain(replaced);
        Ok(Choice { name: name.clone(), source, interface, gates, from })
    }

    /// All checks that need no code of the new version.
    fn check(&self, inner: &Inner) -> Result<(), ReplaceError> {
        for gate in &self.gates {
            self.compare(gate)?;
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

    fn compare(&self, gate: &GateRef) -> Result<(), ReplaceError> {
        gate.callers_accept(self.interface.contract.as_ref()).map_err(|mismatch| ReplaceError::Contract {
            interface: self.name.clone(),
            to: self.interface.version,
            mismatch,
        })
    }

    fn describe(&self) -> Replaced {
        Replaced {
            interface: self.name.clone(),
            from: self.from.last().copied(),
            to: self.interface.version,
            file: match &self.source {
                Source::External(hit) => Some(hit.seen.path.clone()),
                Source::Line(line) => line.offer.library().map(|l| l.path().to_owned()),
                Source::CompiledIn(_) => None,
            },
            sha256: None,
            pinned: 0,
        }
    }

    /// Loads it, and constructs what it requires.
    fn prepare(self, inner: &Arc<Inner>) -> Result<Prepared, ReplaceError> {
        let wanted = if self.interface.contract.is_some() { Wanted::Typed } else { Wanted::Raw };
        plan::check(inner, &self.source)?;
        let offer = inner.offer(&self.source, wanted)?;
        let mut report = self.describe();
        report.sha256 = offer.library().and_then(|l| l.sha256());
        report.pinned = inner.raw_holders(&self.name);
        let before = self.gates.first().map_or_else(
            || inner.source(&self.name, Version::any()).and_then(|s| inner.offer(&s, wanted)).ok(),
            |gate| Some(gate.offer()),
        );
        let mut targets = Vec::new();
        for gate in self.gates {
            let dependencies = inner.dependencies(&offer)?;
            targets.push(Target { gate, dependencies: Some(dependencies) });
        }
        Ok(Prepared { name: self.name, offer, from: self.from, targets, before, report })
    }
}

/// What could be the new version.
fn candidates(inner: &Inner, ask: &Ask) -> Result<Vec<(Source, Interface)>, ReplaceError> {
    let name = &ask.interface;
    if let Some(offer) = &ask.offer {
        let line = Line {
            name: name.clone(),
            answers: vec![offer.version()],
            offer: offer.clone(),
            slot: Slot::new(name.clone()),
        };
        return Ok(vec![(Source::Line(Box::new(line)), offer.describe())]);
    }
    if let Some(file) = &ask.file {
        let seen = read(file, inner)?;
        let hits = seen.interfaces().filter(|i| i.name == *name).map(|interface| {
            let wish = Version::exact(interface.version);
            let hit = Hit { wish, seen: Arc::clone(&seen), interface: interface.clone() };
            (Source::External(hit), interface.clone())
        });
        let hits: Vec<_> = hits.collect();
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
        for interface in seen.interfaces().filter(|i| i.name == *name) {
            let wish = Version::exact(interface.version);
            let hit = Hit { wish, seen: Arc::clone(&seen), interface: interface.clone() };
            all.push((Source::External(hit), interface.clone()));
        }
    }
    Ok(all)
}

/// The notes of the file, through the same door as its code.
fn read(file: &Path, inner: &Inner) -> Result<Arc<Seen>, ReplaceError> {
    let candidate = Candidate::open(file, &inner.policy).map_err(ReferenceError::from)?;
    let metadata = Metadata::read_from(candidate.file(), file).map_err(ReferenceError::from)?;
    Ok(Arc::new(Seen::verified(file.to_owned(), candidate.stamp(), metadata)))
}

/// A new version that is loaded, and whose dependencies live.
struct Prepared {
    name: String,
    offer: Offer,
    from: Vec<i32>,
    targets: Vec<Target>,
    before: Option<Offer>,
    report: Replaced,
}

/// One live instance that is to be replaced.
struct Target {
    gate: GateRef,
    dependencies: Option<Dependencies>,
}

impl Prepared {
    fn hands_state_over(&self) -> bool {
        self.targets.iter().any(|t| t.gate.offer().handover().is_some())
    }

    /// From now on references are answered by the new version.
    fn remember(&self, inner: &Inner, back: bool) {
        let slots: Vec<Arc<Slot>> = self.targets.iter().filter_map(|t| t.gate.slot().cloned()).collect();
        let slots = if slots.is_empty() {
            vec![inner.slot_of(&self.name, self.from.last().copied().unwrap_or(self.offer.version()))]
        } else {
            slots
        };
        for (at, slot) in slots.iter().enumerate() {
            let replaced = self.from.get(at).or(self.from.last()).copied().unwrap_or(self.offer.version());
            drop(inner.lines.succeed(&self.name, replaced, self.offer.clone(), slot, back));
        }
    }
}

/// One stateless interface: constructed beside the old one, switched by one store.
/// Callers never wait.
fn switch_open(
    prepared: &mut [Prepared],
    start: Instant,
    cancelled: &AtomicBool,
    report: &mut Report,
) -> Result<Vec<Retired>, Failure> {
    let mut switched = Vec::new();
    let mut ready = Vec::new();
    for p in prepared.iter_mut() {
        for target in &mut p.targets {
            let dependencies = target.dependencies.take().unwrap_or_default();
            let built = Built::successor(&target.gate, p.offer.clone(), dependencies)
                .map_err(|error| Failure::new(&p.name, Step::Build, error.into()))?;
            still_wanted(cancelled).map_err(|error| Failure::new(&p.name, Step::Build, error))?;
            ready.push((target.gate.clone(), built, p.name.clone(), p.offer.version()));
        }
    }
    report.prepared = start.elapsed();
    let switching = Instant::now();
    for (gate, built, name, to) in ready {
        let acceptance = gate.close_acceptance();
        gate.callers_accept(built.offer().contract().as_ref()).map_err(|mismatch| {
            let error = ReplaceError::Contract { interface: name.clone(), to, mismatch };
            Failure::new(&name, Step::Switch, error)
        })?;
        // SAFETY: the instance was built for this gate, and is owned by it from here on
        // until `retire` found it quiet; this thread has the turn, so nobody else
        // replaces or holds.
        unsafe { gate.head().swap(built.head()) }
            .map_err(|error| Failure::new(&name, Step::Switch, error.into()))?;
        let old = acceptance.succeed(built);
        switched.push(Retired::new(gate, old));
    }
    report.switched = switching.elapsed();
    Ok(switched)
}

/// Old instances whose own threads stand still; they go on when this is dropped.
struct Paused<'t> {
    gates: Vec<&'t GateRef>,
}

impl<'t> Paused<'t> {
    fn pause(prepared: &'t [Prepared]) -> Result<Self, Failure> {
        let mut paused = Paused { gates: Vec::new() };
        for p in prepared {
            for target in &p.targets {
                let said = target.gate.with_built(|built| {
                    // SAFETY: the object is the table's, alive behind its gate.
                    built.hand_over(|table, object| unsafe { table.pause(object) })
                });
                flatten(said)
                    .map_err(|refusal| Failure::of_component(&p.name, Step::Pause, "pause", refusal))?;
                paused.gates.push(&target.gate);
            }
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
            gate.with_built(|built| {
                // SAFETY: as in `pause`.
                built.hand_over(|table, object| unsafe { table.resume(object) })
            });
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
fn switch_held(
    prepared: &mut [Prepared],
    start: Instant,
    deadline: Instant,
    cancelled: &AtomicBool,
    report: &mut Report,
) -> Result<Vec<Retired>, Failure> {
    let name = prepared.first().map_or_else(String::new, |p| p.name.clone());
    let fail = |step, error: ReplaceError| Failure::new(&name, step, error);

    // Taken out of `prepared`, so that it can be looked at while they are consumed.
    let mut dependencies: Vec<Dependencies> = Vec::new();
    for p in prepared.iter_mut() {
        dependencies.extend(p.targets.iter_mut().map(|t| t.dependencies.take().unwrap_or_default()));
    }
    report.prepared = start.elapsed();

    // Declared in the order in which they are to be undone, last one first: the
    // gates open, after the old instances go on.
    let targets: Vec<(&Prepared, &GateRef)> =
        prepared.iter().flat_map(|p| p.targets.iter().map(move |t| (p, &t.gate))).collect();
    let heads: Vec<_> = targets.iter().map(|(_, gate)| gate.head()).collect();
    let mut built: Vec<Box<Built>> = Vec::new();
    let paused = Paused::pause(prepared)?;
    let holding = Instant::now();
    // SAFETY: this thread has the turn, so nobody else swaps; instances behind the
    // gates are freed by `retire` only; the gates differ, being of a list.
    let hold = unsafe { Hold::begin(&heads) }.map_err(|error| fail(Step::Drain, error.into()))?;
    let hold = HeldGates { hold: Some(hold), paused: Some(paused) };
    let quiet = hold.get().wait_quiet_unless(Some(deadline), cancelled);
    still_wanted(cancelled).map_err(|error| fail(Step::Drain, error))?;
    quiet.map_err(|error| fail(Step::Drain, error.into()))?;

    let worker = hold.get().worker();
    let mut states: Vec<Option<Saved>> = Vec::new();
    for (p, gate) in &targets {
        states.push(save(&p.name, gate, worker)?);
    }
    for (((p, gate), dependencies), saved) in targets.iter().zip(dependencies).zip(states) {
        built.push(build(p, gate, dependencies, saved, worker)?);
    }

    still_wanted(cancelled).map_err(|error| fail(Step::Switch, error))?;
    let switching = Instant::now();
    let mut acceptances = Vec::new();
    for ((p, gate), built) in targets.iter().zip(&built) {
        let acceptance = gate.close_acceptance();
        gate.callers_accept(built.offer().contract().as_ref()).map_err(|mismatch| {
            let (interface, to) = (p.name.clone(), p.offer.version());
            Failure::new(&p.name, Step::Switch, ReplaceError::Contract { interface, to, mismatch })
        })?;
        acceptances.push(acceptance);
    }
    let new: Vec<*const InstanceHead> = built.iter().map(|b| std::ptr::from_ref(b.head())).collect();
    // SAFETY: nobody is inside; the instances were built for these gates, in this
    // order, and are owned by them from here on until `retire` found them quiet.
    report.held_calls = unsafe { hold.open_with(&new) };
    report.switched = switching.elapsed();
    report.held = holding.elapsed();
    let mut switched = Vec::new();
    for ((acceptance, built), (_, gate)) in acceptances.into_iter().zip(built).zip(&targets) {
        switched.push(Retired::new((*gate).clone(), acceptance.succeed(built)));
    }
    Ok(switched)
}

/// Held gates of paused instances. When it is dropped, the old instances go on,
/// and then callers are let in to them.
struct HeldGates<'g> {
    hold: Option<Hold<'g>>,
    paused: Option<Paused<'g>>,
}

impl<'g> HeldGates<'g> {
    fn get(&self) -> &Hold<'g> {
        self.hold.as_ref().unwrap_or_else(|| unreachable!("taken by `open_with` and `drop` alone"))
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

impl Drop for HeldGates<'_> {
    fn drop(&mut self) {
        drop(self.paused.take());
        drop(self.hold.take());
    }
}

fn save(name: &str, gate: &GateRef, worker: Worker) -> Result<Option<Saved>, Failure> {
    let said = gate.with_built(|built| {
        built.hand_over(move |table, object| {
            let _working = worker.work();
            // SAFETY: the object is the table's; its gate is held, and nobody is inside.
            unsafe { table.save(object) }
        })
    });
    flatten(said).map_err(|refusal| Failure::of_component(name, Step::Save, "save", refusal))
}

fn build(
    p: &Prepared,
    gate: &GateRef,
    dependencies: Dependencies,
    saved: Option<Saved>,
    worker: Worker,
) -> Result<Box<Built>, Failure> {
    let offer = p.offer.clone();
    match saved {
        Some(saved) => Built::restored(gate, offer, dependencies, saved, worker)
            .map_err(|error| Failure::new(&p.name, Step::Restore, error.into())),
        None => {
            let _working = worker.work();
            Built::successor(gate, offer, dependencies)
                .map_err(|error| Failure::new(&p.name, Step::Build, error.into()))
        }
    }
}

fn still_wanted(cancelled: &AtomicBool) -> Result<(), ReplaceError> {
    if cancelled.load(Ordering::Relaxed) { Err(ReplaceError::Cancelled) } else { Ok(()) }
}

/// The right to replace: one transaction at a time in a process.
struct Turn;

static TURN: (Mutex<Option<ThreadId>>, Condvar) = (Mutex::new(None), Condvar::new());

impl Turn {
    fn take(deadline: Instant, cancelled: &AtomicBool) -> Result<Self, ReplaceError> {
        let me = std::thread::current().id();
        let mut holder = TURN.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match *holder {
                None => {
                    *holder = Some(me);
                    return Ok(Turn);
                }
                Some(other) if other == me => return Err(ReplaceError::Nested),
                Some(_) => {}
            }
            still_wanted(cancelled)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ReplaceError::Busy);
            }
            // Nobody wakes us for having been called off.
            let left = left.min(Duration::from_millis(50));
            holder = TURN.1.wait_timeout(holder, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TURN.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
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

fn fail(ask: &Ask, step: Step, error: ReplaceError) -> Failure {
    Failure::new(&ask.interface, step, error)
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
