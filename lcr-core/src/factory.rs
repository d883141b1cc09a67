//! The factory: finds, loads, constructs and counts interfaces.
//!
//! A reference names an interface and a version. What is compiled in is asked
//! first; only when none of it will do, the factory searches its places for a
//! library that offers it (see [`Factory::builder`]), reading what libraries say
//! of themselves without running them, and loads that one alone. What the
//! interface requires is constructed before it, in order, and released after it.
//!
//! There is one process-wide factory, behind the free functions [`reference()`],
//! [`reference_with`] and [`reference_raw`]; a program that wants other places,
//! or tests that want to be alone, build their own. Each factory has singletons
//! of its own.

mod describe;
mod for_c;
#[cfg(feature = "replace")]
mod health;
#[cfg(feature = "replace")]
mod history;
mod index;
mod instance;
#[cfg_attr(not(feature = "dlopen"), path = "factory/no_libraries.rs")]
mod libraries;
mod lines;
mod observe;
mod offer;
mod plan;
#[cfg(feature = "replace")]
mod replace;
mod retire;
mod slot;
mod status;
mod switchboard;
mod turn;
#[cfg(feature = "replace")]
mod watch;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use once_cell::sync::{Lazy, OnceCell};

#[cfg(feature = "dlopen")]
pub(crate) use self::describe::component;
pub(crate) use self::for_c::CReference;
#[cfg(feature = "replace")]
pub use self::health::Health;
#[cfg(feature = "replace")]
pub use self::history::{Entry, Outcome, Timings};
use self::index::Index;
pub(crate) use self::instance::Gate;
use self::instance::{Dependencies, Gates, Held, NotOpened, RawHeld};
use self::libraries::{Hit, Libraries};
#[cfg(feature = "dlopen")]
pub use self::libraries::{KeptLibrary, sweep};
use self::lines::{Line, Lines};
pub use self::observe::Counting;
use self::offer::Offer;
#[cfg(feature = "replace")]
pub use self::replace::{Failure, ReplaceError, Replaced, Replacement, Report, Step, TableMismatch};
pub(crate) use self::retire::unpinned;
use self::slot::{Slot, Work};
pub use self::status::{Stage, Status};
use self::switchboard::Switchboards;
#[cfg(feature = "replace")]
pub use self::watch::Event;
use crate::context::Context;
use crate::contract::{Contract, Signature};
use crate::error::ReferenceError;
use crate::gate::GateHead;
use crate::handle::{Handle, release};
use crate::registry::{self, Registration};
use crate::services::{self, Message};
use crate::version::Version;

/// References an interface through the process-wide factory.
///
/// Compiled-in components are asked first, then the libraries in the directories
/// that `LCR_PATH` lists.
///
/// # Errors
///
/// See [`ReferenceError`]: nothing offers it, its contract differs, something that
/// it requires is missing, its constructor failed, or its library was refused.
pub fn reference<C: Contract + ?Sized>(
    name: &str,
    version: impl Into<Version>,
) -> Result<Handle<C>, ReferenceError> {
    reference_with(name, version, &Context::new())
}

/// Like [`reference()`], with parameters for the constructor.
///
/// A singleton is constructed with the context of the reference that finds none
/// live; later references get that instance, and their context is not looked at.
///
/// # Errors
///
/// As for [`reference()`].
pub fn reference_with<C: Contract + ?Sized>(
    name: &str,
    version: impl Into<Version>,
    context: &Context,
) -> Result<Handle<C>, ReferenceError> {
    Factory::process().reference_with(name, version, context)
}

/// References an interface with a raw C table. Its constructor runs with
/// `context` at each reference, its destructor when the reference is dropped.
///
/// # Errors
///
/// As for [`reference()`].
///
/// # Safety
///
/// `T` must be the `#[repr(C)]` struct of `extern "C"` function pointers that the
/// component's table really is, and `context` what its constructor expects:
/// nothing can check either.
pub unsafe fn reference_raw<T>(
    name: &str,
    version: impl Into<Version>,
    context: *mut c_void,
) -> Result<Raw<T>, ReferenceError> {
    // SAFETY: the caller's word.
    unsafe { Factory::process().reference_raw(name, version, context) }
}

