//! Live interfaces: gates, the instances behind them, and what they hold.
//!
//! ```text
//! Handle ──count──▶ Gate ──owns──▶ Built ──holds──▶ Held (dependencies, in order)
//!                     │               └──holds──▶ Offer ──▶ the library
//!                     └──▶ Slot (a singleton's place in its factory)
//! ```
//!
//! Destruction runs along the same arrows, by `Drop`: the object first, then what
//! it required, last one first, then the library's use. A constructor that fails
//! drops what was held for it in the same way.

use std::borrow::Cow;
use std::ffi::{c_int, c_void};
use std::io;
use std::ops::Deref;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use super::observe::{Born, Numbers, Observers, Seen};
use super::offer::Offer;
use super::slot::{Slot, Work, on_ended_thread};
use super::{CReference, Holders, Inner, turn};
use crate::abi::RawStr;
use crate::call::panic_text;
use crate::construct::Constructed;
use crate::context::{Context, ContextWire, DependencyWire};
use crate::contract::{Mismatch, Signature, compatible};
use crate::error::ReferenceError;
use crate::gate::{GateHead, InstanceHead};
use crate::handle::{release, release_last, retain};
use crate::handover::{HandoverTable, Saved};
use crate::metadata::Contract;
use crate::services::Message;

/// An interface's gate, as the host sees it: the shared head comes first, so a
/// handle's pointer is a pointer to this.
#[repr(C)]
pub(crate) struct Gate {
    head: GateHead,
    factory: Arc<Inner>,
    /// None for an interface that is constructed at each reference.
    slot: Option<Arc<Slot>>,
    built: Mutex<Option<Box<Built>>>,
    /// What the reference that built it gave: a successor is built with the same.
    context: Context,
    /// The hash of the caller's signature that was accepted last; 0 for none.
    accepted: AtomicU64,
    /// All callers' signatures that were accepted: a successor must fit them too.
    callers: Mutex<Vec<(u64, Contract)>>,
}

/// An object, and what it was built from.
#[repr(C)]
pub(crate) struct Built {
    head: InstanceHead,
    born: Born,
    // Dropped in this order, after the object: what it required, then its code.
    dependencies: Dependencies,
    offer: Offer,
    /// The version that it succeeded: there its callers go back to.
    before: Option<i32>,
}

/// What an instance holds, in the order of construction; released in reverse.
#[derive(Default)]
pub(crate) struct Dependencies(pub(crate) Vec<Held>);

impl Drop for Dependencies {
    fn drop(&mut self) {
        while let Some(held) = self.0.pop() {
            drop(held);
        }
    }
}

/// Something that an instance required: one count of it.
pub(crate) enum Held {
    Typed { name: String, gate: *const GateHead },
    Raw { name: String, raw: CReference },
}

/// The factory of a raw reference. The process-wide one is never dropped, and so not counted:
/// that takes longer than many a constructor.
enum Maker {
    Process(&'static Inner),
    Other(Arc<Inner>),
}

impl Maker {
    #[inline(always)]
    fn of(factory: &Arc<Inner>) -> Maker {
        match factory.number {
            // SAFETY: a static has it, and this number alone is that one's.
            0 => Maker::Process(unsafe { &*Arc::as_ptr(factory) }),
            _ => Maker::Other(Arc::clone(factory)),
        }
    }
}

impl Deref for Maker {
    type Target = Inner;

