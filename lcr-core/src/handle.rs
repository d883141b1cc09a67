//! References to typed interfaces: a [`Handle`] that follows replacement, an
//! [`Instance`] that stays with one version, and a [`Guard`] for a run of calls.
//!
//! A handle is one pointer to the interface's gate, in the host's memory. It
//! implements the contract; each call goes through the gate, so that the version
//! behind it can be replaced between any two calls. It has no methods of its own,
//! lest they hide the contract's: `Handle::enter(&h)`, `Handle::instance(&h)`.
//!
//! Counting: `GateHead::refs` counts handles and instances together. Whoever
//! would take it from 1 to 0 does so under the factory's lock instead
//! (`gate_last`), where a new reference either finds the instance alive or gone,
//! never on its way out.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;

use crate::abi::{Abi, Frame};
use crate::contract::{Contract, Signature};
use crate::factory::{self, Gate};
use crate::gate::{Entered, GateHead, InstanceHead};
use crate::services::{self, Message};
use crate::text::Piece;

/// A reference to an interface, through the contract `C`. It implements the
/// contract, and follows live replacement: two calls in a row may be answered by
/// two versions.
///
/// Cheap to clone; `Send` and `Sync`. When the last handle goes, the interface is
/// released: destroyed, then what it required.
pub struct Handle<C: Contract + ?Sized> {
    gate: NonNull<GateHead>,
    contract: PhantomData<fn(&C)>,
}

// SAFETY: a gate is made for all threads, and a contract is `Send + Sync`.
unsafe impl<C: Contract + ?Sized> Send for Handle<C> {}
// SAFETY: as above.
unsafe impl<C: Contract + ?Sized> Sync for Handle<C> {}

impl<C: Contract + ?Sized> Handle<C> {
    /// Takes over a count of `gate`.
    ///
    /// # Safety
    ///
    /// The gate must be alive, one of its counts be the caller's to give, and its
    /// provider's signature have been accepted by `C::SIGNATURE`.
    pub(crate) unsafe fn adopt(gate: *const GateHead) -> Self {
        // SAFETY: alive, by the caller's word, so not null.
        Handle { gate: unsafe { NonNull::new_unchecked(gate.cast_mut()) }, contract: PhantomData }
    }

    /// A new count of `gate`.
    ///
    /// # Safety
    ///
    /// As for `adopt`, but that the count is added here.
    pub(crate) unsafe fn retain(gate: *const GateHead) -> Self {
        // SAFETY: alive, by the caller's word.
        unsafe {
            retain(gate);
            Self::adopt(gate)
        }
    }

    #[inline(always)]
    pub(crate) fn gate(this: &Self) -> &GateHead {
        // SAFETY: the handle's count keeps it alive.
        unsafe { this.gate.as_ref() }
    }

    /// Goes through the gate once for a run of calls: until the guard is dropped,
    /// all calls through it are answered by one version, and that version is not
    /// destroyed. Do not keep it longer than a call would last: a replacement
    /// waits for it.
    ///
    /// ```
    /// # #[lcr_core::contract]
    /// # pub trait Counter: Send + Sync { fn next(&self) -> u64; }
    /// # #[lcr_core::component]
    /// # mod counter {
    /// #     use std::sync::atomic::{AtomicU64, Ordering};
    /// #     use super::Counter;
    /// #     #[derive(lcr_core::Interface)]
    /// #     #[interface(name = "handle.doc.counter", version = 0, contract = dyn Counter)]
    /// #     pub struct Plain(AtomicU64);
    /// #     impl Construct for Plain {
    /// #         fn construct(_: &Context) -> Result<Self, BoxError> { Ok(Plain(AtomicU64::new(0))) }
    /// #     }
    /// #     impl Counter for Plain { fn next(&self) -> u64 { self.0.fetch_add(1, Ordering::Relaxed) } }
    /// # }
    /// # fn main() -> Result<(), lcr_core::ReferenceError> {
    /// use lcr_core::Handle;
    ///
    /// let counter: Handle<dyn Counter> = lcr_core::reference("handle.doc.counter", 0)?;
    /// let run = Handle::enter(&counter);
    /// let first = run.next();
    /// assert_eq!(run.next(), first + 1);
    /// # Ok(()) }
    /// ```
    #[inline(always)]
    pub fn enter(this: &Self) -> Guard<'_, C> {
        Guard { entered: Self::gate(this).enter(), contract: PhantomData }
    }

    /// Pins the version that serves now. The instance is `Send`, and may be held
    /// for as long as one likes: across threads, across awaits. A stateless
    /// replacement leaves it on the old version; a stateful one waits for it.
    #[must_use]
    pub fn instance(this: &Self) -> Instance<C> {
        let entered = Self::gate(this).enter();
        // SAFETY: inside the gate the instance is alive, and so is its gate.
        unsafe { Instance::retain(&entered) }
    }
}

