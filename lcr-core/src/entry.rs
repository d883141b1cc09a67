//! The library's side of the border: what `library!` puts into a shared object.
//!
//! A library is a one-line cdylib crate around component crates. `library!` gives
//! it one exported function, `lcr_v1_library`, through which the program hands
//! over its [`Services`] and takes the [`LibraryTable`]; the program's allocator;
//! and a [`Book`], in which the library records what would crash the process if
//! the library were unmapped all the same:
//!
//! - *keys*: `thread::current()` in a library makes std create a thread-specific
//!   key whose destructor lies in the library. The C library does not know whose
//!   it is: unmap, end the thread, and it jumps into nothing.
//! - *threads* that the library spawned, until they have run their last
//!   instruction of it.
//! - *thread-locals* with a destructor, which the C library would pin the library
//!   for, until the thread ends, without telling anyone.
//!
//! They are recorded by hidden definitions of `pthread_key_create`,
//! `pthread_key_delete`, `pthread_getspecific`, `pthread_setspecific`,
//! `pthread_create` and `__cxa_thread_atexit_impl` in the
//! library itself: its own calls to them, std's included, bind to these, and
//! nobody else's do.
//!
//! Invariants: the entry symbol is never referenced from within the library (in a
//! program that was linked with `-rdynamic` another copy might answer), the Book
//! is a static that is not exported, and nothing here allocates.

use std::ffi::{CStr, c_int, c_void};
use std::mem::{size_of, transmute};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use crate::allocator;
use crate::border;
use crate::descriptor::ABI_VERSION;
use crate::registry::{self, Registration};
use crate::services::{self, Services};

/// A thread's first function.
pub type StartFn = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;
/// What runs when a thread ends: a thread-local's or a key's destructor.
pub type ExitFn = unsafe extern "C" fn(*mut c_void);
/// Sees one registration of a library.
pub type VisitFn = unsafe extern "C" fn(cx: *mut c_void, registration: *const Registration);
/// The entry symbol's type.
pub type EntryFn = unsafe extern "C" fn(services: *const Services) -> *const LibraryTable;

/// The name of the entry symbol; the ABI version is part of it.
pub const ENTRY: &CStr = c"lcr_v1_library";

/// Flag: the library has an allocator of its own, its buffers are copied.
pub const OWN_ALLOCATOR: u32 = 1;
/// Flag: the library asks never to be unmapped.
pub const STAY: u32 = 1 << 1;
/// Flag: keys, threads and thread-locals are recorded in the Book.
pub const RECORDED: u32 = 1 << 2;

/// What a library answers to the program that loads it.
#[repr(C)]
#[derive(Debug)]
pub struct LibraryTable {
    /// The size of this table in bytes; it only grows, at its end.
    pub size: usize,
    /// [`ABI_VERSION`] of the library.
    pub abi: u32,
    /// [`OWN_ALLOCATOR`], [`STAY`], [`RECORDED`].
    pub flags: u32,
    /// Shows each of the library's components to `visit`.
    pub registrations: unsafe extern "C" fn(visit: VisitFn, cx: *mut c_void),
    /// What stands in the way of unmapping it.
    pub book: *const Book,
    /// The library's last act, on the thread that is about to unmap it.
    pub finish: unsafe extern "C" fn(),
}

/// What a library has registered with the C library, and must be taken back
/// before it can be unmapped.
#[repr(C)]
#[derive(Debug)]
pub struct Book {
    /// Threads that the library spawned and that may still run code of it.
    pub threads: AtomicUsize,
    /// Thread-locals of the library that wait for their destructor, all threads.
    pub locals: AtomicUsize,
    /// Registrations that nobody can take back: those of ELF constructors, made
    /// before the services arrived.
    pub unmanaged: AtomicUsize,
    /// The number of keys that the library has now.
    pub keys: unsafe extern "C" fn() -> usize,
    /// Runs the keys' destructors for the calling thread, as its end would.
    pub run_keys: unsafe extern "C" fn(),
    /// Says that `dlclose` follows: after the last ELF destructor the calling thread's
    /// keys are destroyed, and all keys deleted. Values of other threads are leaked.
    pub close_keys: unsafe extern "C" fn(),
}