    #[inline(always)]
    fn deref(&self) -> &Inner {
        match self {
            Maker::Process(factory) => factory,
            Maker::Other(factory) => factory,
        }
    }
}

/// A raw reference: the constructor has run.
pub(crate) struct RawHeld {
    factory: Maker,
    name: Cow<'static, str>,
    holders: Holders,
    context: *mut c_void,
    // Dropped in this order, after the destructor has run.
    _dependencies: Dependencies,
    offer: Offer,
}

// SAFETY: gates are for all threads; a raw reference's pointer is only passed
// back to the component, as the caller of `reference_raw` has promised.
unsafe impl Send for Held {}
// SAFETY: as above.
unsafe impl Send for RawHeld {}
// SAFETY: the object behind the head is `Send + Sync`; the rest is ours.
unsafe impl Send for Built {}

impl Gate {
    /// Makes a gate around a new instance of `offer`, with one count.
    ///
    /// # Errors
    ///
    /// Its construction failed; or it was replaced meanwhile, so that nobody may see
    /// this instance any more.
    pub(crate) fn open(
        factory: &Arc<Inner>,
        slot: Option<Arc<Slot>>,
        offer: Offer,
        dependencies: Dependencies,
        cx: &Context,
    ) -> Result<*const GateHead, NotOpened> {
        let gate = Box::into_raw(Box::new(Gate {
            head: GateHead::new(intern(&offer.name())),
            factory: Arc::clone(factory),
            slot,
            built: Mutex::new(None),
            context: cx.again(),
            accepted: AtomicU64::new(0),
            callers: Mutex::default(),
        }));
        // SAFETY: just made, and nobody else has seen it.
        let head = unsafe { &raw const (*gate).head };
        match Built::new(head, offer, dependencies, cx) {
            Ok(built) => {
                // SAFETY: as above; the instance lives until `close`.
                unsafe {
                    (*gate).head.refs().store(1, Ordering::Relaxed);
                    (*gate).head.open(&raw const built.head);
                    let offer = built.offer.clone();
                    *(*gate).built.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(built);
                    if factory.gates.add(gate, || factory.lines.is_current(&offer)) {
                        return Ok(head);
                    }
                    // Nobody has seen it: the list would have given counts of it.
                    drop(Box::from_raw(gate));
                }
                Err(NotOpened::Replaced)
            }
            Err(error) => {
                // SAFETY: made above, and given to nobody.
                drop(unsafe { Box::from_raw(gate) });
                Err(error.into())
            }
        }
    }

    /// Gives back a count that may be the last one.
    ///
    /// # Safety
    ///
    /// `head` must be a gate's, made by `open`, and the count the caller's.
    pub(crate) unsafe fn release(head: *const GateHead) {
        // SAFETY: the head is the gate's first field.
        let gate = head.cast::<Gate>().cast_mut();
        // SAFETY: the caller's count keeps it alive until it is given back.
        match unsafe { (*gate).slot.clone() } {
            // SAFETY: as above; the slot calls `close` for the last count only.
            Some(slot) => unsafe { slot.release(head, || Self::close(gate)) },
            // SAFETY: as above.
            None => unsafe {
                if release_last(head) {
                    let _work = Gate::releasing(&*gate);
                    Self::close(gate);
                }
            },
        }
    }

    /// The gate itself, if what is behind it fits a caller that was compiled
    /// against `wanted`. Takes over a count of it, and gives that back on failure.
    pub(crate) fn accepted(
        head: *const GateHead,
        wanted: &Signature,
    ) -> Result<*const GateHead, ReferenceError> {
        // SAFETY: the count is ours, until it is returned or given back.
        unsafe {
            match Self::accepts(head, wanted) {
                Ok(()) => Ok(head),
                Err(error) => {
                    release(head);
                    Err(error)
                }
            }
        }
    }

    /// Does what is behind the gate fit a caller that was compiled against `wanted`?
    ///
    /// # Safety
    ///
    /// The caller must have a count of the gate, which `open` must have made.
    pub(crate) unsafe fn accepts(head: *const GateHead, wanted: &Signature) -> Result<(), ReferenceError> {
        // SAFETY: alive by the caller's count; see `release`.
        let gate = unsafe { &*head.cast::<Gate>() };
        if gate.accepted.load(Ordering::Relaxed) == wanted.hash() {
            return Ok(());
        }
        let built = gate.built.lock().unwrap_or_else(PoisonError::into_inner);
        built.as_ref().map_or(Ok(()), |b| b.offer.fits(Some(wanted)))?;
        let mut callers = gate.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if !callers.iter().any(|(hash, _)| *hash == wanted.hash()) {
            callers.push((wanted.hash(), Contract::from(wanted)));
        }
        gate.accepted.store(wanted.hash(), Ordering::Relaxed);
        Ok(())
    }

