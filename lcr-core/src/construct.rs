//! How a typed interface is made and unmade.
//!
//! A typed table begins with a [`Prologue`]: what the factory must know before
//! it calls a method, and the thunks that make an object and destroy it. It is
//! the same for static and for loaded components, and everything in it has a
//! layout of C.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use crate::call::caught;
use crate::context::{Context, ContextWire};
use crate::contract::{Contract, Provide, Signature};
use crate::descriptor::ABI_VERSION;
use crate::handover::HandoverTable;
use crate::services::Message;

/// Any error, as a constructor returns it.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// What a type under `#[derive(Interface)]` must be able to do: make itself.
///
/// The object is destroyed by its `Drop`, after the last caller has left.
///
/// ```
/// use lcr_core::{BoxError, Construct, Context};
///
/// struct Limits { open: u64 }
///
/// impl Construct for Limits {
///     fn construct(cx: &Context) -> Result<Self, BoxError> {
///         Ok(Limits { open: cx.int("open").unwrap_or(64).try_into()? })
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` derives Interface but cannot be constructed",
    note = "write `impl Construct for {Self} {{ fn construct(cx: &Context) -> Result<Self, BoxError> {{ … }} }}`"
)]
pub trait Construct: Sized {
    /// Makes the object. What it requires has been constructed before, and is
    /// reached through [`Context::require`].
    ///
    /// It may start threads, and these may reference what is being constructed: they
    /// wait until it is. So it must not wait for such a thread; if it does, the thread's
    /// reference is refused at last
    /// ([`Builder::construct_wait`](crate::factory::Builder::construct_wait)). What it
    /// references itself, on its own thread, is refused at once where it would wait for
    /// this very construction.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being made. The reference then fails with this
    /// error, and what was constructed for it is released.
    fn construct(cx: &Context) -> Result<Self, BoxError>;
}

/// The magic of a typed table, `LCRTABL1`: its upper bits make it an address
/// that no x86-64 processor accepts, so it cannot be a raw table's first function.
pub const MAGIC: u64 = 0x4c43_5254_4142_4c31;

const _: () = {
    let upper = MAGIC >> 47;
    assert!(upper != 0 && upper != 0x1_ffff, "the magic must not be a canonical address");
};

/// Makes an object in the component's memory.
pub type ConstructThunk = unsafe extern "C" fn(*const ContextWire) -> Constructed;
/// Destroys it; what its `Drop` raised comes back as a message, else null.
pub type DestroyThunk = unsafe extern "C" fn(*mut ()) -> *mut Message;

/// What a construct thunk returns: an object, or the reason why there is none.
#[repr(C)]
#[derive(Debug)]
pub struct Constructed {
    /// The object; null with an error.
    pub object: *mut (),
    /// The error's text, with its causes; null with an object.
    pub error: *mut Message,
    /// Was the error a panic?
    pub panicked: u32,
}

/// The head of a typed table.
#[repr(C)]
#[derive(Debug)]
pub struct Prologue {
    /// [`MAGIC`].
    pub magic: u64,
    /// The ABI version that the component was built with.
    pub abi: u32,
    /// Where the methods begin, in bytes from the start of this prologue.
    pub methods_at: u32,
    /// The contract as the component knows it.
    pub signature: *const Signature,
    /// See [`Prologue::PER_REFERENCE`] and [`Prologue::STATE`].
    pub flags: u64,
    /// Makes an object.
    pub construct: ConstructThunk,
    /// Destroys it.
    pub destroy: DestroyThunk,
    /// How state is handed over; null where the interface has none.
    pub handover: *const HandoverTable,
}

// SAFETY: a prologue is a constant; its pointers are to constants.
unsafe impl Sync for Prologue {}
// SAFETY: as above.
unsafe impl Send for Prologue {}

impl Prologue {
    /// Constructed at each reference, instead of once.
    pub const PER_REFERENCE: u64 = 1;
    /// Hands its state over when it is replaced.
    pub const STATE: u64 = 2;
}

/// A prologue and the methods behind it: what `Iface::interfaces` points to.
#[repr(C)]
#[derive(Debug)]
pub struct TypedTable<M> {
    prologue: Prologue,
    methods: M,
}

impl<M> TypedTable<M> {
    /// The table of `T`, called through the contract `C`.
    ///
    /// # Safety
    ///
    /// `handover` must be null, or what hands over the state of `T`
    /// ([`HandoverTable::of`]), and there for as long as the program is.
    #[must_use]
    pub const unsafe fn new<T, C>(flags: u64, handover: *const HandoverTable) -> Self
    where
        T: Construct + Send + Sync + 'static,
        C: Contract<Methods = M> + Provide<T> + ?Sized,
    {
        TypedTable {
            prologue: Prologue {
                magic: MAGIC,
                abi: ABI_VERSION,
                methods_at: std::mem::offset_of!(TypedTable<M>, methods) as u32,
                signature: C::SIGNATURE,
                flags,
                construct: construct::<T>,
                destroy: destroy::<T>,
                handover,
            },
            methods: C::METHODS,
        }
    }
}

unsafe extern "C" fn construct<T: Construct>(cx: *const ContextWire) -> Constructed {
    let made = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the factory passes a context that lives until this returns.
        let cx = unsafe { Context::from_wire(cx) };
        T::construct(&cx).map(|object| Box::into_raw(Box::new(object)).cast::<()>())
    }));
    match made {
        Ok(Ok(object)) => Constructed { object, error: ptr::null_mut(), panicked: 0 },
        Ok(Err(error)) => {
            Constructed { object: ptr::null_mut(), error: Message::new(&with_causes(&*error)), panicked: 0 }
        }
        Err(payload) => Constructed { object: ptr::null_mut(), error: caught(payload), panicked: 1 },
    }
}

unsafe extern "C" fn destroy<T>(object: *mut ()) -> *mut Message {
    // SAFETY: the factory passes what `construct::<T>` made, once.
    let object = unsafe { Box::from_raw(object.cast::<T>()) };
    match catch_unwind(AssertUnwindSafe(|| drop(object))) {
        Ok(()) => ptr::null_mut(),
        Err(payload) => caught(payload),
    }
}

/// An error's text followed by its causes', `: ` between them.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Many errors print their cause themselves.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

/// Proof that a type stands in a component: the `component` attribute implements
/// it, and the derive asks for it, so that a forgotten attribute is an error.
#[diagnostic::on_unimplemented(
    message = "`{Self}` derives Interface outside a component, so nothing would register it",
    note = "put it directly into a module under `#[lcr_core::component]`, or end its file with `lcr_core::file_component! {{ … }}`"
)]
pub trait InComponent {}