// SAFETY: read-only, and what it points to is a static of the library.
unsafe impl Sync for LibraryTable {}
// SAFETY: as above.
unsafe impl Send for LibraryTable {}

/// This copy's Book: a library has exactly one copy of this crate.
static BOOK: Book = Book {
    threads: AtomicUsize::new(0),
    locals: AtomicUsize::new(0),
    unmanaged: AtomicUsize::new(0),
    keys,
    run_keys,
    close_keys,
};

impl LibraryTable {
    /// The table of a library with these flags: what `library!` writes.
    #[must_use]
    pub const fn new(own_allocator: bool, stay: bool) -> Self {
        let mut flags = 0;
        if own_allocator {
            flags |= OWN_ALLOCATOR;
        }
        if stay {
            flags |= STAY;
        }
        if cfg!(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")) {
            flags |= RECORDED;
        }
        LibraryTable {
            size: size_of::<LibraryTable>(),
            abi: ABI_VERSION,
            flags,
            registrations,
            book: &raw const BOOK,
            finish,
        }
    }
}

/// What the entry symbol does: takes the services, answers the table, or null if
/// it cannot work with these services.
///
/// # Safety
///
/// `services` as the program hands it over: valid for its `size`, for ever.
pub unsafe fn enter(services: *const Services, table: &'static LibraryTable) -> *const LibraryTable {
    // SAFETY: passed on.
    if !unsafe { services::receive(services) } {
        return null();
    }
    // SAFETY: `receive` has kept it: it lives for ever.
    border::arrive(unsafe { &*services });
    if table.flags & OWN_ALLOCATOR == 0 {
        // SAFETY: `receive` has checked the table.
        allocator::forward_to(unsafe { (*services).allocator });
    }
    table
}

unsafe extern "C" fn registrations(visit: VisitFn, cx: *mut c_void) {
    for registration in registry::registrations() {
        // SAFETY: the caller's function, with the caller's context.
        unsafe { visit(cx, registration) }
    }
}

unsafe extern "C" fn finish() {}

// Keys. A bit for each key number there can be: nothing to allocate, nothing to lock.

const KEYS_MAX: usize = 1024;
static KEYS: [AtomicU64; KEYS_MAX / 64] = [const { AtomicU64::new(0) }; KEYS_MAX / 64];
/// Those of them whose values are cells of the program.
static CELLS: [AtomicU64; KEYS_MAX / 64] = [const { AtomicU64::new(0) }; KEYS_MAX / 64];
static KEY_EXITS: [AtomicPtr<c_void>; KEYS_MAX] = [const { AtomicPtr::new(null_mut()) }; KEYS_MAX];

unsafe extern "C" fn keys() -> usize {
    KEYS.iter().map(|word| word.load(Ordering::Acquire).count_ones() as usize).sum()
}

fn each_key(mut visit: impl FnMut(libc::pthread_key_t)) {
    for (index, word) in KEYS.iter().enumerate() {
        let mut bits = word.load(Ordering::Acquire);
        while bits != 0 {
            visit(index as libc::pthread_key_t * 64 + bits.trailing_zeros());
            bits &= bits - 1;
        }
    }
}

unsafe extern "C" fn run_keys() {
    // A destructor may set another key: POSIX tries PTHREAD_DESTRUCTOR_ITERATIONS (4) times.
    for _ in 0..4 {
        let mut ran = false;
        each_key(|key| {
            let exit = KEY_EXITS[key as usize].load(Ordering::Acquire);
            // SAFETY: the key is the library's and has not been deleted.
            let value = unsafe { key_get(key) };
            if exit.is_null() || value.is_null() {
                return;
            }
            ran = true;
            // SAFETY: `exit` is the destructor that the key was created with, and the
            // value is taken away first, as the C library does.
            unsafe {
                key_set(key, null_mut());
                transmute::<*mut c_void, ExitFn>(exit)(value);
            }
        });
        if !ran {
            break;
        }
    }
}

