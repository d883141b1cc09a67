//! Threads and thread-locals of libraries, kept in the program.
//!
//! A thread that a library spawns begins and ends here: when its function has
//! returned, the library's thread-locals and keys on it are destroyed at once,
//! and only then is it no longer counted. What runs on it afterwards is the
//! program's code and the C library's. A thread that has been joined is thus
//! never counted.
//!
//! A thread-local's destructor is kept in a list of the program instead of the C
//! library's: that one would pin the library without a word. When a thread ends,
//! its entries run, last registered first; when a library is unmapped by a thread
//! that has entries of its own for it, they run there and then.
//!
//! Keys are treated alike: their destructor is the program's, and their values are
//! *cells* of the program, which hold the library's value and destructor. A thread
//! that ends claims its cell before it runs the library's destructor; a thread that
//! unloads takes all cells away. One of them comes first.
//!
//! Invariants: an entry is taken from the list by exactly one thread, which runs
//! it (or, unloading, forgets it) and only afterwards uncounts it in the library's
//! Book (a cell is counted while its destructor runs, and from the moment on in
//! which it is claimed); the locks are never held while a library's code runs.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::mem::transmute;
use std::ptr::null_mut;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::entry::{Book, ExitFn, StartFn};

/// A destructor that waits for its thread's end.
struct Pending {
    thread: usize,
    book: *const Book,
    exit: ExitFn,
    value: *mut c_void,
}

// SAFETY: only the thread that is named in it, or one that forgets it, uses an entry.
unsafe impl Send for Pending {}

static PENDING: Mutex<Vec<Pending>> = Mutex::new(Vec::new());

thread_local! {
    /// Whether the C library will call `thread_ends` on this thread. Without a
    /// destructor, so that it can be used until the very end; its address names
    /// the thread.
    static HOOKED: Cell<bool> = const { Cell::new(false) };
}

fn pending() -> MutexGuard<'static, Vec<Pending>> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn this_thread() -> usize {
    HOOKED.with(|hooked| std::ptr::from_ref(hooked).addr())
}

/// `Services::at_thread_exit`.
pub(crate) unsafe extern "C" fn at_exit(exit: ExitFn, value: *mut c_void, book: *const Book) -> c_int {
    if !HOOKED.get() {
        if !hook() {
            return -1;
        }
        HOOKED.set(true);
    }
    // SAFETY: a library's Book, and the library is running this call.
    unsafe { (*book).locals.fetch_add(1, Ordering::AcqRel) };
    pending().push(Pending { thread: this_thread(), book, exit, value });
    0
}

/// Asks the C library to call `thread_ends` when the calling thread ends.
fn hook() -> bool {
    if cfg!(target_feature = "crt-static") {
        // A static program has no libraries.
        return false;
    }
    type AtExit = unsafe extern "C" fn(ExitFn, *mut c_void, *mut c_void) -> c_int;
    // SAFETY: a name that ends with NUL.
    let real = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__cxa_thread_atexit_impl".as_ptr()) };
    // SAFETY: null is `None`; otherwise the function of that name, whose type the C++ ABI fixes.
    let Some(real) = (unsafe { transmute::<*mut c_void, Option<AtExit>>(real) }) else { return false };
    let object = (&raw const PENDING).cast_mut().cast();
    // SAFETY: `thread_ends` lies in the object that holds `PENDING`, which this pins.
    unsafe { real(thread_ends, null_mut(), object) == 0 }
}

unsafe extern "C" fn thread_ends(_: *mut c_void) {
    // A destructor may register another: the C library then calls once more.
    HOOKED.set(false);
    let thread = this_thread();
    run_where(|entry| entry.thread == thread);
}

/// `Services::run_exits`.
pub(crate) unsafe extern "C" fn run_exits(book: *const Book) {
    run_own(book);
}

/// Runs the calling thread's destructors of one library.
pub(crate) fn run_own(book: *const Book) {
    let thread = this_thread();
    run_where(|entry| entry.thread == thread && std::ptr::eq(entry.book, book));
}

fn run_where(mine: impl Fn(&Pending) -> bool) {
    loop {
        let taken = {
            let mut pending = pending();
            let last = pending.iter().rposition(&mine);
            last.map(|at| pending.remove(at))
        };
        let Some(Pending { thread: _, book, exit, value }) = taken else { return };
        // SAFETY: registered for this thread, and taken once; the library stays mapped while
        // its Book counts the entry.
        unsafe { exit(value) };
        // SAFETY: as above. Last access: from here on the library may go.
        unsafe { (*book).locals.fetch_sub(1, Ordering::AcqRel) };
    }
}

/// How many destructors of the library wait on other threads.
pub(crate) fn waiting_elsewhere(book: *const Book) -> usize {
    let thread = this_thread();
    pending().iter().filter(|entry| entry.thread != thread && std::ptr::eq(entry.book, book)).count()
}

/// Forgets what waits on any thread: those values are leaked.
pub(crate) fn forget(book: *const Book) {
    let mut pending = pending();
    let before = pending.len();
    pending.retain(|entry| !std::ptr::eq(entry.book, book));
    let forgotten = before - pending.len();
    // SAFETY: the caller holds the library, which is mapped.
    unsafe { (*book).locals.fetch_sub(forgotten, Ordering::AcqRel) };
}

