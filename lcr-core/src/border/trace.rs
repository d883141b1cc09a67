//! Tracing events and spans of libraries reach the program's dispatcher.
//!
//! The library's `tracing-core` gets a global default subscriber that forwards
//! everything. Each callsite of the library is made once more in the program, by
//! value, and registered there: so the program's subscriber sees `'static` metadata
//! that outlives the library, caches its interest in it, and decides. The library
//! itself caches nothing but which of the program's callsites is whose: its
//! interest is always "sometimes", and each event that is not switched off at
//! compile time asks the program, which answers from its own cache.
//!
//! Values cross with their types; what is only `Debug` or `Display` as text. Spans
//! have numbers of the program's making, each of which stands for the dispatcher
//! that was current when the span was made and the number that it gave: entering,
//! recording and closing reach that one, as they do in a program. Parents by
//! context are the program's affair, so an event of a library has the span around
//! the call as its parent, whoever made it.
//!
//! A subscriber that a component installs for a scope (`with_default`) works within
//! its library; it cannot install a global one. A span that is leaked in a library
//! stays open in the program.

#[cfg(feature = "tracing")]
mod library;
#[cfg(feature = "tracing")]
mod program;

use std::ffi::c_void;

use crate::abi::{RawSlice, RawStr};
use crate::call::Reply;
use crate::services::Message;

/// What a program with a tracing dispatcher offers. Null in
/// [`Services`](crate::services::Services) where it was built without the feature `tracing`.
#[repr(C)]
#[derive(Debug)]
pub struct TraceServices {
    /// The size of this table in bytes; it only grows, at its end.
    pub size: usize,
    /// The most talkative level that anyone listens to: 0, off, 1, error, to 5, trace.
    pub max_level: unsafe extern "C" fn() -> u32,
    /// The program's callsite that is like this one; it is never freed.
    pub callsite: unsafe extern "C" fn(*const CallsiteWire) -> Reply<*const c_void>,
    /// Not 0 if the current dispatcher wants what comes from there.
    pub enabled: unsafe extern "C" fn(callsite: *const c_void) -> Reply<u32>,
    /// An event.
    pub event: unsafe extern "C" fn(*const HappeningWire) -> *mut Message,
    /// A new span: its number.
    pub new_span: unsafe extern "C" fn(*const HappeningWire) -> Reply<u64>,
    /// Values of a span.
    pub record: unsafe extern "C" fn(span: u64, values: RawSlice<ValueWire>) -> *mut Message,
    /// A span follows from another.
    pub follows: unsafe extern "C" fn(span: u64, from: u64) -> *mut Message,
    /// The calling thread enters a span.
    pub enter: unsafe extern "C" fn(span: u64) -> *mut Message,
    /// It leaves it.
    pub exit: unsafe extern "C" fn(span: u64) -> *mut Message,
    /// One more handle of a span: its number, mostly the same.
    pub clone: unsafe extern "C" fn(span: u64) -> Reply<u64>,
    /// One less. Not 0 if it was the last.
    pub close: unsafe extern "C" fn(span: u64) -> Reply<u32>,
    /// Shows the calling thread's current span, if there is one.
    pub current: unsafe extern "C" fn(visit: VisitSpanFn, cx: *mut c_void) -> *mut Message,
}

/// Sees a span: its number, an address that stands for its metadata for ever, and
/// its metadata, lent.
pub type VisitSpanFn =
    unsafe extern "C" fn(cx: *mut c_void, span: u64, key: *const c_void, metadata: *const CallsiteWire);

/// Where events or spans come from, as it crosses: lent.
#[repr(C)]
#[derive(Debug)]
pub struct CallsiteWire {
    /// The name.
    pub name: RawStr,
    /// The target.
    pub target: RawStr,
    /// The source file, if [`CallsiteWire::HAS_FILE`].
    pub file: RawStr,
    /// The module's path, if [`CallsiteWire::HAS_MODULE`].
    pub module_path: RawStr,
    /// The fields' names.
    pub fields: RawSlice<RawStr>,
    /// The line, if [`CallsiteWire::HAS_LINE`].
    pub line: u32,
    /// 1, error, to 5, trace.
    pub level: u32,
    /// What it is and what is known of it.
    pub flags: u32,
}

impl CallsiteWire {
    /// It makes events.
    pub const EVENT: u32 = 1;
    /// It makes spans.
    pub const SPAN: u32 = 1 << 1;
    /// It only asks.
    pub const HINT: u32 = 1 << 2;
    /// The file is known.
    pub const HAS_FILE: u32 = 1 << 3;
    /// The module is known.
    pub const HAS_MODULE: u32 = 1 << 4;
    /// The line is known.
    pub const HAS_LINE: u32 = 1 << 5;
}