/// Whether `dlclose` has been announced: a program's exit runs ELF destructors too,
/// while other threads still use their keys.
static CLOSING: AtomicBool = AtomicBool::new(false);

unsafe extern "C" fn close_keys() {
    CLOSING.store(true, Ordering::Release);
}

/// The library's last ELF destructor. Were the keys deleted before the others run,
/// std would go on using their numbers, which may be someone else's by then.
///
/// # Safety
///
/// Only for the dynamic linker.
pub unsafe extern "C" fn closed() {
    if !CLOSING.load(Ordering::Acquire) {
        return;
    }
    let exits = || {
        if let Some(services) = services::received() {
            // SAFETY: this library's Book; thread-locals that ELF destructors initialised.
            unsafe { (services.run_exits)(&raw const BOOK) }
        }
    };
    border::leave();
    exits();
    // SAFETY: the thread that unmaps the library, which has no other any more.
    unsafe { run_keys() };
    exits();
    // SAFETY: as above.
    unsafe { border::depart() };
    each_key(|key| {
        // SAFETY: the key is the library's; `key_delete` clears its bit.
        unsafe { key_delete(key) };
    });
}

/// The C library's own function of that name: the one that is not this library's.
macro_rules! real {
    ($name:literal as $type:ty) => {{
        static REAL: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
        let mut real = REAL.load(Ordering::Relaxed);
        if real.is_null() {
            // SAFETY: a name that ends with NUL.
            real = unsafe { libc::dlsym(libc::RTLD_NEXT, $name.as_ptr()) };
            REAL.store(real, Ordering::Relaxed);
        }
        // SAFETY: null is `None`; otherwise the function of that name, whose type POSIX
        // (or the C++ ABI) fixes.
        unsafe { transmute::<*mut c_void, Option<$type>>(real) }
    }};
}

/// The library's `pthread_key_create`.
///
/// # Safety
///
/// As `pthread_key_create`.
pub unsafe extern "C" fn key_create(key: *mut libc::pthread_key_t, exit: Option<ExitFn>) -> c_int {
    let real = real!(
        c"pthread_key_create" as unsafe extern "C" fn(*mut libc::pthread_key_t, Option<ExitFn>) -> c_int
    );
    let Some(real) = real else { return libc::ENOSYS };
    let services = services::received().filter(|_| exit.is_some());
    // SAFETY: the caller's arguments, but for the destructor, which is the program's.
    let answer = unsafe { real(key, services.map_or(exit, |services| Some(services.key_exit))) };
    if answer == 0 {
        // SAFETY: the call has just written it.
        let key = unsafe { *key } as usize;
        match KEY_EXITS.get(key) {
            Some(cell) => {
                if services.is_some() {
                    CELLS[key / 64].fetch_or(1 << (key % 64), Ordering::AcqRel);
                }
                cell.store(exit.map_or(null_mut(), |exit| exit as *mut c_void), Ordering::Release);
                KEYS[key / 64].fetch_or(1 << (key % 64), Ordering::AcqRel);
            }
            None => {
                BOOK.unmanaged.fetch_add(1, Ordering::AcqRel);
            }
        }
    }
    answer
}

/// The library's `pthread_key_delete`: a key that std gave back must not be
/// deleted again when it is someone else's.
///
/// # Safety
///
/// As `pthread_key_delete`.
pub unsafe extern "C" fn key_delete(key: libc::pthread_key_t) -> c_int {
    if let Some(word) = KEYS.get(key as usize / 64) {
        word.fetch_and(!(1 << (key % 64)), Ordering::AcqRel);
        CELLS[key as usize / 64].fetch_and(!(1 << (key % 64)), Ordering::AcqRel);
    }
    let real = real!(c"pthread_key_delete" as unsafe extern "C" fn(libc::pthread_key_t) -> c_int);
    let Some(real) = real else { return libc::ENOSYS };
    // SAFETY: the caller's argument.
    unsafe { real(key) }
}

