//! liblcr: the calls of corosync's LCR, and a few more, for C.
//!
//! Everything is done by lcr-core; here it gets its C names. What C programs see stands
//! in `include/`, and in the manual page lcr(3). The three calls of the original are here;
//! those of `lcr.h` in [`seen`] (places and interfaces), [`replacement`] and [`control`].
//!
//! A C component is linked with libc alone, and finds `lcr_component_register`, often
//! `lcr_ifact_reference` too, in the program that loads it. In a program linked with
//! `liblcr.a` only what the linker took out of the archive is there to be found. So each
//! function refers to a table of all ([`EXPORTED`]): who has one of them has them all,
//! however the compiler has spread them over the archive's members.

pub mod control;
pub mod replacement;
pub mod seen;

use std::env;
use std::ffi::{CStr, CString, OsString, c_char, c_int, c_void};
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Once;

use lcr_core::Factory;
use lcr_core::c;
use lcr_core::descriptor::Comp;
use lcr_core::table::Table;

/// What components may look for in the program. Never called through: it keeps them
/// together.
static EXPORTED: (
    unsafe extern "C" fn(*const Comp),
    unsafe extern "C" fn(*mut u64, *const c_char, c_int, *mut *mut c_void, *mut c_void) -> c_int,
    extern "C" fn(u64) -> c_int,
    unsafe extern "C" fn(*const Table),
    &extern "C" fn(),
) = (lcr_component_register, lcr_ifact_reference, lcr_ifact_release, lcr_component_describe, &AT_START);

/// Called before the program's own constructors.
#[used]
#[unsafe(link_section = ".init_array.00001")]
static AT_START: extern "C" fn() = c::at_start;

/// The built-in directory of components.
const BUILT_IN: &str = match option_env!("LCRSODIR") {
    Some(directory) => directory,
    None => "/usr/libexec/lcrso",
};

/// Sets the process up, once: what C programs expect of the search.
fn set_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let is_off =
            |value: OsString| ["0", "off", "no", "false"].iter().any(|off| value.eq_ignore_ascii_case(off));
        let is_on = !env::var_os("LCR_LEGACY_SEARCH").is_some_and(is_off);
        Factory::process().search_as_the_original(is_on, Some(PathBuf::from(BUILT_IN)));
    });
    black_box(&raw const EXPORTED);
}

/// A C string that somebody gave.
///
/// # Safety
///
/// `text` is null, or a C string that is there during `'a`.
unsafe fn given<'a>(text: *const c_char, what: &str) -> Result<Option<&'a str>, String> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's word.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map(Some).map_err(|_| format!("{what} {text:?} is no UTF-8"))
}

/// A text for C. One with a NUL in it ends there.
fn for_c(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

/// Registers a component: called by its ELF constructor.
///
/// # Safety
///
/// `comp` must be null or point to a descriptor that lives as long as its object is mapped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lcr_component_register(comp: *const Comp) {
    black_box(&raw const EXPORTED);
    // SAFETY: passed on.
    unsafe { c::register(comp) }
}

/// Takes what a component says of a table: called by its ELF constructor.
///
/// # Safety
///
/// `table` must be null or point to a description that lives as long as its object is
/// mapped, as must the descriptor that it names.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lcr_component_describe(table: *const Table) {
    black_box(&raw const EXPORTED);
    // SAFETY: passed on.
    unsafe { c::describe(table) }
}

/// References an interface.
///
/// # Safety
///
/// `handle` and `interface` must be null or writable, `name` null or a C string, and
/// `context` what the component expects.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lcr_ifact_reference(
    handle: *mut u64,
    name: *const c_char,
    version: c_int,
    interface: *mut *mut c_void,
    context: *mut c_void,
) -> c_int {
    set_up();
    // SAFETY: passed on.
    unsafe { c::reference(handle, name, version, interface, context) }
}

/// Releases a reference.
#[unsafe(no_mangle)]
pub extern "C" fn lcr_ifact_release(handle: u64) -> c_int {
    black_box(&raw const EXPORTED);
    c::release(handle)
}

/// Why this thread's last call failed; null if none did.
#[unsafe(no_mangle)]
pub extern "C" fn lcr_last_error() -> *const c_char {
    c::last_error()
}