/// An event, or the beginning of a span.
#[repr(C)]
#[derive(Debug)]
pub struct HappeningWire {
    /// The program's callsite.
    pub callsite: *const c_void,
    /// The parent's number; 0 for none, which `root` tells from the current one.
    pub parent: u64,
    /// Not 0 if it has no parent whatever is current.
    pub root: u32,
    /// The values.
    pub values: RawSlice<ValueWire>,
}

/// A field's value.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ValueWire {
    /// Which field, by position.
    pub field: u32,
    /// One of this type's constants.
    pub kind: u32,
    /// A number's low 64 bits.
    pub low: u64,
    /// Its high ones.
    pub high: u64,
    /// A text's bytes.
    pub text: RawSlice<u8>,
}

impl ValueWire {
    /// `i64`.
    pub const I64: u32 = 1;
    /// `u64`.
    pub const U64: u32 = 2;
    /// `i128`.
    pub const I128: u32 = 3;
    /// `u128`.
    pub const U128: u32 = 4;
    /// `bool`.
    pub const BOOL: u32 = 5;
    /// `f64`, its bits.
    pub const F64: u32 = 6;
    /// `str`.
    pub const STR: u32 = 7;
    /// Bytes.
    pub const BYTES: u32 = 8;
    /// What was printed with `{:?}`, or by `Display` where the component said so.
    pub const DEBUG: u32 = 9;
    /// An error's own text.
    pub const ERROR: u32 = 10;
    /// The text of the source of the error just before.
    pub const SOURCE: u32 = 11;
}

/// The table of this program.
#[cfg(feature = "tracing")]
pub(crate) const OFFERED: *const TraceServices = {
    static TABLE: TraceServices = TraceServices {
        size: size_of::<TraceServices>(),
        max_level: program::max_level,
        callsite: program::callsite,
        enabled: program::enabled,
        event: program::event,
        new_span: program::new_span,
        record: program::record,
        follows: program::follows,
        enter: program::enter,
        exit: program::exit,
        clone: program::clone,
        close: program::close,
        current: program::current,
    };
    &raw const TABLE
};

/// The table of this program: it was built without `tracing`.
#[cfg(not(feature = "tracing"))]
pub(crate) const OFFERED: *const TraceServices = std::ptr::null();

#[cfg(not(feature = "tracing"))]
pub(crate) fn forward(_: &'static crate::services::Services) {}

/// # Safety
///
/// None where nothing is forwarded.
#[cfg(not(feature = "tracing"))]
pub(crate) unsafe fn depart() {}

#[cfg(feature = "tracing")]
pub(crate) use library::{depart, forward};
#[cfg(all(feature = "testing", feature = "log", feature = "tracing"))]
pub(crate) use program::count;

#[cfg(feature = "tracing")]
fn number(level: &tracing_core::Level) -> u32 {
    use tracing_core::Level;
    match () {
        () if *level == Level::ERROR => 1,
        () if *level == Level::WARN => 2,
        () if *level == Level::INFO => 3,
        () if *level == Level::DEBUG => 4,
        () => 5,
    }
}

#[cfg(feature = "tracing")]
fn level(number: u32) -> tracing_core::Level {
    use tracing_core::Level;
    match number {
        1 => Level::ERROR,
        2 => Level::WARN,
        3 => Level::INFO,
        4 => Level::DEBUG,
        _ => Level::TRACE,
    }
}

#[cfg(feature = "tracing")]
fn kind(flags: u32) -> tracing_core::Kind {
    use tracing_core::Kind;
    match flags {
        _ if flags & CallsiteWire::SPAN != 0 => Kind::SPAN,
        _ if flags & CallsiteWire::EVENT != 0 => Kind::EVENT,
        // `enabled!` without a kind. With one, nobody can tell it from what it asks about.
        _ => Kind::HINT,
    }
}

/// Lends metadata to `take`.
#[cfg(feature = "tracing")]
fn lent<T>(metadata: &tracing_core::Metadata<'_>, take: impl FnOnce(&CallsiteWire) -> T) -> T {
    let names: Vec<RawStr> = metadata.fields().iter().map(|field| RawStr::new(field.name())).collect();
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    take(&CallsiteWire {
        name: RawStr::new(metadata.name()),
        target: RawStr::new(metadata.target()),
        file: RawStr::new(metadata.file().unwrap_or("")),
        module_path: RawStr::new(metadata.module_path().unwrap_or("")),
        fields: RawSlice::new(&names),
        line: metadata.line().unwrap_or(0),
        level: number(metadata.level()),
        flags: flag(metadata.is_event(), CallsiteWire::EVENT)
            | flag(metadata.is_span(), CallsiteWire::SPAN)
            | flag(!metadata.is_event() && !metadata.is_span(), CallsiteWire::HINT)
            | flag(metadata.file().is_some(), CallsiteWire::HAS_FILE)
            | flag(metadata.module_path().is_some(), CallsiteWire::HAS_MODULE)
            | flag(metadata.line().is_some(), CallsiteWire::HAS_LINE),
    })
}