/// Finds, loads, constructs and counts interfaces. Cheap to clone: a clone is the
/// same factory.
///
/// Factories belong to programs: who is inside an interface is known there alone. In a library,
/// [`Factory::process`] passes references on to the factory that has loaded it, as
/// [`reference()`](crate::reference()) does; one that a library builds gives none
/// ([`ReferenceError::InLibrary`]), and neither replaces anything.
#[derive(Clone)]
pub struct Factory {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    /// What libraries call it by; the process-wide factory is 0.
    number: u64,
    libraries: Libraries,
    construct_wait: Duration,
    registrations: Option<Vec<&'static Registration>>,
    compiled_in: OnceCell<CompiledIn>,
    /// What registered itself since: how many that were, and their index.
    late: Mutex<Option<(usize, Arc<Index>)>>,
    gates: Gates,
    boards: Switchboards,
    lines: Lines,
    #[cfg(feature = "replace")]
    history: history::History,
    #[cfg(feature = "replace")]
    watchers: Mutex<Vec<std::sync::mpsc::Sender<Event>>>,
    /// Raw references to what the index does not know, by name and version.
    raw_holders: Mutex<HashMap<String, Vec<(i32, usize)>>>,
    /// Places of libraries' singletons: by name, then version.
    external: Mutex<HashMap<String, VersionSlots>>,
}

/// The factories that libraries may know by number.
static NUMBERED: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

/// The places of one name's versions.
type VersionSlots = Vec<(i32, Arc<Slot>)>;

struct CompiledIn {
    index: Index,
    /// The singletons' places, by position in the index.
    slots: Vec<OnceCell<Arc<Slot>>>,
    /// How many components had been registered by hand.
    by_hand: usize,
}

/// What answers a reference: a position in the index, or a library's interface.
pub(crate) enum Source {
    CompiledIn(usize),
    /// The program's too, but it registered itself later.
    Late(Offer),
    External(Hit),
    /// What has replaced it.
    Line(Box<Line>),
}

/// Where raw references are counted.
#[derive(Clone, Copy)]
pub(crate) enum Holders {
    /// At a position of the index.
    Of(usize),
    /// Where the switchboard does it.
    OfBoard,
    /// By name: what the index does not know.
    OfName,
}

/// Makes a [`Factory`].
#[derive(Debug, Default)]
#[must_use]
pub struct Builder {
    libraries: libraries::Settings,
    without_environment: bool,
    registrations: Option<Vec<&'static Registration>>,
    construct_wait: Option<Duration>,
}

/// How long a reference waits for another thread that constructs the same.
const CONSTRUCT_WAIT: Duration = Duration::from_secs(30);

impl Builder {
    /// Does not look at `LCR_PATH` and `LCR_CONSTRUCT_WAIT`.
    pub fn without_environment(mut self) -> Self {
        self.without_environment = true;
        self
    }

    /// Uses these components in the place of those that the linker has collected.
    pub fn components(mut self, components: impl IntoIterator<Item = &'static Registration>) -> Self {
        self.registrations = Some(components.into_iter().collect());
        self
    }

    /// How long a reference waits while another thread constructs the same singleton, or
    /// releases it, before it is refused ([`ReferenceError::Waited`]). Without this,
    /// `LCR_CONSTRUCT_WAIT` says it, in seconds (`0.5`), and else it is 30 seconds.
    ///
    /// A constructor that waits for a thread which references what is being constructed
    /// would wait for ever; so it is refused at last. Raise it where constructors take
    /// longer than this.
    pub fn construct_wait(mut self, longest: Duration) -> Self {
        self.construct_wait = Some(longest);
        self
    }

