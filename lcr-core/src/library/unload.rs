//! Unmapping a library, or the reason why not.

use std::fmt;
use std::sync::atomic::Ordering;

use super::Library;
use crate::entry::{Book, RECORDED, STAY};
use crate::process::threads;

/// What became of a library that was to be unloaded.
#[derive(Debug)]
#[must_use]
pub enum Unload {
    /// Nothing of it is mapped, and its descriptor is closed.
    Unloaded,
    /// It is still there. `dlclose` was not called, except for [`Kept::Mapped`].
    Kept {
        /// Why.
        reason: Kept,
        /// The library: try again later.
        library: Library,
    },
}

/// Why a library stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kept {
    /// It says so: `library!(…; stay)`, or it was linked with `-z nodelete`.
    AskedToStay,
    /// It records no keys and threads: `library!` cannot on this machine.
    Unrecorded,
    /// A C library that calls this function: nobody records what it leaves behind.
    LeavesBehind(&'static str),
    /// The calling thread will return into it.
    OnStack,
    /// Threads that it spawned live.
    Threads(usize),
    /// Thread-locals of it, on other threads, wait for those threads' end.
    Locals(usize),
    /// Its ELF constructors spawned threads or initialised thread-locals, of which
    /// nobody knows when they end.
    Unmanaged(usize),
    /// `dlclose` was called, and something of it is mapped: another object needs
    /// it, or it exports unique symbols.
    Mapped,
}

impl Kept {
    /// Whether trying again later can help.
    #[must_use]
    pub fn may_pass(self) -> bool {
        match self {
            Kept::OnStack | Kept::Threads(_) | Kept::Locals(_) | Kept::Mapped => true,
            Kept::AskedToStay | Kept::Unrecorded | Kept::LeavesBehind(_) | Kept::Unmanaged(_) => false,
        }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kept::AskedToStay => write!(f, "it asks to stay"),
            Kept::Unrecorded => write!(f, "what it registers is not recorded on this machine"),
            Kept::LeavesBehind(what) => {
                write!(f, "a C library with {what}: what that leaves behind is not recorded")
            }
            Kept::OnStack => write!(f, "the unloading thread runs code of it"),
            Kept::Threads(1) => write!(f, "a thread that it spawned lives"),
            Kept::Threads(n) => write!(f, "{n} threads that it spawned live"),
            Kept::Locals(1) => write!(f, "a thread-local of it waits for its thread's end"),
            Kept::Locals(n) => write!(f, "{n} thread-locals of it wait for their threads' end"),
            Kept::Unmanaged(n) => write!(f, "its ELF constructors left {n} threads or thread-locals"),
            Kept::Mapped => write!(f, "closed, and yet mapped: another object needs it"),
        }
    }
}

/// What happens to thread-locals with a destructor that the library initialised on
/// threads other than the unloading one, which live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locals {
    /// The library is kept until those threads have ended.
    Wait,
    /// Their values are leaked, the destructors never run. Right for values that
    /// only cache: a thread pool would otherwise keep a library for ever.
    Forget,
}

fn book<'a>(book: *const Book) -> &'a Book {
    // SAFETY: a static of the library, mapped while its `Library` lives.
    unsafe { &*book }
}

impl Library {
    /// Unmaps the library if nothing of it can run any more.
    ///
    /// Destructors of the calling thread's own thread-locals run now, as at its end;
    /// then the ELF destructors, then those of its keys.
    ///
    /// A library that is kept is as it was, except that its thread-locals on this
    /// thread may be gone: do nothing with it but try again.
    ///
    /// What remains lost: a few dozen bytes for each *other* living thread on which
    /// the library used `std::thread::current()`, and what std's symbolizer read if a
    /// component took off its library's panic hook and printed a backtrace itself.
    ///
    /// # Safety
    ///
    /// No instance, function, static or text of the library is in use, and no thread
    /// will begin to use one. Nobody else has its [`Object`](super::Object)'s symbols. What its own
    /// threads and thread-locals do is looked after here; but a thread of the
    /// *program* that ends in this very instant must not have called the library
    /// through anything but a gate that was drained.
    pub unsafe fn try_unload(mut self, locals: Locals) -> Unload {
        let book = self.book;
        match self.reason_to_stay(locals) {
            Some(reason) => Unload::Kept { reason, library: self },
            // What its ELF destructors registered goes with it. Only the Book's address is
            // used: the Book has gone, and the next library's may stand there soon.
            // SAFETY: the caller's promise; threads, keys and stack were looked after.
            None if unsafe { self.object.close_then(|| threads::purge(book)) } => Unload::Unloaded,
            None => Unload::Kept { reason: Kept::Mapped, library: self },
        }
    }

    /// Takes back what can be taken back, unless there is a reason to keep it all.
    fn reason_to_stay(&self, locals: Locals) -> Option<Kept> {
        if self.object.is_closed() {
            // Nothing of it may be touched: just look whether it has gone.
            return None;
        }
        let table = self.table;
        let book = book(self.book);
        if table.flags & STAY != 0 || self.object.nodelete {
            return Some(Kept::AskedToStay);
        }
        if table.flags & RECORDED == 0 {
            return Some(Kept::Unrecorded);
        }
        if self.object.on_this_stack() {
            return Some(Kept::OnStack);
        }
        if let n @ 1.. = book.unmanaged.load(Ordering::Acquire) {
            return Some(Kept::Unmanaged(n));
        }
        if let n @ 1.. = book.threads.load(Ordering::Acquire) {
            return Some(Kept::Threads(n));
        }
        if locals == Locals::Wait
            && let n @ 1.. = threads::waiting_elsewhere(book)
        {
            return Some(Kept::Locals(n));
        }
        // From here on the library's own functions run, on this thread, for the last time.
        // A thread that it spawns now, or one that is just ending, still keeps it.
        // SAFETY: the library is mapped, and nobody else uses it.
        unsafe { (table.finish)() };
        threads::run_own(book);
        if locals == Locals::Forget {
            threads::forget(book);
        }
        threads::take_cells(book);
        if let n @ 1.. = book.threads.load(Ordering::Acquire) {
            return Some(Kept::Threads(n));
        }
        if let n @ 1.. = book.locals.load(Ordering::Acquire) {
            return Some(Kept::Locals(n));
        }
        // The keys go last, after the ELF destructors, which may use them.
        // SAFETY: as above; no thread of the library is left to use a key.
        unsafe { (book.close_keys)() };
        None
    }
}