    /// Marks the release of what has no slot.
    fn releasing(&self) -> Option<Work> {
        let built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        let built = built.as_ref()?;
        Some(Work::release(self.factory.number, built.offer.name().into(), built.offer.version()))
    }

    /// # Safety
    ///
    /// Nobody else may have a count.
    unsafe fn close(gate: *mut Gate) {
        // SAFETY: the caller was the last one; a list of gates gives counts of live
        // ones only, and does not know it any more from here on.
        unsafe {
            let gate = Box::from_raw(gate);
            gate.factory.gates.remove(&raw const *gate);
            drop(gate);
        }
    }

    pub(crate) fn head(&self) -> &GateHead {
        &self.head
    }

    pub(crate) fn slot(&self) -> Option<&Arc<Slot>> {
        self.slot.as_ref()
    }

    /// What the first reference gave.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// What serves now.
    pub(crate) fn offer(&self) -> Offer {
        let built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        // `open` fills it before anyone sees the gate, and it is never emptied.
        built.as_ref().map_or_else(|| unreachable!("a gate without an instance"), |b| b.offer.clone())
    }

    /// The version that stood here before the last replacement.
    pub(crate) fn before(&self) -> Option<i32> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.before
    }

    /// Would every caller that this gate has accepted fit `offered`?
    pub(crate) fn callers_accept(&self, offered: Option<&Contract>) -> Result<(), Mismatch> {
        for (_, wanted) in self.callers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let Some(offered) = offered else {
                return Err(Mismatch::Raw { expected: wanted.name.clone() });
            };
            compatible(wanted.view(), offered.view())?;
        }
        Ok(())
    }

    /// Looks at the instance that serves now.
    ///
    /// Only who has the turn to replace may call this: nobody else exchanges it, so
    /// it is looked at without the lock, which the component's code could want.
    pub(crate) fn with_built<R>(&self, f: impl FnOnce(&Built) -> R) -> R {
        let built: *const Built = {
            let built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
            built.as_deref().unwrap_or_else(|| unreachable!("a gate without an instance"))
        };
        // SAFETY: owned by the gate, at an address of its own, until the turn's holder
        // exchanges it.
        f(unsafe { &*built })
    }

    /// What its instance has gone through; `None` while somebody has the instance locked:
    /// it could be about to be exchanged. Waits for nobody, so that it may be asked under
    /// the list's lock.
    pub(super) fn look(&self) -> Option<Seen> {
        let built = match self.built.try_lock() {
            Ok(built) => built,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let built = built.as_ref()?;
        // Failures first: each is of a call that was counted before.
        let (panics, errors) = built.head.failures();
        let numbers = Numbers { panics, errors, calls: built.head.counted_calls() };
        Some(Seen { version: built.offer.version(), born: built.born, numbers })
    }

    /// Keeps new callers from being accepted, until the successor is in its place.
    pub(crate) fn close_acceptance(&self) -> Acceptance<'_> {
        Acceptance { built: self.built.lock().unwrap_or_else(PoisonError::into_inner), gate: self }
    }
}

/// Why a gate was not opened.
pub(crate) enum NotOpened {
    /// A replacement took place since its offer was chosen: choose again.
    Replaced,
    Failed(ReferenceError),
}

impl From<ReferenceError> for NotOpened {
    fn from(error: ReferenceError) -> Self {
        NotOpened::Failed(error)
    }
}

/// No caller is accepted while this lives.
pub(crate) struct Acceptance<'g> {
    built: MutexGuard<'g, Option<Box<Built>>>,
    gate: &'g Gate,
}