    /// The factory. Nothing is read or indexed before the first reference.
    #[must_use]
    pub fn build(self) -> Factory {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let factory = self.numbered(NEXT.fetch_add(1, Ordering::Relaxed));
        let mut all = NUMBERED.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|factory| factory.strong_count() > 0);
        all.push(Arc::downgrade(&factory.inner));
        factory
    }

    fn numbered(self, number: u64) -> Factory {
        let Builder { libraries, without_environment, registrations, construct_wait } = self;
        let said = || {
            let seconds = std::env::var("LCR_CONSTRUCT_WAIT").ok().filter(|_| !without_environment)?;
            Duration::try_from_secs_f64(seconds.trim().parse().ok()?).ok()
        };
        Factory {
            inner: Arc::new(Inner {
                number,
                libraries: libraries.libraries(!without_environment),
                construct_wait: construct_wait.or_else(said).unwrap_or(CONSTRUCT_WAIT),
                registrations,
                compiled_in: OnceCell::new(),
                late: Mutex::default(),
                gates: Gates::default(),
                boards: Switchboards::default(),
                lines: Lines::default(),
                #[cfg(feature = "replace")]
                history: history::History::default(),
                #[cfg(feature = "replace")]
                watchers: Mutex::default(),
                raw_holders: Mutex::default(),
                external: Mutex::default(),
            }),
        }
    }
}

impl Factory {
    /// A builder: places to search, and what else differs from the process-wide
    /// factory.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The process-wide factory: what is compiled in, then `LCR_PATH` as it was at
    /// the first use.
    #[must_use]
    pub fn process() -> &'static Factory {
        static PROCESS: Lazy<Factory> = Lazy::new(|| Factory::builder().numbered(0));
        &PROCESS
    }

    /// References an interface; see [`reference()`](crate::reference()).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn reference<C: Contract + ?Sized>(
        &self,
        name: &str,
        version: impl Into<Version>,
    ) -> Result<Handle<C>, ReferenceError> {
        self.reference_with(name, version, &Context::new())
    }

    /// References an interface; see [`reference_with`](crate::reference_with()).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn reference_with<C: Contract + ?Sized>(
        &self,
        name: &str,
        version: impl Into<Version>,
        context: &Context,
    ) -> Result<Handle<C>, ReferenceError> {
        if !services::is_host() {
            self.of_program(name)?;
            return remote::reference(name, version.into(), context);
        }
        let gate = Inner::typed(&self.inner, name, version.into(), C::SIGNATURE, context)?;
        // SAFETY: `typed` counted it for us, and compared the signatures.
        Ok(unsafe { Handle::adopt(gate) })
    }

    /// References a raw table; see [`reference_raw`](crate::reference_raw()).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Safety
    ///
    /// As there.
    pub unsafe fn reference_raw<T>(
        &self,
        name: &str,
        version: impl Into<Version>,
        context: *mut c_void,
    ) -> Result<Raw<T>, ReferenceError> {
        if !services::is_host() {
            self.of_program(name)?;
            return remote::reference_raw(name, version.into(), context);
        }
        // SAFETY: the caller's word.
        let held = unsafe { Inner::raw(&self.inner, name, version.into(), context)? };
        Raw::from_held(held)
    }

    /// In a library: does it stand for a factory of the program?
    #[cold]
    fn of_program(&self, name: &str) -> Result<(), ReferenceError> {
        match self.inner.number {
            0 => Ok(()),
            _ => Err(ReferenceError::InLibrary { name: name.to_owned() }),
        }
    }
}

impl fmt::Debug for Factory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Factory").field("search", &self.inner.libraries.places()).finish_non_exhaustive()
    }
}

impl Inner {
    fn compiled_in(&self) -> &CompiledIn {
        self.compiled_in.get_or_init(|| {
            let (index, by_hand) = match &self.registrations {
                Some(these) => (Index::new(these), 0),
                None => {
                    let (these, by_hand) = registry::counted();
                    (Index::new(&these), by_hand)
                }
            };
            let slots = std::iter::repeat_with(OnceCell::new).take(index.len()).collect();
            CompiledIn { index, slots, by_hand }
        })
    }

    /// What has registered itself since the index was built, by hand or out of an object
    /// that the program has opened itself.
    fn late(&self) -> Option<Arc<Index>> {
        let (before, now) = (self.compiled_in().by_hand, registry::count_by_hand());
        if self.registrations.is_some() || now == before {
            return None;
        }
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        match &*late {
            Some((count, index)) if *count == now => Some(Arc::clone(index)),
            _ => {
                let index = Arc::new(Index::new(&registry::by_hand_since(before)));
                *late = Some((now, Arc::clone(&index)));
                Some(index)
            }
        }
    }

