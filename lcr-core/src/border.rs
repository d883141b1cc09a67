//! What reaches the program beside calls: log records, tracing events, panics.
//!
//! A library has its own copies of `log`, `tracing-core` and std, with statics of
//! their own: a logger that the program installs is not there, and what the
//! library's std prints about a panic bypasses the program. So, as the
//! [`Services`] arrive, the library's copy of this
//! crate installs forwarders in the library's copies of those:
//!
//! - [`log`], feature `log`: records go to the program's logger.
//! - [`trace`], feature `tracing`: events and spans go to the program's dispatcher.
//! - [`panics`], always: what a panic says goes to the program, which prints it.
//!
//! Both sides must have the feature. Where one has not, nothing crosses and
//! nothing breaks: the program's table says that nobody listens.
//!
//! Invariants:
//!
//! - Nothing in the program points into a library when a forwarded call has
//!   returned. What must live for ever there (module paths, file names, callsites)
//!   is made in the program by value, once for each distinct text. So there is
//!   nothing to take back when a library is unmapped.
//! - Loading and unloading leaves no memory behind: forwarders are statics, the tables
//!   that they fill are freed by the library's last ELF destructor, and what
//!   `tracing-core` allocates for good as it gets its dispatcher lies in the library's
//!   arena. (A library with `own_allocator` has none, and loses some hundred bytes.)
//! - A panic of the program's logger or subscriber does not unwind into the library:
//!   it comes back as a message and is raised again there, as a call's does.

pub mod log;
pub mod panics;
#[cfg(any(feature = "log", feature = "tracing"))]
mod texts;
pub mod trace;

pub use panics::{LibraryPanic, set_panic_hook};

use crate::services::Services;

/// In a library: installs the forwarders.
///
/// Called before the allocator forwards: what the crates allocate for good comes
/// from the library's own arena, and goes with it.
pub(crate) fn arrive(services: &'static Services) {
    panics::forward();
    log::forward(services);
    trace::forward(services);
}

/// In a library, as its last ELF destructor begins: drops what is the component's.
pub(crate) fn leave() {
    panics::depart();
}

/// In a library, last of all before it is unmapped: frees what forwarding needed.
///
/// # Safety
///
/// No other thread runs code of the library, nor will any.
pub(crate) unsafe fn depart() {
    // SAFETY: the caller's word.
    unsafe { trace::depart() };
}

/// How many texts and callsites the program keeps of its libraries.
#[cfg(all(feature = "testing", feature = "log", feature = "tracing"))]
#[doc(hidden)]
#[must_use]
pub fn kept_for_ever() -> (usize, usize) {
    (texts::count(), trace::count())
}

#[cfg(any(feature = "log", feature = "tracing"))]
mod raised {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use crate::call::{Reply, caught};
    use crate::services::Message;

    /// The program's end of a function without a value: null, or what it panicked with.
    pub(super) fn guarded(body: impl FnOnce()) -> *mut Message {
        match catch_unwind(AssertUnwindSafe(body)) {
            Ok(()) => std::ptr::null_mut(),
            Err(payload) => caught(payload),
        }
    }

    /// The library's end: goes on with a panic of the program's, whose hook has run.
    ///
    /// # Safety
    ///
    /// `message` is from [`guarded`], and taken once.
    pub(super) unsafe fn resumed(message: *mut Message) {
        if !message.is_null() {
            // SAFETY: the caller's word.
            resume_unwind(Box::new(unsafe { Message::take(message) }));
        }
    }

    /// The same with a value.
    ///
    /// # Safety
    ///
    /// `reply` is from [`answer`](crate::call::answer), and taken once.
    pub(super) unsafe fn settled<W: Copy>(reply: Reply<W>) -> W {
        // SAFETY: the caller's word.
        match unsafe { reply.take() } {
            Ok(value) => value,
            Err(caught) => resume_unwind(Box::new(caught.into_message())),
        }
    }
}
#[cfg(any(feature = "log", feature = "tracing"))]
use raised::{guarded, resumed, settled};