/// The program's functions and the destructor, if the key's values are cells.
fn cells_of(key: libc::pthread_key_t) -> Option<(&'static Services, ExitFn)> {
    let word = CELLS.get(key as usize / 64)?;
    if word.load(Ordering::Acquire) & 1 << (key % 64) == 0 {
        return None;
    }
    let exit = KEY_EXITS[key as usize].load(Ordering::Acquire);
    // SAFETY: a key with cells was created with a destructor, of this type.
    Some((services::received()?, unsafe { transmute::<*mut c_void, Option<ExitFn>>(exit) }?))
}

/// The library's `pthread_getspecific`.
///
/// # Safety
///
/// As `pthread_getspecific`.
pub unsafe extern "C" fn key_get(key: libc::pthread_key_t) -> *mut c_void {
    let real = real!(c"pthread_getspecific" as unsafe extern "C" fn(libc::pthread_key_t) -> *mut c_void);
    let Some(real) = real else { return null_mut() };
    // SAFETY: the caller's argument.
    let found = unsafe { real(key) };
    match cells_of(key) {
        // SAFETY: this thread's cell, made by `key_set`.
        Some((services, _)) if !found.is_null() => unsafe { (services.key_value)(found, null_mut()) },
        _ => found,
    }
}

/// The library's `pthread_setspecific`.
///
/// # Safety
///
/// As `pthread_setspecific`.
pub unsafe extern "C" fn key_set(key: libc::pthread_key_t, value: *mut c_void) -> c_int {
    let get = real!(c"pthread_getspecific" as unsafe extern "C" fn(libc::pthread_key_t) -> *mut c_void);
    let set =
        real!(c"pthread_setspecific" as unsafe extern "C" fn(libc::pthread_key_t, *mut c_void) -> c_int);
    let (Some(get), Some(set)) = (get, set) else { return libc::ENOSYS };
    let Some((services, exit)) = cells_of(key) else {
        // SAFETY: the caller's arguments.
        return unsafe { set(key, value) };
    };
    // SAFETY: the library's key; its value is null or this thread's cell.
    unsafe {
        let cell = get(key);
        if cell.is_null() && value.is_null() {
            return 0;
        }
        if cell.is_null() {
            let cell = (services.key_cell)(value, exit, &raw const BOOK);
            let answer = set(key, cell);
            if answer != 0 {
                (services.key_free)(cell);
            }
            return answer;
        }
        if value.is_null() {
            let answer = set(key, null_mut());
            if answer == 0 {
                (services.key_free)(cell);
            }
            return answer;
        }
        (services.key_value)(cell, value);
        0
    }
}

/// The library's `pthread_create`.
///
/// # Safety
///
/// As `pthread_create`.
pub unsafe extern "C" fn thread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: StartFn,
    argument: *mut c_void,
) -> c_int {
    if let Some(services) = services::received() {
        // SAFETY: the caller's arguments, and the Book of this library.
        return unsafe { (services.thread_create)(thread, attributes, start, argument, &raw const BOOK) };
    }
    BOOK.unmanaged.fetch_add(1, Ordering::AcqRel);
    type Create = unsafe extern "C" fn(
        *mut libc::pthread_t,
        *const libc::pthread_attr_t,
        StartFn,
        *mut c_void,
    ) -> c_int;
    let Some(real) = real!(c"pthread_create" as Create) else { return libc::ENOSYS };
    // SAFETY: the caller's arguments.
    unsafe { real(thread, attributes, start, argument) }
}

