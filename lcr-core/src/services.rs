//! What a host offers to a library's code.
//!
//! A library has its own copy of lcr-core, with statics of its own; registry,
//! factory, gates and threads' cells are the host's. Each copy therefore reaches
//! them through a table of functions, [`Services`]: in a host it is the host's
//! own, in a library the one that `lcr_v1_library` received. Everything in the
//! table has C's layout, and `size` comes first, so that it can grow at its end.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::abi::{RawSlice, RawStr};
use crate::allocator::{self, Allocator};
use crate::context::ContextWire;
use crate::contract::Signature;
use crate::descriptor::ABI_VERSION;
use crate::gate::{self, EnteredWire, GateHead, InstanceHead};
use crate::{factory, handle};

/// The table of functions that a host hands to a library.
#[repr(C)]
#[derive(Debug)]
pub struct Services {
    /// The size of this table in bytes.
    pub size: usize,
    /// The host's ABI version.
    pub abi: u32,
    /// How many bytes a thread's block of cells lies from its thread pointer; 0
    /// where only `enter_slow` can find it.
    pub tls_offset: isize,
    /// The host's allocator.
    pub allocator: *const Allocator,
    /// Which factory loaded the library: passed back to `reference`.
    pub factory: *const (),
    /// Enters a gate the long way: no cell yet, held, counting, nested, fallback.
    pub enter_slow: unsafe extern "C" fn(*const GateHead) -> EnteredWire,
    /// The last handle of a gate goes.
    pub gate_last: unsafe extern "C" fn(*const GateHead),
    /// The last pin of a replaced instance goes.
    pub instance_last: unsafe extern "C" fn(*const InstanceHead),
    /// Keeps a text in the host's memory.
    pub message_new: unsafe extern "C" fn(RawStr) -> *mut Message,
    /// Gives it up.
    pub message_free: unsafe extern "C" fn(*mut Message),
    /// References an interface.
    pub reference: unsafe extern "C" fn(*const (), *const ReferenceWire) -> ReferencedWire,
    /// Releases a raw reference.
    pub raw_release: unsafe extern "C" fn(*mut ()) -> *mut Message,
}

// SAFETY: a table of constants; `factory` is only passed back.
unsafe impl Sync for Services {}
// SAFETY: as above.
unsafe impl Send for Services {}

/// A reference as it crosses.
#[repr(C)]
#[derive(Debug)]
pub struct ReferenceWire {
    /// The interface's name.
    pub name: RawStr,
    /// The lowest version; with `exact` the one that is wanted.
    pub low: i32,
    /// The highest.
    pub high: i32,
    /// Is it one version, which another may replace?
    pub exact: u32,
    /// The caller's contract; null for a raw table.
    pub signature: *const Signature,
    /// Parameters.
    pub context: *const ContextWire,
}

/// What a reference gives, as it crosses.
#[repr(C)]
#[derive(Debug)]
pub struct ReferencedWire {
    /// The gate, counted for the caller; null for a raw table and on failure.
    pub gate: *const GateHead,
    /// The raw table; null for a typed interface and on failure.
    pub table: *const (),
    /// What releases the raw reference.
    pub raw: *mut (),
    /// Why there is nothing; null on success.
    pub error: *mut Message,
    /// [`ReferenceError::kind`](crate::ReferenceError::kind) as a static text.
    pub kind: RawStr,
}

/// The host's own table.
pub(crate) static HOST: Services = Services {
    size: size_of::<Services>(),
    abi: ABI_VERSION,
    tls_offset: 0,
    allocator: &raw const allocator::GLOBAL,
    factory: std::ptr::null(),
    enter_slow: gate::enter_slow,
    gate_last: handle::gate_last,
    instance_last: handle::instance_last,
    message_new,
    message_free,
    reference: factory::reference_wire,
    raw_release: factory::raw_release_wire,
};

static CURRENT: AtomicPtr<Services> = AtomicPtr::new((&raw const HOST).cast_mut());

/// This copy's table.
#[inline(always)]
pub(crate) fn current() -> &'static Services {
    // SAFETY: it points to `HOST`, or to what `receive` was promised to be as
    // good as static for this copy.
    unsafe { &*CURRENT.load(Ordering::Relaxed) }
}

/// Is this copy of lcr-core the host's own?
pub(crate) fn is_host() -> bool {
    std::ptr::eq(current(), &raw const HOST)
}

/// Makes `services` the table of this copy: called once, by the library's entry,
/// before any other code of it.
///
/// # Safety
///
/// The table must outlive the library.
pub(crate) unsafe fn receive(services: *const Services) {
    CURRENT.store(services.cast_mut(), Ordering::Release);
}

/// A text in the host's memory: it outlives the library whose code made it.
#[repr(C)]
#[derive(Debug)]
pub struct Message {
    text: RawSlice<u8>,
}

impl Message {
    /// Keeps `text`.
    pub(crate) fn new(text: &str) -> *mut Message {
        // SAFETY: the text is borrowed for the call.
        unsafe { (current().message_new)(RawStr::new(text)) }
    }

    /// The text; the message is given up.
    ///
    /// # Safety
    ///
    /// `message` must come from `new`, of any copy, and be taken once.
    pub(crate) unsafe fn take(message: *mut Message) -> String {
        // SAFETY: the caller's word; the text is copied before it is freed.
        unsafe {
            let text = String::from_utf8_lossy((*message).text.as_slice()).into_owned();
            (current().message_free)(message);
            text
        }
    }
}

unsafe extern "C" fn message_new(text: RawStr) -> *mut Message {
    // SAFETY: the caller lends the text for this call.
    let text = ManuallyDrop::new(unsafe { text.as_str() }.as_bytes().to_vec().into_boxed_slice());
    Box::into_raw(Box::new(Message { text: RawSlice::new(&text) }))
}

unsafe extern "C" fn message_free(message: *mut Message) {
    // SAFETY: it was made by `message_new`, of this copy: both stand in one table.
    unsafe {
        let message = Box::from_raw(message);
        let text = message.text.as_slice::<'static>();
        drop(Box::from_raw(std::ptr::from_ref(text).cast_mut()));
    }
}
