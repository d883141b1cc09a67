//! Log records of libraries reach the program's logger.
//!
//! The library's `log` is set to its most talkative level, and its logger asks the
//! program about each record before anything is formatted: so a level that the
//! program changes later holds at once, also for libraries. What costs nothing in a
//! program (a disabled record) costs a call through a pointer here.
//!
//! Target and message are lent for the call. Module path and file name, which a
//! logger may keep (`module_path_static`), are kept by value where the component's
//! own were `'static`. A `log::logger` that a component installs itself before the
//! services arrive stays; one that it tries to install later is refused by `log`.
//! Structured values (`log/kv`) do not cross.

use crate::abi::RawStr;
use crate::call::Reply;
use crate::services::Message;

/// What a program with a logger offers. Null in
/// [`Services`](crate::services::Services) where it was built
/// without the feature `log`.
#[repr(C)]
#[derive(Debug)]
pub struct LogServices {
    /// The size of this table in bytes; it only grows, at its end.
    pub size: usize,
    /// Not 0 if the logger wants records of that level (1, error, to 5, trace) and
    /// target.
    pub wanted: unsafe extern "C" fn(level: u32, target: RawStr) -> Reply<u32>,
    /// Logs a record. Null, or what the logger panicked with.
    pub log: unsafe extern "C" fn(*const LogRecordWire) -> *mut Message,
    /// Flushes the logger.
    pub flush: unsafe extern "C" fn() -> *mut Message,
}

/// A record as it crosses.
#[repr(C)]
#[derive(Debug)]
pub struct LogRecordWire {
    /// 1, error, to 5, trace.
    pub level: u32,
    /// The line; 0 if it is not known.
    pub line: u32,
    /// The target.
    pub target: RawStr,
    /// The message, formatted.
    pub message: RawStr,
    /// The module's path.
    pub module_path: OriginWire,
    /// The file's name.
    pub file: OriginWire,
}

/// A text that says where a record comes from.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OriginWire {
    /// The text.
    pub text: RawStr,
    /// 0: there is none. 1: it is lent for the call. 2: it is a constant of the
    /// library, which the program may keep by value.
    pub kind: u32,
}

/// The table of this program.
#[cfg(feature = "log")]
pub(crate) const OFFERED: *const LogServices = {
    static TABLE: LogServices = LogServices {
        size: size_of::<LogServices>(),
        wanted: program::wanted,
        log: program::log,
        flush: program::flush,
    };
    &raw const TABLE
};

/// The table of this program: it was built without `log`.
#[cfg(not(feature = "log"))]
pub(crate) const OFFERED: *const LogServices = std::ptr::null();