impl Acceptance<'_> {
    /// What serves now.
    pub(crate) fn built(&self) -> &Built {
        self.built.as_ref().unwrap_or_else(|| unreachable!("a gate without an instance"))
    }

    /// Puts `new` into the place of the instance that was there. Its head must
    /// stand behind the gate already.
    pub(crate) fn succeed(mut self, new: Box<Built>) -> Box<Built> {
        // The next caller's signature is compared with the new one.
        self.gate.accepted.store(0, Ordering::Release);
        self.built.replace(new).unwrap_or_else(|| unreachable!("a gate without an instance"))
    }
}

/// The live gates of a factory.
#[derive(Default)]
pub(crate) struct Gates {
    list: Mutex<Listed>,
    /// Names of which nobody is to list a gate just now, and who waits for that.
    door: Mutex<Vec<String>>,
    opened: Condvar,
}

/// The list itself, and who looks on.
#[derive(Default)]
pub(super) struct Listed {
    gates: Vec<*const Gate>,
    pub(super) observers: Observers,
}

impl Listed {
    /// The gates in it, those included whose last count is just gone.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Gate> {
        // SAFETY: in the list, which is locked: so not yet freed.
        self.gates.iter().map(|gate| unsafe { &**gate })
    }
}

/// How long a new gate waits at a closed door, at most: who has closed it may be
/// waiting, at some distance, for the one who waits.
const AT_THE_DOOR: Duration = Duration::from_millis(50);

/// Keeps new gates of some names out, for a while, as long as it lives.
pub(crate) struct Door<'g> {
    gates: &'g Gates,
    names: Vec<String>,
}

impl Drop for Door<'_> {
    fn drop(&mut self) {
        let mut door = self.gates.door.lock().unwrap_or_else(PoisonError::into_inner);
        for name in &self.names {
            if let Some(at) = door.iter().position(|closed| closed == name) {
                door.swap_remove(at);
            }
        }
        drop(door);
        self.gates.opened.notify_all();
    }
}

// SAFETY: the pointers are followed under the list's lock alone, while the gates are
// in it.
unsafe impl Send for Gates {}
// SAFETY: as above.
unsafe impl Sync for Gates {}

impl Gates {
    pub(super) fn lock(&self) -> MutexGuard<'_, Listed> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps new gates of these names out.
    pub(crate) fn close_door(&self, names: Vec<String>) -> Door<'_> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner).extend(names.iter().cloned());
        Door { gates: self, names }
    }

    /// Waits while the door is closed for `name`, unless this thread works for whoever
    /// has closed it.
    fn pass_door(&self, name: &str) {
        let is_closed = |door: &mut Vec<String>| door.iter().any(|closed| closed == name);
        let door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        if !door.is_empty() && !turn::is_here() {
            drop(self.opened.wait_timeout_while(door, AT_THE_DOOR, is_closed));
        }
    }

    /// Lists the gate, if it may still be: asked in the moment in which it is.
    fn add(&self, gate: *const Gate, may: impl FnOnce() -> bool) -> bool {
        // SAFETY: the caller's own, which nobody else has seen.
        self.pass_door(unsafe { (*gate).head.name() });
        let mut list = self.lock();
        let may = may();
        if may {
            list.gates.push(gate);
            // SAFETY: as above.
            list.observers.apply_to(unsafe { &*gate });
        }
        may
    }

    /// Runs `f` while no gate can be listed, unless there is a live one that is
    /// named `name` and is not `known`.
    pub(crate) fn settled<R>(&self, known: &[(&str, &[&GateRef])], f: impl FnOnce() -> R) -> Option<R> {
        let list = self.lock();
        let is_news = |gate: &Gate| {
            gate.head.refs().load(Ordering::Relaxed) > 0
                && known.iter().any(|(name, known)| {
                    *name == gate.head.name() && !known.iter().any(|k| ptr::eq(k.0, gate))
                })
        };
        let settled = !list.iter().any(is_news);
        settled.then(f)
    }

    fn remove(&self, gate: *const Gate) {
        let mut list = self.lock();
        if let Some(at) = list.gates.iter().position(|g| *g == gate) {
            list.gates.swap_remove(at);
            // SAFETY: the caller's own, who frees it after this.
            list.observers.part_with(unsafe { &*gate });
        }
    }

    /// The gates that are live, each with a count.
    pub(crate) fn all(&self) -> Vec<GateRef> {
        let list = self.lock();
        // SAFETY: in the list, so not yet freed.
        list.gates.iter().filter_map(|gate| unsafe { GateRef::of_live(*gate) }).collect()
    }
}

