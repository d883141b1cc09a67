//! A reference that crosses the border: a library's code asks the host's factory.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::instance::RawHeld;
use super::{Inner, Raw};
use crate::abi::RawStr;
use crate::call::caught;
use crate::context::Context;
use crate::contract::{Contract, Signature};
use crate::error::ReferenceError;
use crate::handle::Handle;
use crate::services::{self, Message, ReferenceWire, ReferencedWire};
use crate::version::Version;

/// The library's side of a typed reference.
pub(super) fn reference<C: Contract + ?Sized>(
    name: &str,
    version: Version,
    context: &Context,
) -> Result<Handle<C>, ReferenceError> {
    let got = ask(name, version, C::SIGNATURE, context)?;
    // SAFETY: the host counted the gate for us, and compared the signatures.
    Ok(unsafe { Handle::adopt(got.gate) })
}

/// The library's side of a raw reference.
pub(super) fn reference_raw<T>(
    name: &str,
    version: Version,
    context: *mut c_void,
) -> Result<Raw<T>, ReferenceError> {
    let got = ask(name, version, ptr::null(), &Context::new().with_pointer(context))?;
    Raw::new(got.table, got.raw)
}

fn ask(
    name: &str,
    version: Version,
    signature: *const Signature,
    context: &Context,
) -> Result<ReferencedWire, ReferenceError> {
    let host = services::current();
    let got = context.lend("", 0, &[], |context| {
        let wire = ReferenceWire {
            name: RawStr::new(name),
            low: version.low,
            high: version.high,
            exact: u32::from(version.exact),
            signature,
            context,
        };
        // SAFETY: everything in the wire is lent until the host has answered.
        unsafe { (host.reference)(host.factory, &raw const wire) }
    });
    if got.error.is_null() {
        return Ok(got);
    }
    // SAFETY: the host made the message for us; kinds are its constants.
    unsafe {
        Err(ReferenceError::Host { kind: got.kind.as_str().to_owned(), message: Message::take(got.error) })
    }
}

impl<T> Raw<T> {
    /// Takes over `held`; `table` must be the table that belongs to it.
    fn new(table: *const (), held: *mut ()) -> Result<Self, ReferenceError> {
        match NonNull::new(table.cast_mut().cast::<T>()) {
            Some(table) => Ok(Raw { table, held, not_send: PhantomData }),
            None => {
                // SAFETY: the reference is ours, and is given back at once.
                unsafe { (services::current().raw_release)(held) };
                Err(ReferenceError::Host {
                    kind: "no-table".to_owned(),
                    message: "the component's descriptor has no table of functions (`interfaces` is null)"
                        .to_owned(),
                })
            }
        }
    }

    pub(super) fn from_held(held: Box<RawHeld>) -> Result<Self, ReferenceError> {
        Self::new(held.table().cast(), Box::into_raw(held).cast())
    }
}

const NOTHING: ReferencedWire = ReferencedWire {
    gate: ptr::null(),
    table: ptr::null(),
    raw: ptr::null_mut(),
    error: ptr::null_mut(),
    kind: RawStr::new(""),
};

/// The host's side.
pub(crate) unsafe extern "C" fn reference_wire(factory: u64, wire: *const ReferenceWire) -> ReferencedWire {
    let answer = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the library lends the wire for this call.
        unsafe {
            let wire = &*wire;
            let context = Context::from_wire(wire.context);
            let version = Version { low: wire.low, high: wire.high, exact: wire.exact != 0 };
            let Some(inner) = Inner::by_number(factory) else {
                return Err(ReferenceError::Host {
                    kind: "no-factory".to_owned(),
                    message: "the factory that loaded this library is gone".to_owned(),
                });
            };
            answer(&inner, wire.name.as_str(), version, wire.signature.as_ref(), &context)
        }
    }));
    match answer {
        Ok(Ok(got)) => got,
        Ok(Err(error)) => {
            ReferencedWire { error: Message::new(&error.to_string()), kind: kind_of(&error), ..NOTHING }
        }
        Err(payload) => ReferencedWire { error: caught(payload), kind: RawStr::new("panic"), ..NOTHING },
    }
}

unsafe fn answer(
    inner: &Arc<Inner>,
    name: &str,
    version: Version,
    signature: Option<&Signature>,
    context: &Context,
) -> Result<ReferencedWire, ReferenceError> {
    match signature {
        Some(signature) => {
            let gate = Inner::typed(inner, name, version, signature, context)?;
            Ok(ReferencedWire { gate, ..NOTHING })
        }
        None => {
            // SAFETY: whoever called `reference_raw` in the library gave its word.
            let held = unsafe { Inner::raw(inner, name, version, context.pointer())? };
            let table = held.table().cast();
            Ok(ReferencedWire { table, raw: Box::into_raw(held).cast(), ..NOTHING })
        }
    }
}

/// The kind as a constant, which outlives the error.
fn kind_of(error: &ReferenceError) -> RawStr {
    const KINDS: [&str; 13] = [
        "not-found",
        "duplicate",
        "contract",
        "typed",
        "cycle",
        "dependency",
        "table",
        "construct",
        "reentered",
        "waited",
        "load",
        "static",
        "in-library",
    ];
    RawStr::new(KINDS.iter().find(|k| **k == error.kind()).copied().unwrap_or("other"))
}

pub(crate) unsafe extern "C" fn raw_release_wire(held: *mut ()) -> *mut Message {
    // SAFETY: it was `Box::into_raw`'s of a `RawHeld`, and is given back once.
    let held = unsafe { Box::from_raw(held.cast::<RawHeld>()) };
    match catch_unwind(AssertUnwindSafe(|| drop(held))) {
        Ok(()) => ptr::null_mut(),
        Err(payload) => caught(payload),
    }
}