#[cfg(not(feature = "log"))]
pub(crate) fn forward(_: &'static crate::services::Services) {}

#[cfg(feature = "log")]
pub(crate) use library::forward;

#[cfg(feature = "log")]
mod program {
    use ::log::{Level, Metadata, Record};

    use super::super::{guarded, texts};
    use super::{LogRecordWire, OriginWire};
    use crate::abi::RawStr;
    use crate::call::{Reply, answer};
    use crate::services::Message;

    fn level(number: u32) -> Level {
        match number {
            1 => Level::Error,
            2 => Level::Warn,
            3 => Level::Info,
            4 => Level::Debug,
            _ => Level::Trace,
        }
    }

    pub(super) unsafe extern "C" fn wanted(number: u32, target: RawStr) -> Reply<u32> {
        answer(|| {
            let level = level(number);
            if level > ::log::max_level() {
                return 0;
            }
            // SAFETY: the library lends the target for this call.
            let target = unsafe { target.as_str() };
            u32::from(::log::logger().enabled(&Metadata::builder().level(level).target(target).build()))
        })
    }

    pub(super) unsafe extern "C" fn log(record: *const LogRecordWire) -> *mut Message {
        guarded(|| {
            // SAFETY: the library lends the record and its texts for this call.
            let (wire, target, message) =
                unsafe { (&*record, (*record).target.as_str(), (*record).message.as_str()) };
            let mut record = Record::builder();
            record.level(level(wire.level)).target(target).line((wire.line != 0).then_some(wire.line));
            // SAFETY: as above.
            match unsafe { origin(&wire.module_path) } {
                Origin::None => {}
                Origin::Lent(path) => _ = record.module_path(Some(path)),
                Origin::Kept(path) => _ = record.module_path_static(Some(path)),
            }
            // SAFETY: as above.
            match unsafe { origin(&wire.file) } {
                Origin::None => {}
                Origin::Lent(file) => _ = record.file(Some(file)),
                Origin::Kept(file) => _ = record.file_static(Some(file)),
            }
            ::log::logger().log(&record.args(format_args!("{message}")).build());
        })
    }

    pub(super) unsafe extern "C" fn flush() -> *mut Message {
        guarded(|| ::log::logger().flush())
    }

    enum Origin<'a> {
        None,
        Lent(&'a str),
        Kept(&'static str),
    }

    /// # Safety
    ///
    /// The text must be alive for `'a`.
    unsafe fn origin<'a>(wire: &OriginWire) -> Origin<'a> {
        // SAFETY: the caller's word; there is a text where the kind is not 0.
        let text = || unsafe { wire.text.as_str() };
        match wire.kind {
            0 => Origin::None,
            2 => Origin::Kept(texts::kept(text())),
            _ => Origin::Lent(text()),
        }
    }
}

#[cfg(feature = "log")]
mod library {
    use std::ptr;
    use std::sync::atomic::{AtomicPtr, Ordering};

    use ::log::{LevelFilter, Log, Metadata, Record};

    use super::super::{resumed, settled};
    use super::{LogRecordWire, LogServices, OriginWire};
    use crate::abi::RawStr;
    use crate::services::Services;

    /// The program's table; null until it arrives.
    static PROGRAM: AtomicPtr<LogServices> = AtomicPtr::new(ptr::null_mut());

    fn program() -> Option<&'static LogServices> {
        // SAFETY: `forward` stored a table that lives as long as the program.
        unsafe { PROGRAM.load(Ordering::Acquire).as_ref() }
    }

    /// Makes the program's logger this library's, if it offers one.
    pub(crate) fn forward(services: &'static Services) {
        // SAFETY: null, or a table of the program, which begins with its size.
        let offered = unsafe { services.log.as_ref() };
        if offered.is_none_or(|table| table.size < size_of::<LogServices>()) {
            return;
        }
        PROGRAM.store(services.log.cast_mut(), Ordering::Release);
        // Refused only if the component's ELF constructors were first.
        if ::log::set_logger(&Forward).is_ok() {
            ::log::set_max_level(LevelFilter::Trace);
        }
    }

    struct Forward;

    fn wanted(table: &LogServices, metadata: &Metadata<'_>) -> bool {
        // SAFETY: the program's function; the target lives for the call.
        unsafe { settled((table.wanted)(metadata.level() as u32, RawStr::new(metadata.target()))) != 0 }
    }

    fn origin(constant: Option<&'static str>, text: Option<&str>) -> OriginWire {
        match (constant, text) {
            (Some(text), _) => OriginWire { text: RawStr::new(text), kind: 2 },
            (None, Some(text)) => OriginWire { text: RawStr::new(text), kind: 1 },
            (None, None) => OriginWire { text: RawStr::new(""), kind: 0 },
        }
    }

    impl Log for Forward {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            program().is_some_and(|table| wanted(table, metadata))
        }

        fn log(&self, record: &Record<'_>) {
            let Some(table) = program() else { return };
            if !wanted(table, record.metadata()) {
                return;
            }
            let formatted;
            let message = match record.args().as_str() {
                Some(message) => message,
                None => {
                    formatted = record.args().to_string();
                    &formatted
                }
            };
            let wire = LogRecordWire {
                level: record.level() as u32,
                line: record.line().unwrap_or(0),
                target: RawStr::new(record.target()),
                message: RawStr::new(message),
                module_path: origin(record.module_path_static(), record.module_path()),
                file: origin(record.file_static(), record.file()),
            };
            // SAFETY: the program's function; all texts live for the call.
            unsafe { resumed((table.log)(&raw const wire)) };
        }

        fn flush(&self) {
            if let Some(table) = program() {
                // SAFETY: the program's function.
                unsafe { resumed((table.flush)()) };
            }
        }
    }
}
