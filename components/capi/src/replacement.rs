//! Live replacement, as C programs ask for it.
//!
//! References of C callers hold tables. Where the component describes its table, it is one
//! of the factory's, which is changed under its callers. Else it belongs to the component,
//! and of its length nobody knows: such a table cannot be changed. So a replacement is
//! refused while such references are held, unless the caller says `LCR_LATER`: they keep the
//! old version then, and later references get the new one.

use std::ffi::{c_char, c_int};

use lcr_core::factory::{Failure, Replacement, Report};
use lcr_core::{Factory, c};

use crate::seen::wanted;
use crate::{given, set_up};

/// `LCR_ANY_VERSION`.
const ANY: c_int = c_int::MIN;
/// `LCR_LATER`.
const LATER: c_int = 1;

fn known(flags: c_int, call: &str) -> Result<(), String> {
    match flags & !LATER {
        0 => Ok(()),
        unknown => Err(format!("{call} was called with flags {unknown:#x}, which this lcr does not know")),
    }
}

/// `flags`, as a replacement takes them.
fn with_flags(replacement: Replacement, flags: c_int) -> Replacement {
    if flags & LATER == 0 { replacement.unpinned() } else { replacement }
}

/// # Safety
///
/// `interface` and `file` are null or C strings.
unsafe fn ask(
    call: &str,
    (interface, version, file, flags): (*const c_char, c_int, *const c_char, c_int),
    run: impl FnOnce(Replacement) -> Result<Report, Failure>,
) -> c_int {
    set_up();
    c::answer(|| {
        // SAFETY: the caller's word.
        let (interface, file) = unsafe { (wanted(interface, call, "interface")?, given(file, "file")?) };
        known(flags, call)?;
        let mut replacement = with_flags(Factory::process().replace(interface), flags);
        if let Some(file) = file {
            replacement = replacement.with(file);
        }
        if version != ANY {
            replacement = replacement.version(version);
        }
        run(replacement).map(drop).map_err(|failure| failure.to_string())
    })
}

/// Checks a replacement.
///
/// # Safety
///
/// `interface` and `file` are null or C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lcr_plan(
    interface: *const c_char,
    version: c_int,
    file: *const c_char,
    flags: c_int,
) -> c_int {
    // SAFETY: passed on.
    unsafe { ask("lcr_plan", (interface, version, file, flags), Replacement::plan) }
}

/// Replaces.
///
/// # Safety
///
/// As [`lcr_plan`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lcr_replace(
    interface: *const c_char,
    version: c_int,
    file: *const c_char,
    flags: c_int,
) -> c_int {
    // SAFETY: passed on.
    unsafe { ask("lcr_replace", (interface, version, file, flags), Replacement::run) }
}

/// Goes back.
///
/// # Safety
///
/// `interface` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lcr_rollback(interface: *const c_char, flags: c_int) -> c_int {
    set_up();
    c::answer(|| {
        // SAFETY: the caller's word.
        let interface = unsafe { wanted(interface, "lcr_rollback", "interface")? };
        known(flags, "lcr_rollback")?;
        let back = with_flags(Factory::process().rollback(interface), flags).run();
        back.map(drop).map_err(|failure| failure.to_string())
    })
}

/// Says that nobody is inside a replaced version.
///
/// # Safety
///
/// `interface` is null or a C string, and what is said is true.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lcr_retire(interface: *const c_char) -> c_int {
    set_up();
    c::answer(|| {
        // SAFETY: the caller's word.
        let interface = unsafe { wanted(interface, "lcr_retire", "interface")? };
        Factory::process().retire(interface).map_err(|error| error.to_string())
    })
}