/// A count of a gate.
pub(crate) struct GateRef(*const Gate);

// SAFETY: a gate is for all threads.
unsafe impl Send for GateRef {}
// SAFETY: as above.
unsafe impl Sync for GateRef {}

impl GateRef {
    /// A count, unless the last one is gone already.
    ///
    /// # Safety
    ///
    /// The gate must not have been freed.
    unsafe fn of_live(gate: *const Gate) -> Option<Self> {
        // SAFETY: the caller's word.
        let refs = unsafe { (*gate).head.refs() };
        let more = |n| if n > 0 { Some(n + 1) } else { None };
        refs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok().then(|| GateRef(gate))
    }
}

impl GateRef {
    /// Is it a count of the same gate?
    pub(crate) fn is(&self, other: &GateRef) -> bool {
        ptr::eq(self.0, other.0)
    }
}

impl Clone for GateRef {
    fn clone(&self) -> Self {
        // SAFETY: alive by this count.
        unsafe { retain(&raw const (*self.0).head) };
        GateRef(self.0)
    }
}

impl Deref for GateRef {
    type Target = Gate;

    fn deref(&self) -> &Gate {
        // SAFETY: alive by this count.
        unsafe { &*self.0 }
    }
}

impl Drop for GateRef {
    fn drop(&mut self) {
        // SAFETY: the count is this one's.
        unsafe { release(&raw const (*self.0).head) }
    }
}

impl Built {
    /// Constructs an instance for `gate`.
    fn new(
        gate: *const GateHead,
        offer: Offer,
        dependencies: Dependencies,
        cx: &Context,
    ) -> Result<Box<Self>, ReferenceError> {
        let construct = offer.prologue().map(|p| p.construct);
        Self::with(gate, offer, dependencies, cx, |wire| match construct {
            // SAFETY: the thunk is the prologue's own, and the context is lent until it
            // has returned.
            Some(construct) => unsafe { construct(wire) },
            None => unreachable!("`with` refuses a raw table"),
        })
    }

    /// Constructs a successor for `gate`.
    pub(crate) fn successor(
        gate: &GateRef,
        offer: Offer,
        dependencies: Dependencies,
    ) -> Result<Box<Self>, ReferenceError> {
        let _work = Work::succeed(gate.head());
        let built = Self::new(gate.head(), offer, dependencies, gate.context())?;
        Ok(built.after(gate))
    }

    fn after(mut self: Box<Self>, gate: &GateRef) -> Box<Self> {
        self.before = Some(gate.offer().version());
        self
    }

    /// Restores a successor for `gate` from what its predecessor saved.
    pub(crate) fn restored(
        gate: &GateRef,
        offer: Offer,
        dependencies: Dependencies,
        saved: Saved,
    ) -> Result<Box<Self>, ReferenceError> {
        let Some(handover) = offer.handover().map(Carried) else {
            return Err(failed(&offer, "it does not hand state over".to_owned(), false));
        };
        let _work = Work::succeed(gate.head());
        let built = Self::with(gate.head(), offer, dependencies, gate.context(), move |wire| {
            let handover = handover;
            // SAFETY: the table is the offer's own, which is alive; the context is lent
            // until it has returned.
            unsafe { (*handover.0).restore(wire, saved) }
        })?;
        Ok(built.after(gate))
    }

