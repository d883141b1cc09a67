//! Services: what a program gives to the libraries that it loads.
//!
//! Every library has its own copy of this crate, with its own statics. What must
//! exist once for the whole process (the allocator, the threads' ends) is the
//! program's, and a library reaches it through one table of functions that it is
//! handed when it is loaded, by its entry symbol.
//!
//! Invariants: the table is `'static` in the program, which outlives its
//! libraries; it only grows at its end, and `size` says how far it reaches.

use std::ffi::{c_int, c_void};
use std::mem::size_of;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::allocator::{self, Allocator};
use crate::descriptor::ABI_VERSION;
use crate::entry::{Book, ExitFn, StartFn};

/// The program's functions.
#[repr(C)]
#[derive(Debug)]
pub struct Services {
    /// The size of this table in bytes.
    pub size: usize,
    /// [`ABI_VERSION`] of the program.
    pub abi: u32,
    /// The program's allocator.
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
}

// SAFETY: the table is read-only, and what it points to is `'static` in the program.
unsafe impl Sync for Services {}
// SAFETY: as above.
unsafe impl Send for Services {}

/// The program's table, in a library that was handed one.
static RECEIVED: AtomicPtr<Services> = AtomicPtr::new(null_mut());

/// What this module offers to the libraries it loads: the table that it was
/// handed itself, else its own.
#[must_use]
pub fn offered() -> &'static Services {
    static OWN: Services = Services {
        size: size_of::<Services>(),
        abi: ABI_VERSION,
        allocator: &raw const allocator::GLOBAL,
        thread_create: crate::library::threads::create,
        at_thread_exit: crate::library::threads::at_exit,
        run_exits: crate::library::threads::run_exits,
        key_exit: crate::library::threads::key_ends,
        key_cell: crate::library::threads::key_cell,
        key_value: crate::library::threads::key_value,
        key_free: crate::library::threads::key_free,
    };
    received().unwrap_or(&OWN)
}

/// The program's table, if this module is a library and was handed one.
#[must_use]
pub fn received() -> Option<&'static Services> {
    // SAFETY: `receive` stored a pointer to a table that lives as long as the program.
    unsafe { RECEIVED.load(Ordering::Acquire).as_ref() }
}

/// Keeps the program's table. False if this module cannot work with it.
///
/// # Safety
///
/// `services` is null or points to a table that lives as long as the program, of
/// which the first `size` bytes are valid.
pub(crate) unsafe fn receive(services: *const Services) -> bool {
    if services.is_null() {
        return false;
    }
    // SAFETY: not null, and every table has at least these two fields.
    let (size, abi) = unsafe { ((*services).size, (*services).abi) };
    if abi != ABI_VERSION || size < size_of::<Services>() {
        return false;
    }
    RECEIVED.store(services.cast_mut(), Ordering::Release);
    true
}