    /// What answers a reference: compiled in, else the best of all places.
    pub(crate) fn source(&self, name: &str, version: Version) -> Result<Source, ReferenceError> {
        let found = if self.lines.know(name) { self.succeeded(name, version)? } else { None };
        match found {
            Some(line) => Ok(Source::Line(Box::new(line))),
            None => self.original(name, version),
        }
    }

    /// The line that answers a reference, if one does better than what was there
    /// before anything was replaced.
    fn succeeded(&self, name: &str, version: Version) -> Result<Option<Line>, ReferenceError> {
        let Some(line) = self.lines.choose(name, version) else {
            let original = self.original(name, version)?.version(self);
            return Ok(self.lines.of(name, original));
        };
        if version.exact && line.answers.contains(&version.low) {
            return Ok(Some(line));
        }
        Ok(match self.original(name, version) {
            Ok(original) => match self.lines.of(name, original.version(self)) {
                Some(successor) => Some(successor),
                None if version.exact && original.version(self) == version.low => None,
                None => (line.offer.version() >= original.version(self)).then_some(line),
            },
            Err(_) => Some(line),
        })
    }

    /// What answers a reference where nothing was replaced: compiled in, else the
    /// best of all places.
    fn original(&self, name: &str, version: Version) -> Result<Source, ReferenceError> {
        let index = &self.compiled_in().index;
        if let Some(position) = index.find(name, version)? {
            return Ok(Source::CompiledIn(position));
        }
        if let Some(late) = self.late()
            && let Some(position) = late.find(name, version)?
        {
            return Ok(Source::Late(late.offer(position)));
        }
        match self.libraries.find(name, version)? {
            Some(hit) => Ok(Source::External(hit)),
            None => Err(self.not_found(name, version)),
        }
    }

    #[cold]
    fn not_found(&self, name: &str, version: Version) -> ReferenceError {
        self.libraries.not_found(name, version, self.compiled_in().index.versions(name))
    }

    /// A typed reference: a gate with a count for the caller.
    fn typed(
        this: &Arc<Self>,
        name: &str,
        version: Version,
        wanted: &Signature,
        cx: &Context,
    ) -> Result<*const GateHead, ReferenceError> {
        let gate = Self::gate(this, name, version, wanted, cx)?;
        // SAFETY: its count keeps it alive.
        let may = Work::may_have(unsafe { &*gate });
        may.inspect_err(|_| {
            // SAFETY: the count goes back unused.
            unsafe { release(gate) }
        })?;
        Ok(gate)
    }

    #[inline]
    fn gate(
        this: &Arc<Self>,
        name: &str,
        version: Version,
        wanted: &Signature,
        cx: &Context,
    ) -> Result<*const GateHead, ReferenceError> {
        let compiled_in = this.compiled_in();
        loop {
            let source = match compiled_in.index.find(name, version)? {
                // What is live in its own place needs no search.
                Some(position) if !this.lines.know(name) => {
                    if let Some(gate) = compiled_in.slots[position].get().and_then(|slot| slot.live()) {
                        return Gate::accepted(gate, wanted);
                    }
                    Source::CompiledIn(position)
                }
                None if !this.lines.know(name) => {
                    if let Some(gate) = this.live_external(name, version) {
                        return Gate::accepted(gate, wanted);
                    }
                    this.source(name, version)?
                }
                _ => this.source(name, version)?,
            };
            match this.open(&source, Some(wanted), cx) {
                Ok(gate) => return Ok(gate),
                Err(NotOpened::Failed(error)) => return Err(error),
                // Replaced while it was constructed: the successor answers.
                Err(NotOpened::Replaced) => {}
            }
        }
    }

    /// # Safety
    ///
    /// `context` must be what the component expects.
    unsafe fn raw(
        this: &Arc<Self>,
        name: &str,
        version: Version,
        context: *mut c_void,
    ) -> Result<Box<RawHeld>, ReferenceError> {
        let source = match this.compiled_in().index.find(name, version)? {
            Some(position) if !this.lines.know(name) => Source::CompiledIn(position),
            _ => this.source(name, version)?,
        };
        // SAFETY: the caller's word.
        unsafe { this.open_raw(&source, context) }
    }