impl<C: Contract + ?Sized> Clone for Handle<C> {
    fn clone(&self) -> Self {
        // SAFETY: alive by this handle's count, and of the same contract.
        unsafe { Self::retain(self.gate.as_ptr()) }
    }
}

impl<C: Contract + ?Sized> Drop for Handle<C> {
    fn drop(&mut self) {
        // SAFETY: this handle's count is given back, once.
        unsafe { release(self.gate.as_ptr()) }
    }
}

impl<C: Contract + ?Sized> fmt::Debug for Handle<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle<dyn {}>", C::NAME)
    }
}

/// Adds a count to `gate`.
///
/// # Safety
///
/// The gate must be alive.
pub(crate) unsafe fn retain(gate: *const GateHead) {
    // SAFETY: the caller's word. Relaxed, as for `Arc`: whoever can do this has a
    // count, or the factory's lock.
    unsafe { (*gate).refs() }.fetch_add(1, Ordering::Relaxed);
}

/// Gives back one count of `gate`.
///
/// # Safety
///
/// The count must be the caller's.
pub(crate) unsafe fn release(gate: *const GateHead) {
    // SAFETY: alive by the caller's count. Whoever is the last one does not count
    // down here, so that the gate lives until the host has it under its lock.
    let refs = unsafe { (*gate).refs() };
    let less = |n| if n > 1 { Some(n - 1) } else { None };
    if refs.fetch_update(Ordering::Release, Ordering::Relaxed, less).is_err() {
        // SAFETY: the count goes with the call.
        unsafe { (services::current().gate_last)(gate) }
    }
}

/// Gives back a count that may be the last one; under the lock of whoever owns
/// the gate. Says whether it was.
///
/// # Safety
///
/// The count must be the caller's.
pub(crate) unsafe fn release_last(gate: *const GateHead) -> bool {
    // SAFETY: alive by the caller's count.
    unsafe { (*gate).refs() }.fetch_sub(1, Ordering::AcqRel) == 1
}

/// One version of an interface, pinned.
pub struct Instance<C: Contract + ?Sized> {
    head: NonNull<InstanceHead>,
    contract: PhantomData<fn(&C)>,
}

// SAFETY: as for `Handle`.
unsafe impl<C: Contract + ?Sized> Send for Instance<C> {}
// SAFETY: as for `Handle`.
unsafe impl<C: Contract + ?Sized> Sync for Instance<C> {}

impl<C: Contract + ?Sized> Instance<C> {
    /// # Safety
    ///
    /// `head` must be alive for the length of this call, of the contract `C`.
    unsafe fn retain(head: &InstanceHead) -> Self {
        head.pin();
        // SAFETY: an instance's gate outlives it.
        unsafe { retain(head.gate()) };
        Instance { head: NonNull::from(head), contract: PhantomData }
    }

    fn head(&self) -> &InstanceHead {
        // SAFETY: the pin keeps it alive.
        unsafe { self.head.as_ref() }
    }
}

impl<C: Contract + ?Sized> Deref for Instance<C> {
    type Target = C::Proxy;

    #[inline(always)]
    fn deref(&self) -> &C::Proxy {
        // SAFETY: `Contract` promises that `Proxy` is transparent over
        // `InstanceHead`; the pin keeps the instance alive.
        unsafe { self.head.cast::<C::Proxy>().as_ref() }
    }
}

impl<C: Contract + ?Sized> Clone for Instance<C> {
    fn clone(&self) -> Self {
        // SAFETY: pinned by `self`.
        unsafe { Self::retain(self.head()) }
    }
}