/// Forgets what the ELF destructors of a library registered, which is gone now.
pub(crate) fn purge(book: *const Book) {
    pending().retain(|entry| !std::ptr::eq(entry.book, book));
    take_cells(book);
}

/// A key's value on one thread.
struct KeyCell {
    value: *mut c_void,
    exit: ExitFn,
    book: *const Book,
}

/// The address of a Book, as a mark.
struct Owner(*const Book);

// SAFETY: only compared, or used by a thread that has claimed the cell.
unsafe impl Send for Owner {}

/// The cells whose destructor will run, by address.
static CELLS: Mutex<BTreeMap<usize, Owner>> = Mutex::new(BTreeMap::new());

fn cells() -> MutexGuard<'static, BTreeMap<usize, Owner>> {
    CELLS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `Services::key_cell`.
pub(crate) unsafe extern "C" fn key_cell(value: *mut c_void, exit: ExitFn, book: *const Book) -> *mut c_void {
    let cell = Box::into_raw(Box::new(KeyCell { value, exit, book }));
    cells().insert(cell.addr(), Owner(book));
    cell.cast()
}

/// `Services::key_value`.
pub(crate) unsafe extern "C" fn key_value(cell: *mut c_void, new: *mut c_void) -> *mut c_void {
    // SAFETY: the calling thread's own cell: nobody else looks into it.
    let cell = unsafe { &mut *cell.cast::<KeyCell>() };
    if !new.is_null() {
        cell.value = new;
    }
    cell.value
}

/// `Services::key_free`.
pub(crate) unsafe extern "C" fn key_free(cell: *mut c_void) {
    cells().remove(&cell.addr());
    // SAFETY: the calling thread's own, and its key does not hold it any more.
    drop(unsafe { Box::from_raw(cell.cast::<KeyCell>()) });
}

/// `Services::key_exit`: the destructor of libraries' keys.
pub(crate) unsafe extern "C" fn key_ends(cell: *mut c_void) {
    let claimed = {
        let mut cells = cells();
        let claimed = cells.remove(&cell.addr());
        if let Some(Owner(book)) = claimed {
            // Under the lock: who takes the cells away afterwards sees the count.
            // SAFETY: nobody has taken the cell away, thus the library is mapped.
            unsafe { (*book).locals.fetch_add(1, Ordering::AcqRel) };
        }
        claimed
    };
    // SAFETY: the ending thread's own, and its key does not hold it any more.
    let KeyCell { value, exit, book } = *unsafe { Box::from_raw(cell.cast::<KeyCell>()) };
    if claimed.is_some() {
        // SAFETY: the library's destructor and value; it stays mapped while we are counted.
        unsafe { exit(value) };
        // SAFETY: as above. Last access: from here on the library may go.
        unsafe { (*book).locals.fetch_sub(1, Ordering::AcqRel) };
    }
}

/// Takes the library's cells away: on no thread will its keys' destructors begin
/// any more. Those that have begun are counted in the Book's `locals`.
pub(crate) fn take_cells(book: *const Book) {
    cells().retain(|_, owner| !std::ptr::eq(owner.0, book));
}

/// What a library's thread is started with.
struct Start {
    start: StartFn,
    argument: *mut c_void,
    book: *const Book,
}

/// `Services::thread_create`.
pub(crate) unsafe extern "C" fn create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: StartFn,
    argument: *mut c_void,
    book: *const Book,
) -> c_int {
    let begin = Box::into_raw(Box::new(Start { start, argument, book }));
    // SAFETY: the Book of the library that is running this call.
    unsafe { (*book).threads.fetch_add(1, Ordering::AcqRel) };
    // SAFETY: `libc` spells the start function without unwinding; the two types differ in
    // nothing else, and the C library lets `pthread_exit` unwind through it.
    let run = unsafe { transmute::<StartFn, extern "C" fn(*mut c_void) -> *mut c_void>(run) };
    // SAFETY: the library's own arguments; `run` takes `begin` over.
    let answer = unsafe { libc::pthread_create(thread, attributes, run, begin.cast()) };
    if answer != 0 {
        // SAFETY: no thread was made: the box is still ours, the Book still counts us.
        unsafe {
            drop(Box::from_raw(begin));
            (*book).threads.fetch_sub(1, Ordering::AcqRel);
        }
    }
    answer
}

/// A library's thread, from beginning to end. A thread that leaves by
/// `pthread_exit` never comes back here: it stays counted, and the library mapped.
unsafe extern "C-unwind" fn run(begin: *mut c_void) -> *mut c_void {
    // SAFETY: made by `create`, for this thread alone.
    let Start { start, argument, book } = unsafe { *Box::from_raw(begin.cast::<Start>()) };
    // SAFETY: the library's function and argument; it stays mapped while we are counted.
    let answer = unsafe { start(argument) };
    // In the C library's order: thread-locals, then keys, whose destructors may touch
    // thread-locals once more.
    run_own(book);
    // SAFETY: as above.
    unsafe { ((*book).run_keys)() };
    run_own(book);
    // SAFETY: as above. Last access: from here on the library may go.
    unsafe { (*book).threads.fetch_sub(1, Ordering::AcqRel) };
    answer
}