    /// The offer of a source that fits `wanted`; a library is loaded for it.
    fn offer(self: &Arc<Self>, source: &Source, wanted: Wanted<'_>) -> Result<Offer, ReferenceError> {
        let offer = match source {
            Source::CompiledIn(position) => self.compiled_in().index.offer(*position),
            Source::Late(offer) => offer.clone(),
            Source::External(hit) => self.load(hit, wanted)?,
            Source::Line(line) => line.offer.clone(),
        };
        wanted.fits(&offer)?;
        Ok(offer)
    }

    /// A gate for a typed source, with a count for the caller: the live one of a
    /// singleton, or a new one.
    fn open(
        self: &Arc<Self>,
        source: &Source,
        wanted: Option<&Signature>,
        cx: &Context,
    ) -> Result<*const GateHead, NotOpened> {
        let typed = wanted.map_or(Wanted::Typed, Wanted::Contract);
        let build = |slot: Option<Arc<Slot>>| {
            plan::check(self, source)?;
            let offer = self.offer(source, typed)?;
            let dependencies = self.dependencies(&offer)?;
            Gate::open(self, slot, offer, dependencies, cx)
        };
        let slot = match source {
            Source::CompiledIn(position) => {
                let offer = self.offer(source, typed)?;
                let slots = &self.compiled_in().slots;
                offer
                    .is_singleton()
                    .then(|| Arc::clone(slots[*position].get_or_init(|| Slot::new(offer.name()))))
            }
            Source::Late(offer) => {
                typed.fits(offer)?;
                offer.is_singleton().then(|| self.external_slot(&offer.name(), offer.version()))
            }
            Source::External(hit) => {
                typed.fits_note(hit)?;
                hit.is_singleton().then(|| self.external_slot(hit.name(), hit.version()))
            }
            Source::Line(line) => {
                typed.fits(&line.offer)?;
                line.offer.is_singleton().then(|| Arc::clone(&line.slot))
            }
        };
        let Some(slot) = slot else {
            let _work = Work::once(self.number, source.lasting_name(self), source.version(self))?;
            return build(None);
        };
        let gate = slot.live_or(self.construct_wait, || build(Some(Arc::clone(&slot))))?;
        match wanted {
            Some(wanted) => Ok(Gate::accepted(gate, wanted)?),
            None => Ok(gate),
        }
    }

    /// # Safety
    ///
    /// `context` must be what the component expects.
    #[inline]
    unsafe fn open_raw(
        self: &Arc<Self>,
        source: &Source,
        context: *mut c_void,
    ) -> Result<Box<RawHeld>, ReferenceError> {
        let name = source.lasting_name(self);
        let _work = Work::once(self.number, name.clone(), source.version(self))?;
        plan::check(self, source)?;
        let offer = self.offer(source, Wanted::Raw)?;
        // SAFETY: the caller's word.
        unsafe { self.hold_raw(source, offer, context, name) }
    }

    /// # Safety
    ///
    /// `context` must be what the component expects.
    #[inline(always)]
    unsafe fn hold_raw(
        self: &Arc<Self>,
        source: &Source,
        offer: Offer,
        context: *mut c_void,
        name: Cow<'static, str>,
    ) -> Result<Box<RawHeld>, ReferenceError> {
        let dependencies = self.dependencies(&offer)?;
        let holders = match source {
            Source::CompiledIn(position) => Holders::Of(*position),
            Source::Late(_) | Source::External(_) | Source::Line(_) => Holders::OfName,
        };
        // SAFETY: the caller's word.
        unsafe { RawHeld::new(self, offer, context, dependencies, name, holders) }
    }

    /// The versions of this name of which raw references are held, and how many.
    fn raw_holders(&self, name: &str) -> Vec<(i32, usize)> {
        let holders = self.raw_holders.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = holders.get(name).cloned().unwrap_or_default();
        for (version, count) in self.compiled_in().index.holders_of(name) {
            match all.iter_mut().find(|(v, _)| *v == version) {
                Some((_, more)) => *more += count,
                None => all.push((version, count)),
            }
        }
        all
    }