impl<C: Contract + ?Sized> Drop for Instance<C> {
    fn drop(&mut self) {
        let gate: *const GateHead = self.head().gate();
        let head = self.head.as_ptr();
        // SAFETY: the pin and the count are this instance's; `gate` outlives the
        // head, and the count of it is given back last.
        unsafe {
            if (*head).unpin() {
                (services::current().instance_last)(head);
            }
            release(gate);
        }
    }
}

impl<C: Contract + ?Sized> fmt::Debug for Instance<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance<dyn {}>", C::NAME)
    }
}

/// A run of calls through one version; see [`Handle::enter`]. Not `Send`.
pub struct Guard<'h, C: Contract + ?Sized> {
    entered: Entered<'h>,
    contract: PhantomData<fn(&C)>,
}

impl<C: Contract + ?Sized> Deref for Guard<'_, C> {
    type Target = C::Proxy;

    #[inline(always)]
    fn deref(&self) -> &C::Proxy {
        let head: &InstanceHead = &self.entered;
        // SAFETY: `Contract` promises that `Proxy` is transparent over
        // `InstanceHead`; being inside keeps the instance alive.
        unsafe { &*std::ptr::from_ref(head).cast::<C::Proxy>() }
    }
}

impl<C: Contract + ?Sized> fmt::Debug for Guard<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard<dyn {}>", C::NAME)
    }
}

/// The host's side of a handle that may be the last one.
pub(crate) unsafe extern "C" fn gate_last(gate: *const GateHead) {
    // SAFETY: the caller gives its count back.
    unsafe { Gate::release(gate) }
}

/// The host's side of the last pin of an instance.
pub(crate) unsafe extern "C" fn instance_last(_: *const InstanceHead) {
    factory::unpinned();
}

// SAFETY: a handle crosses as its gate with one count; both sides agree on the
// contract's name, and the receiver compares the provider's signature with its own
// before it calls.
unsafe impl<C: Contract + ?Sized> Abi for Handle<C> {
    type Wire = HandleWire;
    type At<'f> = Handle<C>;
    const SHAPE: &'static [Piece] = &[Piece::Str("Handle<dyn "), Piece::Str(C::NAME), Piece::Str(">")];
    const BORROWS: bool = false;

    fn into_wire(self, _: &Frame) -> HandleWire {
        let gate = ManuallyDrop::new(self).gate;
        HandleWire { gate: gate.as_ptr() }
    }

    unsafe fn from_wire(wire: HandleWire, _: &Frame) -> Self {
        // SAFETY: the sender gave its count up; `received` compares.
        unsafe { received(wire) }
    }

    fn lend(&self, _: &Frame) -> HandleWire {
        HandleWire { gate: self.gate.as_ptr() }
    }

    unsafe fn borrow(wire: HandleWire, _: &Frame) -> ManuallyDrop<Self> {
        // SAFETY: the sender keeps its count while it lends, and a view is never
        // dropped. `received` would drop what does not fit, so it gets a count.
        unsafe {
            retain(wire.gate);
            let handle = ManuallyDrop::new(received::<C>(wire));
            release(wire.gate);
            handle
        }
    }
}

/// A [`Handle`] on its way: the gate, with a count where it was moved.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HandleWire {
    gate: *const GateHead,
}

/// Takes over the count in `wire`.
///
/// # Panics
///
/// If what is behind the gate does not fit the contract as this module knows it.
///
/// # Safety
///
/// The count must be the wire's.
unsafe fn received<C: Contract + ?Sized>(wire: HandleWire) -> Handle<C> {
    // SAFETY: the count keeps it alive, and goes with the handle, or is given back.
    unsafe {
        let mismatch = (services::current().gate_accepts)(wire.gate, C::SIGNATURE);
        if !mismatch.is_null() {
            let why = Message::take(mismatch);
            release(wire.gate);
            panic!("a handle came from another component, and cannot be called from here: {why}");
        }
        Handle::adopt(wire.gate)
    }
}

/// The host's side: does what is behind `gate` fit `wanted`? Null if it does.
pub(crate) unsafe extern "C" fn gate_accepts(
    gate: *const GateHead,
    wanted: *const Signature,
) -> *mut Message {
    // SAFETY: the caller has a count of the gate; the signature is a constant of a
    // module that is mapped while it asks.
    match unsafe { Gate::accepts(gate, &*wanted) } {
        Ok(()) => ptr::null_mut(),
        Err(error) => Message::new(&error.to_string()),
    }
}
