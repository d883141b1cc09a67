//! What a host offers to a library's code.
//!
//! A library has its own copy of lcr-core, with statics of its own; registry,
//! factory, gates and threads' cells are the host's. Each copy therefore reaches
//! them through a table of functions, [`Services`]: in a host it is the host's
//! own, in a library the one that `lcr_v1_library` received. Everything in the
//! table has C's layout, and `size` comes first, so that it can grow at its end.

use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::abi::{RawSlice, RawStr};
use crate::allocator::{self, Allocator};
use crate::border;
use crate::border::log::LogServices;
use crate::border::panics::PanicWire;
use crate::border::trace::TraceServices;
use crate::context::ContextWire;
use crate::contract::Signature;
use crate::descriptor::ABI_VERSION;
use crate::entry::{Book, ExitFn, StartFn};
use crate::gate::{GateHead, InstanceHead, Reach};
use crate::process::threads;
use crate::{factory, handle};

/// The table of functions that a host hands to a library.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Services {
    /// The size of this table in bytes.
    pub size: usize,
    /// The host's ABI version.
    pub abi: u32,
    /// The host's allocator.
    pub allocator: *const Allocator,
    /// `pthread_create` on behalf of a library: the thread starts and ends in the
    /// program's code, and is counted in the library's [`Book`] until no code of
    /// the library can run on it any more.
    pub thread_create: unsafe extern "C" fn(
        thread: *mut libc::pthread_t,
        attributes: *const libc::pthread_attr_t,
        start: StartFn,
        argument: *mut c_void,
        book: *const Book,
    ) -> c_int,
    /// `__cxa_thread_atexit_impl` on behalf of a library: the program calls
    /// `exit(value)` when the thread ends. Answers 0, or -1 if it cannot.
    pub at_thread_exit: unsafe extern "C" fn(exit: ExitFn, value: *mut c_void, book: *const Book) -> c_int,
    /// Runs what was registered so for the calling thread and that library, now.
    pub run_exits: unsafe extern "C" fn(book: *const Book),
    /// The destructor that a library's keys are created with: the program's, so that
    /// a thread that is ending never jumps into a library that is going. Their values
    /// are cells of the program's.
    pub key_exit: ExitFn,
    /// A cell with a value, which the key's destructor passes to `exit`.
    pub key_cell: unsafe extern "C" fn(value: *mut c_void, exit: ExitFn, book: *const Book) -> *mut c_void,
    /// The value of a cell; changed first, if `new` is not null.
    pub key_value: unsafe extern "C" fn(cell: *mut c_void, new: *mut c_void) -> *mut c_void,
    /// Frees a cell whose key has another value, or none, now.
    pub key_free: unsafe extern "C" fn(cell: *mut c_void),
    /// How a call finds its thread's cells.
    pub reach: Reach,
    /// The last handle of a gate goes.
    pub gate_last: unsafe extern "C" fn(*const GateHead),
    /// The last pin of an instance goes.
    pub instance_last: unsafe extern "C" fn(*const InstanceHead),
    /// Does what is behind a gate fit this signature? Null, or why not.
    pub gate_accepts: unsafe extern "C" fn(*const GateHead, *const Signature) -> *mut Message,
    /// Keeps a text in the host's memory.
    pub message_new: unsafe extern "C" fn(RawStr) -> *mut Message,
    /// Gives it up.
    pub message_free: unsafe extern "C" fn(*mut Message),
    /// Which factory loaded the library: passed back to `reference`. 0: the
    /// process-wide one.
    pub factory: u64,
    /// References an interface.
    pub reference: unsafe extern "C" fn(u64, *const ReferenceWire) -> ReferencedWire,
    /// Releases a raw reference.
    pub raw_release: unsafe extern "C" fn(*mut ()) -> *mut Message,
    /// Where log records go; null if the program was built without `log`.
    pub log: *const LogServices,
    /// Where tracing events and spans go; null if it was built without `tracing`.
    pub trace: *const TraceServices,
    /// A component panics: what the library's panic hook calls.
    pub panicked: unsafe extern "C" fn(*const PanicWire),
}

// SAFETY: a table of constants.
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

/// The host's own table, as its own code uses it. What a library gets has the
/// gates' [`Reach`] and the factory's number in it.
static HOST: Services = Services {
    size: size_of::<Services>(),
    abi: ABI_VERSION,
    allocator: &raw const allocator::GLOBAL,
    thread_create: threads::create,
    at_thread_exit: threads::at_exit,
    run_exits: threads::run_exits,
    key_exit: threads::key_ends,
    key_cell: threads::key_cell,
    key_value: threads::key_value,
    key_free: threads::key_free,
    reach: Reach::NOWHERE,
    gate_last: handle::gate_last,
    instance_last: handle::instance_last,
    gate_accepts: handle::gate_accepts,
    message_new,
    message_free,
    factory: 0,
    reference: factory::reference_wire,
    raw_release: factory::raw_release_wire,
    log: border::log::OFFERED,
    trace: border::trace::OFFERED,
    panicked: border::panics::panicked,
};

/// The host's table, in a library that was handed one.
static RECEIVED: AtomicPtr<Services> = AtomicPtr::new(ptr::null_mut());

/// This copy's table: the one it was handed, else its own.
#[must_use]
pub fn current() -> &'static Services {
    received().unwrap_or(&HOST)
}

/// The host's table, if this copy of the crate is in a library and was handed one.
#[must_use]
pub fn received() -> Option<&'static Services> {
    // SAFETY: `receive` stored a pointer to a table that lives as long as the host.
    unsafe { RECEIVED.load(Ordering::Acquire).as_ref() }
}

/// Is this copy of the crate the host's own?
pub(crate) fn is_host() -> bool {
    received().is_none()
}

/// The table for libraries that belong to the process-wide factory.
pub(crate) fn offered_by_process() -> &'static Services {
    static PROCESS: once_cell::sync::OnceCell<&'static Services> = once_cell::sync::OnceCell::new();
    PROCESS.get_or_init(|| offered(0))
}

/// A table for the libraries of the factory with this number. It is never freed:
/// a library may outlive its factory.
pub(crate) fn offered(factory: u64) -> &'static Services {
    Box::leak(Box::new(Services { reach: Reach::of_host(), factory, ..current().clone() }))
}

/// Keeps the host's table. False if this copy cannot work with it.
///
/// # Safety
///
/// `services` is null or points to a table that lives as long as the host, of
/// which the first `size` bytes are valid; and this copy has used none before.
pub(crate) unsafe fn receive(services: *const Services) -> bool {
    if services.is_null() {
        return false;
    }
    // SAFETY: not null, and every table begins with these two fields.
    let (size, abi) = unsafe { ((*services).size, (*services).abi) };
    if abi != ABI_VERSION || size < size_of::<Services>() {
        return false;
    }
    // SAFETY: whole, as was just compared; no gate has been entered.
    unsafe { (*services).reach.adopt() };
    RECEIVED.store(services.cast_mut(), Ordering::Release);
    true
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
