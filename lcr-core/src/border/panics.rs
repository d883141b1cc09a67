//! What a library's panic says reaches the program, and the program prints it.
//!
//! Each library has its own std with its own panic hook, and the default one
//! prints by itself: past the program's wishes, and under `RUST_BACKTRACE` with a
//! symbolizer whose cache (mapped files, some hundred kilobytes) is lost with each
//! library that is unmapped. So a library's hook is one that tells the program:
//! message, place and thread. The program prints what std would, names the library,
//! and takes the backtrace itself if `RUST_BACKTRACE` asks for one.
//!
//! The backtrace's names are as good as std's list of loaded objects, which it makes
//! once, at the program's first backtrace: frames of libraries that were loaded later
//! show as `<unknown>`, and a library that is mapped where another was may be taken
//! for that one. Message, place and library are always right.
//!
//! A program that wants to hear of such panics itself says so with
//! [`set_panic_hook`]; std's own hook is not called, for it can be given no
//! foreign place. A component that sets a hook in its library keeps it: it replaces
//! this one.

use std::backtrace::Backtrace;
use std::ffi::c_void;
use std::fmt;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;

use crate::abi::RawStr;
use crate::call::panic_text;
use crate::services;

/// A panic as it crosses.
#[repr(C)]
#[derive(Debug)]
pub struct PanicWire {
    /// The size of this structure in bytes; it only grows, at its end.
    pub size: usize,
    /// The payload's text.
    pub message: RawStr,
    /// Where it was raised: file, line and column.
    pub file: RawStr,
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
    /// The thread's name as the library knows it; empty if it does not.
    pub thread: RawStr,
    /// An address in the library.
    pub inside: *const c_void,
}

/// A panic of a library's component, as the program's hook sees it.
///
/// Its text is what std prints, and the library's path.
#[derive(Debug)]
pub struct LibraryPanic<'a> {
    message: &'a str,
    file: &'a str,
    line: u32,
    column: u32,
    thread: Option<&'a str>,
    library: Option<&'a Path>,
}

impl LibraryPanic<'_> {
    /// The panic's message.
    #[must_use]
    pub fn message(&self) -> &str {
        self.message
    }

    /// The source file, as the compiler was given it.
    #[must_use]
    pub fn file(&self) -> &str {
        self.file
    }

    /// The line, from 1.
    #[must_use]
    pub fn line(&self) -> u32 {
        self.line
    }

    /// The column, from 1.
    #[must_use]
    pub fn column(&self) -> u32 {
        self.column
    }

    /// The thread's name, if it has one.
    #[must_use]
    pub fn thread(&self) -> Option<&str> {
        self.thread
    }

    /// The library's path; `None` while it is being loaded.
    #[must_use]
    pub fn library(&self) -> Option<&Path> {
        self.library
    }
}

impl fmt::Display for LibraryPanic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LibraryPanic { message, file, line, column, thread, library } = self;
        let thread = thread.unwrap_or("<unnamed>");
        write!(f, "thread '{thread}' panicked at {file}:{line}:{column}:\n{message}")?;
        match library {
            Some(library) => write!(f, "\n  in {}", library.display()),
            None => Ok(()),
        }
    }
}

type Hook = Arc<dyn Fn(&LibraryPanic<'_>) + Send + Sync>;

static HOOK: RwLock<Option<Hook>> = RwLock::new(None);

/// From now on `hook` is told of each panic in a library, instead of its being
/// printed. It runs on the thread that panics, before anything unwinds. For the
/// program alone: called in a library it has no effect.
///
/// ```
/// lcr_core::border::set_panic_hook(|panic| eprintln!("component failed: {panic}"));
/// ```
pub fn set_panic_hook(hook: impl Fn(&LibraryPanic<'_>) + Send + Sync + 'static) {
    *HOOK.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
}

/// Where libraries are, and what they are called.
static LIBRARIES: Mutex<Vec<(Range<usize>, PathBuf)>> = Mutex::new(Vec::new());

/// A library is mapped there.
pub(crate) fn mapped(range: &Range<usize>, path: &Path) {
    LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner).push((range.clone(), path.to_owned()));
}

/// It is not any more.
pub(crate) fn unmapped(range: &Range<usize>) {
    LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner).retain(|(at, _)| at != range);
}