    /// Runs `f` with this instance's hand-over thunks and its object, where its
    /// code may run.
    pub(crate) fn hand_over<R: Send>(
        &self,
        f: impl FnOnce(&HandoverTable, *const ()) -> R + Send,
    ) -> Option<io::Result<R>> {
        let handover = Carried(self.offer.handover()?);
        let object = Carried(self.head.object);
        Some(self.offer.away(move || {
            let (handover, object) = (handover, object);
            // SAFETY: a constant of the offer's object, which is mapped.
            f(unsafe { &*handover.0 }, object.0)
        }))
    }

    /// Lets this instance's own threads go on, after a pause.
    pub(crate) fn resume(&self) {
        let Some(handover) = self.offer.handover().map(Carried) else { return };
        let object = Carried(self.head.object);
        let _ = self.offer.surely_away(move || {
            let (handover, object) = (handover, object);
            // SAFETY: as in `hand_over`; the object is the table's, alive behind its gate.
            unsafe { (*handover.0).resume(object.0) }
        });
    }

    pub(crate) fn head(&self) -> &InstanceHead {
        &self.head
    }

    pub(crate) fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Makes an instance by `make`, a thunk of the offer.
    fn with(
        gate: *const GateHead,
        offer: Offer,
        dependencies: Dependencies,
        cx: &Context,
        make: impl FnOnce(*const ContextWire) -> Constructed + Send,
    ) -> Result<Box<Self>, ReferenceError> {
        let prologue = offer.prologue().ok_or_else(|| {
            let error = offer.fits(None);
            error.err().unwrap_or_else(|| failed(&offer, "the interface has no typed table".into(), false))
        })?;
        let methods_at = prologue.methods_at as usize;
        let methods = ptr::from_ref(prologue).cast::<()>().wrapping_byte_add(methods_at);
        let method_count = offer.signature().map_or(0, |s| s.methods().len());
        let wires: Vec<DependencyWire> = dependencies.0.iter().map(Held::wire).collect();
        let made = cx.lend(&offer.name(), offer.version(), &wires, |wire| {
            let wire = Carried(wire);
            offer.away(move || {
                let wire = wire;
                Carried(make(wire.0))
            })
        });
        match made {
            Ok(Carried(Constructed { object, error, panicked })) if error.is_null() => {
                let _ = panicked;
                // SAFETY: the gate owns what is built, and outlives it.
                let head = unsafe { InstanceHead::new(object, methods, method_count, gate) };
                Ok(Box::new(Built { head, born: Born::now(), dependencies, offer, before: None }))
            }
            Ok(Carried(Constructed { error, panicked, .. })) => {
                // SAFETY: the thunk made the message for us.
                Err(failed(&offer, unsafe { Message::take(error) }, panicked != 0))
            }
            Err(error) => Err(failed(&offer, format!("no thread for it could be started: {error}"), false)),
        }
    }
}

/// A gate's name outlives the library that it came from: kept once, by value.
fn intern(name: &str) -> &'static str {
    static NAMES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    match names.binary_search(&name) {
        Ok(at) => names[at],
        Err(at) => {
            let name: &'static str = Box::leak(name.into());
            names.insert(at, name);
            name
        }
    }
}

/// What is carried to the thread that runs a constructor, and back.
#[derive(Clone, Copy)]
struct Carried<T>(T);
// SAFETY: the thread that gets it ends before the one that gave it goes on.
unsafe impl<T> Send for Carried<T> {}

fn failed(offer: &Offer, message: String, panicked: bool) -> ReferenceError {
    ReferenceError::Construct {
        name: offer.name(),
        version: offer.version(),
        origin: offer.to_string(),
        message,
        panicked,
    }
}

impl Offer {
    /// Runs a constructor or a hook of this interface: a Rust library's on a thread that
    /// has ended when this returns; the program's own here, and a C library's too, for
    /// it may count on the thread, and one that leaves something in it is kept.
    fn away<R: Send>(&self, f: impl FnOnce() -> R + Send) -> io::Result<R> {
        self.run(f).map_err(|(error, _)| error)
    }

    /// The same for what must run, whatever the system refuses: a destructor, the
    /// resuming of what was paused. Where no thread can be started it runs here.
    fn surely_away<R: Send>(&self, f: impl FnOnce() -> R + Send) -> io::Result<R> {
        self.run(f).or_else(|(error, f)| f.map(|f| f()).ok_or(error))
    }

