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

use std::ffi::{c_int, c_void};
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Inner;
use super::offer::Offer;
use super::slot::{Slot, Work, on_ended_thread};
use crate::abi::RawStr;
use crate::call::panic_text;
use crate::construct::Constructed;
use crate::context::{Context, DependencyWire};
use crate::contract::Signature;
use crate::error::ReferenceError;
use crate::gate::{GateHead, InstanceHead};
use crate::handle::{release, release_last};
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
    /// The hash of the caller's signature that was accepted last; 0 for none.
    accepted: AtomicU64,
}

/// An object, and what it was built from.
#[repr(C)]
pub(crate) struct Built {
    head: InstanceHead,
    // Dropped in this order, after the object: what it required, then its code.
    dependencies: Dependencies,
    offer: Offer,
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
    Typed { name: String, gate: *const GateHead, signature: *const Signature },
    Raw { name: String, raw: Box<RawHeld> },
}

/// A raw reference: the constructor has run.
pub(crate) struct RawHeld {
    /// The number of the factory.
    factory: u64,
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
    pub(crate) fn open(
        factory: &Arc<Inner>,
        slot: Option<Arc<Slot>>,
        offer: Offer,
        dependencies: Dependencies,
        cx: &Context,
    ) -> Result<*const GateHead, ReferenceError> {
        let gate = Box::into_raw(Box::new(Gate {
            head: GateHead::new(intern(&offer.name())),
            factory: Arc::clone(factory),
            slot,
            built: Mutex::new(None),
            accepted: AtomicU64::new(0),
        }));
        // SAFETY: just made, and nobody else has seen it.
        let head = unsafe { &raw const (*gate).head };
        match Built::new(head, offer, dependencies, cx) {
            Ok(built) => {
                // SAFETY: as above; the instance lives until `close`.
                unsafe {
                    (*gate).head.refs().store(1, Ordering::Relaxed);
                    (*gate).head.open(&raw const built.head);
                    *(*gate).built.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(built);
                }
                Ok(head)
            }
            Err(error) => {
                // SAFETY: made above, and given to nobody.
                drop(unsafe { Box::from_raw(gate) });
                Err(error)
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
                    let gate = Box::from_raw(gate);
                    let _work = gate.releasing();
                    drop(gate);
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
        gate.accepted.store(wanted.hash(), Ordering::Relaxed);
        Ok(())
    }

    /// Marks the release of what has no slot.
    fn releasing(&self) -> Option<Work> {
        let built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        let built = built.as_ref()?;
        Some(Work::release(self.factory.number, &built.offer.name(), built.offer.version()))
    }

    /// # Safety
    ///
    /// Nobody else may have a count.
    unsafe fn close(gate: *mut Gate) {
        // SAFETY: the caller was the last one.
        drop(unsafe { Box::from_raw(gate) });
    }
}

impl Built {
    fn new(
        gate: *const GateHead,
        offer: Offer,
        dependencies: Dependencies,
        cx: &Context,
    ) -> Result<Box<Self>, ReferenceError> {
        let prologue = offer.prologue().ok_or_else(|| {
            let error = offer.fits(None);
            error.err().unwrap_or_else(|| failed(&offer, "the interface has no typed table".into(), false))
        })?;
        let (construct, methods_at) = (prologue.construct, prologue.methods_at as usize);
        let methods = ptr::from_ref(prologue).cast::<()>().wrapping_byte_add(methods_at);
        let method_count = offer.signature().map_or(0, |s| s.methods().len());
        let wires: Vec<DependencyWire> = dependencies.0.iter().map(Held::wire).collect();
        let made = cx.lend(&offer.name(), offer.version(), &wires, |wire| {
            let wire = Carried(wire);
            offer.away(move || {
                let wire = wire;
                // SAFETY: the thunk is the prologue's own, and the context is lent
                // until it has returned.
                Carried(unsafe { construct(wire.0) })
            })
        });
        match made {
            Ok(Carried(Constructed { object, error, panicked })) if error.is_null() => {
                let _ = panicked;
                // SAFETY: the gate owns what is built, and outlives it.
                let head = unsafe { InstanceHead::new(object, methods, method_count, gate) };
                Ok(Box::new(Built { head, dependencies, offer }))
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
    /// Runs a constructor or a destructor of this interface: a library's on a
    /// thread that has ended when this returns, the program's own here.
    fn away<R: Send>(&self, f: impl FnOnce() -> R + Send) -> io::Result<R> {
        if self.library().is_none() {
            return Ok(f());
        }
        match on_ended_thread("lcr-component", f)? {
            Ok(value) => Ok(value),
            // The thunks catch what a component raises.
            Err(payload) => Err(io::Error::other(panic_text(&*payload))),
        }
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        if let Some(prologue) = self.offer.prologue() {
            let (destroy, object) = (prologue.destroy, Carried(self.head.object.cast_mut()));
            let ended = self.offer.away(move || {
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
        // SAFETY: the count keeps the gate alive; see `Gate::release`.
        let built = unsafe { &*gate.cast::<Gate>() }.built.lock().unwrap_or_else(PoisonError::into_inner);
        let signature = built.as_ref().and_then(|b| b.offer.signature()).map_or(ptr::null(), ptr::from_ref);
        Held::Typed { name: name.to_owned(), gate, signature }
    }

    fn wire(&self) -> DependencyWire {
        match self {
            Held::Typed { name, gate, signature } => DependencyWire {
                name: RawStr::new(name),
                gate: *gate,
                signature: *signature,
                table: ptr::null(),
            },
            Held::Raw { name, raw } => DependencyWire {
                name: RawStr::new(name),
                gate: ptr::null(),
                signature: ptr::null(),
                table: raw.table(),
            },
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
    pub(crate) unsafe fn new(
        factory: &Inner,
        offer: Offer,
        context: *mut c_void,
        dependencies: Dependencies,
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
        Ok(Box::new(RawHeld { factory: factory.number, context, _dependencies: dependencies, offer }))
    }

    pub(crate) fn table(&self) -> *const c_void {
        self.offer.iface().interfaces.cast()
    }
}

fn returned(code: c_int) -> String {
    format!("it returned {code}")
}

impl Drop for RawHeld {
    fn drop(&mut self) {
        if let Some(destructor) = self.offer.iface().destructor {
            let _work = Work::release(self.factory, &self.offer.name(), self.offer.version());
            let context = Carried(self.context);
            let _ = self.offer.away(move || {
                let context = context;
                // SAFETY: the same context as the constructor's, once.
                unsafe { destructor(context.0) }
            });
        }
    }
}