/// The program's end.
pub(crate) unsafe extern "C" fn panicked(panic: *const PanicWire) {
    // Whatever the hook does, the library's own panic goes on.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the library lends the structure and its texts for this call.
        let (wire, message, file, thread) =
            unsafe { (&*panic, (*panic).message.as_str(), (*panic).file.as_str(), (*panic).thread.as_str()) };
        let library = {
            let libraries = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
            let found = libraries.iter().find(|(range, _)| range.contains(&wire.inside.addr()));
            found.map(|(_, path)| path.clone())
        };
        // The program knows its own threads' names, the library those that it spawned.
        let current = thread::current();
        let thread = Some(thread).filter(|name| !name.is_empty()).or(current.name());
        let (line, column) = (wire.line, wire.column);
        let panic = LibraryPanic { message, file, line, column, thread, library: library.as_deref() };
        let hook = HOOK.read().unwrap_or_else(PoisonError::into_inner).clone();
        match hook {
            Some(hook) => hook(&panic),
            None => print(&panic),
        }
    }));
}

fn print(panic: &LibraryPanic<'_>) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    match std::env::var_os("RUST_BACKTRACE") {
        Some(value) if value == "full" => {
            eprint!("\n{panic}\nstack backtrace:\n{:#}", Backtrace::force_capture());
        }
        Some(value) if value != "0" => {
            let frames = Backtrace::force_capture().to_string();
            eprint!("\n{panic}\nstack backtrace:\n{}", from_the_panic(&frames));
        }
        _ if TOLD.swap(true, Ordering::Relaxed) => eprintln!("\n{panic}"),
        _ => eprintln!(
            "\n{panic}\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace"
        ),
    }
}

/// The frames below those that only report: std marks where they end.
fn from_the_panic(frames: &str) -> &str {
    let Some(marker) = frames.find("__rust_end_short_backtrace") else { return frames };
    let mut rest = &frames[marker..];
    while let Some((_, lines)) = rest.split_once('\n') {
        rest = lines;
        // `             at file:line` belongs to the frame before.
        if !rest.trim_start().starts_with("at ") {
            return rest;
        }
    }
    frames
}

/// In a library: its hook tells the program.
pub(crate) fn forward() {
    // A function has no state: the box is empty, and nothing is to be freed.
    panic::set_hook(Box::new(tell));
}

/// In a library that goes: a hook that the component set instead is dropped.
pub(crate) fn depart() {
    let _ = catch_unwind(|| drop(panic::take_hook()));
}

fn tell(info: &PanicHookInfo<'_>) {
    let Some(services) = services::received() else { return };
    let message = panic_text(info.payload());
    let current = thread::current();
    let (file, line, column) =
        info.location().map_or(("<unknown>", 0, 0), |place| (place.file(), place.line(), place.column()));
    let wire = PanicWire {
        size: size_of::<PanicWire>(),
        message: RawStr::new(&message),
        file: RawStr::new(file),
        line,
        column,
        thread: RawStr::new(current.name().unwrap_or("")),
        inside: (&raw const INSIDE).cast(),
    };
    // SAFETY: the program's function; all texts live for the call.
    unsafe { (services.panicked)(&raw const wire) };
}

/// An address in this object.
static INSIDE: u8 = 0;

#[cfg(test)]
mod tests {
    use super::from_the_panic;

    #[test]
    fn frames_that_only_report_are_left_out() {
        let frames = "   0: print\n             at a.rs:1:2\n   1: std::__rust_end_short_backtrace::<f>\n             \
                      at b.rs:3:4\n   2: begin\n             at c.rs:5:6\n";
        assert_eq!(from_the_panic(frames), "   2: begin\n             at c.rs:5:6\n");
        let stripped = "   0: <unknown>\n   1: <unknown>\n";
        assert_eq!(from_the_panic(stripped), stripped);
        let last = "   0: __rust_end_short_backtrace";
        assert_eq!(from_the_panic(last), last);
    }
}