    fn run<R: Send, F: FnOnce() -> R + Send>(&self, f: F) -> Result<R, (io::Error, Option<F>)> {
        if self.library().is_none_or(|library| library.is_c()) {
            return Ok(f());
        }
        match on_ended_thread("lcr-component", f) {
            Ok(Ok(value)) => Ok(value),
            // The thunks catch what a component raises.
            Ok(Err(payload)) => Err((io::Error::other(panic_text(&*payload)), None)),
            Err((error, f)) => Err((error, Some(f))),
        }
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        if let Some(prologue) = self.offer.prologue() {
            let (destroy, object) = (prologue.destroy, Carried(self.head.object.cast_mut()));
            let ended = self.offer.surely_away(move || {
                let object = object;
                // SAFETY: the object was made by this prologue's `construct`, and is
                // destroyed once, here.
                Carried(unsafe { destroy(object.0) })
            });
            if let Ok(Carried(message)) = ended
                && !message.is_null()
            {
                // A destructor's panic was printed by the component's own panic hook,
                // and there is nobody to return it to.
                // SAFETY: the thunk made the message for us.
                drop(unsafe { Message::take(message) });
            }
        }
    }
}

impl Held {
    /// Takes over a count of `gate`.
    pub(crate) fn typed(name: &str, gate: *const GateHead) -> Held {
        Held::Typed { name: name.to_owned(), gate }
    }

    fn wire(&self) -> DependencyWire {
        match self {
            Held::Typed { name, gate } => {
                DependencyWire { name: RawStr::new(name), gate: *gate, table: ptr::null() }
            }
            Held::Raw { name, raw } => {
                DependencyWire { name: RawStr::new(name), gate: ptr::null(), table: raw.table().cast_const() }
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        match self {
            // SAFETY: the count is this one's.
            Held::Typed { gate, .. } => unsafe { release(*gate) },
            Held::Raw { .. } => {}
        }
    }
}

impl RawHeld {
    /// Runs the constructor with `context`.
    ///
    /// # Safety
    ///
    /// `context` must be what the component expects.
    #[inline(always)]
    pub(crate) unsafe fn new(
        factory: &Arc<Inner>,
        offer: Offer,
        context: *mut c_void,
        dependencies: Dependencies,
        name: Cow<'static, str>,
        holders: Holders,
    ) -> Result<Box<Self>, ReferenceError> {
        if let Some(constructor) = offer.iface().constructor {
            let context = Carried(context);
            let answer = offer.away(move || {
                let context = context;
                // SAFETY: the caller's word.
                unsafe { constructor(context.0) }
            });
            match answer {
                Ok(0) => {}
                Ok(code) => return Err(failed(&offer, returned(code), false)),
                Err(error) => {
                    return Err(failed(&offer, format!("no thread for it could be started: {error}"), false));
                }
            }
        }
        factory.count_raw(&name, offer.version(), holders, true);
        let factory = Maker::of(factory);
        Ok(Box::new(RawHeld { factory, name, holders, context, _dependencies: dependencies, offer }))
    }

    pub(crate) fn table(&self) -> *const c_void {
        self.offer.iface().interfaces.cast()
    }

    pub(crate) fn offer(&self) -> &Offer {
        &self.offer
    }
}

fn returned(code: c_int) -> String {
    format!("it returned {code}")
}

impl Drop for RawHeld {
    fn drop(&mut self) {
        self.factory.count_raw(&self.name, self.offer.version(), self.holders, false);
        if let Some(destructor) = self.offer.iface().destructor {
            let _work = Work::release(self.factory.number, self.name.clone(), self.offer.version());
            let context = Carried(self.context);
            let _ = self.offer.surely_away(move || {
                let context = context;
                // SAFETY: the same context as the constructor's, once.
                unsafe { destructor(context.0) }
            });
        }
    }
}