    /// One raw reference more, or one less.
    #[inline]
    fn count_raw(&self, name: &str, version: i32, holders: Holders, more: bool) {
        if let Holders::OfBoard = holders {
            return;
        }
        if let Holders::Of(position) = holders {
            let holders = self.compiled_in().index.holders(position);
            if more {
                holders.fetch_add(1, Ordering::Relaxed);
            } else {
                holders.fetch_sub(1, Ordering::Relaxed);
            }
            return;
        }
        let mut holders = self.raw_holders.lock().unwrap_or_else(PoisonError::into_inner);
        let versions = holders.entry(name.to_owned()).or_default();
        match versions.iter_mut().find(|(v, _)| *v == version) {
            Some((_, count)) if more => *count += 1,
            Some((_, count)) => *count -= 1,
            None if more => versions.push((version, 1)),
            None => {}
        }
        versions.retain(|(_, count)| *count > 0);
        if versions.is_empty() {
            holders.remove(name);
        }
    }

    /// The place of a singleton that is not live.
    fn slot_of(&self, name: &str, version: i32) -> Arc<Slot> {
        let compiled_in = self.compiled_in();
        match compiled_in.index.find(name, Version::exact(version)) {
            Ok(Some(position)) => {
                Arc::clone(compiled_in.slots[position].get_or_init(|| Slot::new(name.to_owned())))
            }
            _ => self.external_slot(name, version),
        }
    }

    /// Constructs what `offer` requires, in order. That all of it exists was checked.
    fn dependencies(self: &Arc<Self>, offer: &Offer) -> Result<Dependencies, ReferenceError> {
        let mut held = Dependencies::default();
        if offer.iface().dependency_count == 0 {
            return Ok(held);
        }
        for name in offer.requires() {
            held.0.push(self.require(&name, offer.prologue().is_none()).map_err(|cause| {
                ReferenceError::Dependency {
                    name: offer.name(),
                    path: vec![offer.name(), name.clone()],
                    cause: Box::new(cause),
                }
            })?);
        }
        Ok(held)
    }

    /// `is_raw`: whoever requires it is C code, or could be, and gets its table by a
    /// reference of its own.
    fn require(self: &Arc<Self>, name: &str, is_raw: bool) -> Result<Held, ReferenceError> {
        loop {
            let source = self.source(name, Version::any())?;
            if source.is_typed(self) {
                return match self.open(&source, None, &Context::new()) {
                    Ok(gate) => Ok(Held::typed(name, gate)),
                    Err(NotOpened::Failed(error)) => Err(error),
                    Err(NotOpened::Replaced) => continue,
                };
            }
            // SAFETY: null is what a C component gets from one that has no context
            // for it; the original passed the same.
            let raw = unsafe {
                if is_raw {
                    match self.open_for_c(&source, Version::any(), ptr::null_mut()) {
                        Ok(held) => held,
                        Err(NotOpened::Failed(error)) => return Err(error),
                        Err(NotOpened::Replaced) => continue,
                    }
                } else {
                    CReference::Raw(self.open_raw(&source, ptr::null_mut())?)
                }
            };
            return Ok(Held::Raw { name: name.to_owned(), raw });
        }
    }

    /// A singleton of a library that lives already needs no search.
    fn live_external(&self, name: &str, version: Version) -> Option<*const GateHead> {
        let version = version.exact.then_some(version.low)?;
        let slot = {
            let slots = self.external.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&slots.get(name)?.iter().find(|(v, _)| *v == version)?.1)
        };
        slot.live()
    }

    fn external_slot(&self, name: &str, version: i32) -> Arc<Slot> {
        let mut slots = self.external.lock().unwrap_or_else(PoisonError::into_inner);
        let versions = slots.entry(name.to_owned()).or_default();
        match versions.iter().find(|(v, _)| *v == version) {
            Some((_, slot)) => Arc::clone(slot),
            None => {
                let slot = Slot::new(name.to_owned());
                versions.push((version, Arc::clone(&slot)));
                slot
            }
        }
    }

    /// The factory with this number; the process-wide one is 0.
    fn by_number(number: u64) -> Option<Arc<Self>> {
        if number == 0 {
            return Some(Arc::clone(&Factory::process().inner));
        }
        let mut all = NUMBERED.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|factory| factory.strong_count() > 0);
        all.iter().filter_map(Weak::upgrade).find(|factory| factory.number == number)
    }
}