/// The library's `__cxa_thread_atexit_impl`.
///
/// # Safety
///
/// As the C++ ABI's `__cxa_thread_atexit`.
pub unsafe extern "C" fn at_thread_exit(exit: ExitFn, value: *mut c_void, object: *mut c_void) -> c_int {
    if let Some(services) = services::received() {
        // SAFETY: the caller's arguments, and the Book of this library.
        return unsafe { (services.at_thread_exit)(exit, value, &raw const BOOK) };
    }
    BOOK.unmanaged.fetch_add(1, Ordering::AcqRel);
    let real =
        real!(c"__cxa_thread_atexit_impl" as unsafe extern "C" fn(ExitFn, *mut c_void, *mut c_void) -> c_int);
    let Some(real) = real else { return -1 };
    // SAFETY: the caller's arguments.
    unsafe { real(exit, value, object) }
}

/// Makes the crate's shared object a library of components.
///
/// Written once, at the root of a crate whose only `crate-type` is `cdylib`, it
/// names the component crates that the library holds; their source does not know
/// whether it is compiled into a program or loaded:
///
/// ```text
/// lcr_core::library!(english_component);
/// ```
///
/// Options stand behind a semicolon:
///
/// - `own_allocator`: the library keeps the global allocator that its source
///   declares (or the default one), instead of using the program's. What it
///   returns is then copied.
/// - `stay`: the library is never unmapped once it has been loaded.
///
/// ```text
/// lcr_core::library!(english_component, french_component; own_allocator, stay);
/// ```
///
/// A crate without dependencies, whose own modules are the components, says
/// `library!()`.
#[macro_export]
macro_rules! library {
    ($($($krate:ident)::+),* $(,)?) => {
        $crate::__library!([$($($krate)::+),*] allocator: forward, own: false, stay: false);
    };
    ($($($krate:ident)::+),* $(,)?; own_allocator $(,)?) => {
        $crate::__library!([$($($krate)::+),*] allocator: own, own: true, stay: false);
    };
    ($($($krate:ident)::+),* $(,)?; stay $(,)?) => {
        $crate::__library!([$($($krate)::+),*] allocator: forward, own: false, stay: true);
    };
    ($($($krate:ident)::+),* $(,)?; own_allocator, stay $(,)?) => {
        $crate::__library!([$($($krate)::+),*] allocator: own, own: true, stay: true);
    };
    ($($($krate:ident)::+),* $(,)?; stay, own_allocator $(,)?) => {
        $crate::__library!([$($($krate)::+),*] allocator: own, own: true, stay: true);
    };
    ($($($krate:ident)::+),* $(,)?; $($option:tt)*) => {
        ::std::compile_error!(::std::concat!(
            "library! knows the options `own_allocator` and `stay`, not `",
            ::std::stringify!($($option)*), "`: write library!(crate, …; own_allocator, stay)"
        ));
    };
}

/// What `library!` expands to. Unit tests of a library crate are a program, which
/// has no entry and the usual allocator.
#[doc(hidden)]
#[macro_export]
macro_rules! __library {
    ([$($($krate:ident)::+),*] allocator: $allocator:ident, own: $own:literal, stay: $stay:literal) => {
        $(#[allow(unused_imports)] use $($krate)::+ as _;)*

        #[cfg(not(test))]
        const _: () = {
            use $crate::__private::entry;

            static TABLE: entry::LibraryTable = entry::LibraryTable::new($own, $stay);

            /// # Safety
            ///
            /// Called by the program that loads the library, with its services.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn lcr_v1_library(
                services: *const $crate::__private::Services,
            ) -> *const entry::LibraryTable {
                // SAFETY: the program's services, passed on.
                unsafe { entry::enter(services, &TABLE) }
            }

            // The lowest priority of all: destructors run in reverse order, this one last.
            #[used]
            #[unsafe(link_section = ".fini_array.00000")]
            static CLOSED: unsafe extern "C" fn() = entry::closed;

            $crate::__library_allocator!($allocator);
            $crate::__library_note!(own_allocator: $own, stay: $stay);
        };

        // At the root: assembly is an item.
        #[cfg(not(test))]
        $crate::__library_recorder!("pthread_key_create", $crate::__private::entry::key_create);
        #[cfg(not(test))]
        $crate::__library_recorder!("pthread_key_delete", $crate::__private::entry::key_delete);
        #[cfg(not(test))]
        $crate::__library_recorder!("pthread_getspecific", $crate::__private::entry::key_get);
        #[cfg(not(test))]
        $crate::__library_recorder!("pthread_setspecific", $crate::__private::entry::key_set);
        #[cfg(not(test))]
        $crate::__library_recorder!("pthread_create", $crate::__private::entry::thread_create);
        #[cfg(not(test))]
        $crate::__library_recorder!("__cxa_thread_atexit_impl", $crate::__private::entry::at_thread_exit);
    };
}

/// The library's global allocator.
#[doc(hidden)]
#[macro_export]
macro_rules! __library_allocator {
    (forward) => {
        #[global_allocator]
        static ALLOCATOR: $crate::allocator::Forward = $crate::allocator::Forward;
    };
    (own) => {};
}

/// The library's metadata note.
#[doc(hidden)]
#[macro_export]
macro_rules! __library_note {
    (own_allocator: $own:literal, stay: $stay:literal) => {
        const NOTE_TEXT: &[$crate::text::Piece] = &[
            $crate::text::Piece::Str("{\"lcr\":1,\"kind\":\"library\",\"package\":\""),
            $crate::text::Piece::Str($crate::__private::known(::core::option_env!("CARGO_PKG_NAME"))),
            $crate::text::Piece::Str("\",\"package_version\":\""),
            $crate::text::Piece::Str($crate::__private::known(::core::option_env!("CARGO_PKG_VERSION"))),
            $crate::text::Piece::Str("\",\"rustc\":\""),
            $crate::text::Piece::Str($crate::__private::RUSTC),
            $crate::text::Piece::Str(::core::concat!(
                "\",\"own_allocator\":",
                $own,
                ",\"stay\":",
                $stay,
                "}"
            )),
        ];
        #[used]
        #[unsafe(link_section = ".note.lcr")]
        static NOTE: $crate::note::Note<{ $crate::note::pad4($crate::text::len(NOTE_TEXT)) }> =
            $crate::note::Note::new(NOTE_TEXT);
    };
}

/// The instruction that goes on elsewhere, with all arguments as they are.
#[cfg(target_arch = "x86_64")]
#[doc(hidden)]
#[macro_export]
macro_rules! __library_jump {
    () => {
        "jmp {recorder}"
    };
}

/// The instruction that goes on elsewhere, with all arguments as they are.
#[cfg(target_arch = "aarch64")]
#[doc(hidden)]
#[macro_export]
macro_rules! __library_jump {
    () => {
        "b {recorder}"
    };
}

/// The instruction that goes on elsewhere, with all arguments as they are.
#[cfg(target_arch = "riscv64")]
#[doc(hidden)]
#[macro_export]
macro_rules! __library_jump {
    () => {
        "tail {recorder}"
    };
}

/// A hidden definition of a C function, for this object only, that jumps to ours.
#[doc(hidden)]
#[macro_export]
macro_rules! __library_recorder {
    ($name:literal, $recorder:path) => {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
        ::std::arch::global_asm!(
            ".pushsection .text.lcr_recorder,\"ax\",%progbits",
            // Weak, as std's own reference to one of them is; it still comes before the C library's.
            ::std::concat!(".weak ", $name),
            ::std::concat!(".hidden ", $name),
            ::std::concat!(".type ", $name, ",%function"),
            ".balign 16",
            ::std::concat!($name, ":"),
            $crate::__library_jump!(),
            ::std::concat!(".size ", $name, ", . - ", $name),
            ".popsection",
            recorder = sym $recorder,
        );
    };
}