/// What a reference must find in an interface.
#[derive(Clone, Copy)]
pub(crate) enum Wanted<'a> {
    /// A raw table.
    Raw,
    /// Any typed one: `Context::require` will compare.
    Typed,
    /// One that this caller can call.
    Contract(&'a Signature),
}

impl Wanted<'_> {
    fn fits(self, offer: &Offer) -> Result<(), ReferenceError> {
        match self {
            Wanted::Raw => offer.fits(None),
            Wanted::Typed => Ok(()),
            Wanted::Contract(wanted) => offer.fits(Some(wanted)),
        }
    }
}

impl Source {
    pub(crate) fn requires(&self, factory: &Inner) -> Vec<String> {
        match self {
            Source::CompiledIn(position) => factory.compiled_in().index.offer(*position).requires(),
            Source::Late(offer) => offer.requires(),
            Source::External(hit) => hit.requires(),
            Source::Line(line) => line.offer.requires(),
        }
    }

    pub(crate) fn name(&self, factory: &Inner) -> String {
        match self {
            Source::CompiledIn(position) => factory.compiled_in().index.offer(*position).name(),
            Source::Late(offer) => offer.name(),
            Source::External(hit) => hit.name().to_owned(),
            Source::Line(line) => line.name.clone(),
        }
    }

    /// The name; no copy of it, where it is compiled in.
    #[inline]
    fn lasting_name(&self, factory: &Inner) -> Cow<'static, str> {
        match self {
            Source::CompiledIn(position) => Cow::Borrowed(factory.compiled_in().index.name(*position)),
            Source::Late(_) | Source::External(_) | Source::Line(_) => Cow::Owned(self.name(factory)),
        }
    }

    /// Is there nothing that it requires?
    fn is_alone(&self, factory: &Inner) -> bool {
        match self {
            Source::CompiledIn(position) => factory.compiled_in().index.is_alone(*position),
            Source::Late(_) | Source::External(_) | Source::Line(_) => self.requires(factory).is_empty(),
        }
    }

    fn is_typed(&self, factory: &Inner) -> bool {
        match self {
            Source::CompiledIn(position) => factory.compiled_in().index.offer(*position).prologue().is_some(),
            Source::Late(offer) => offer.prologue().is_some(),
            Source::External(hit) => hit.is_typed(),
            Source::Line(line) => line.offer.prologue().is_some(),
        }
    }

    pub(crate) fn version(&self, factory: &Inner) -> i32 {
        match self {
            Source::CompiledIn(position) => factory.compiled_in().index.offer(*position).version(),
            Source::Late(offer) => offer.version(),
            Source::External(hit) => hit.version(),
            Source::Line(line) => line.offer.version(),
        }
    }
}

/// A reference to a raw C table. The component's destructor runs when it is
/// dropped, with the context that its constructor got.
pub struct Raw<T> {
    table: NonNull<T>,
    held: *mut (),
    /// The table belongs to the component, and its functions to any thread that
    /// the component allows: so a raw reference is neither `Send` nor `Sync`.
    not_send: PhantomData<*mut T>,
}

impl<T> Raw<T> {
    /// The table, as C code passes it around. Valid until `self` is dropped.
    #[must_use]
    pub fn as_ptr(&self) -> *const T {
        self.table.as_ptr()
    }
}

// Written out: a table of C functions is rarely `Debug`, and `unwrap_err` asks for it.
impl<T> fmt::Debug for Raw<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw").field("table", &self.table).finish_non_exhaustive()
    }
}

impl<T> std::ops::Deref for Raw<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: whoever referenced it promised that the table is a `T`; the
        // component's object stays mapped until `held` is released.
        unsafe { self.table.as_ref() }
    }
}

impl<T> Drop for Raw<T> {
    fn drop(&mut self) {
        // SAFETY: `held` came with this reference, and is released once.
        let message = unsafe { (services::current().raw_release)(self.held) };
        if !message.is_null() {
            // SAFETY: the host made the message for us.
            drop(unsafe { Message::take(message) });
        }
    }
}

/// References from a library's code: through the host's services.
mod remote;

pub(crate) use self::remote::{raw_release_wire, reference_wire};
