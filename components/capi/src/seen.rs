//! What can be seen: the places that are searched, and the interfaces that there are.
//!
//! What a visitor is shown was copied before it is called, so it may do anything: also
//! reference, release and replace.

use std::ffi::{OsStr, c_char, c_int, c_void};
use std::mem::size_of;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;

use lcr_core::{Factory, c};

use crate::{for_c, given, set_up};

/// Switches the original's search on or off.
#[unsafe(no_mangle)]
pub extern "C" fn lcr_legacy_search(is_on: c_int) -> c_int {
    set_up();
    c::answer(|| {
        Factory::process().search_as_the_original(is_on != 0, None);
        Ok(())
    })
}

/// Searches these places.
///
/// # Safety
///
/// `places` points to `count` C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lcr_search_set(places: *const *const c_char, count: usize) -> c_int {
    set_up();
    c::answer(|| {
        if places.is_null() && count > 0 {
            return Err("lcr_search_set was called with null for places".to_owned());
        }
        let mut all = Vec::with_capacity(count);
        for at in 0..count {
            // SAFETY: the caller's word.
            let place = unsafe { *places.add(at) };
            if place.is_null() {
                return Err(format!("lcr_search_set was called with null for place {at}"));
            }
            // A path is any bytes.
            // SAFETY: the caller's word.
            let place = unsafe { std::ffi::CStr::from_ptr(place) };
            all.push(PathBuf::from(OsStr::from_bytes(place.to_bytes())));
        }
        Factory::process().set_search(all);
        Ok(())
    })
}

/// Shows each place that is searched.
///
/// # Safety
///
/// `visit` may be called with `context` and a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lcr_search_each(
    visit: Option<unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int>,
    context: *mut c_void,
) -> c_int {
    set_up();
    c::answer(|| {
        let visit = visit.ok_or("lcr_search_each was called with null for visit")?;
        for place in Factory::process().search() {
            let place = std::ffi::CString::new(place.into_os_string().as_bytes()).unwrap_or_default();
            // SAFETY: the caller's word.
            if unsafe { visit(context, place.as_ptr()) } != 0 {
                break;
            }
        }
        Ok(())
    })
}

/// `struct lcr_interface_status`.
#[repr(C)]
pub struct InterfaceStatus {
    size: usize,
    name: *const c_char,
    version: c_int,
    state: *const c_char,
    file: *const c_char,
    component: *const c_char,
    references: u64,
}

/// Shows each interface.
///
/// # Safety
///
/// `visit` may be called with `context` and a status.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lcr_interfaces_each(
    visit: Option<unsafe extern "C" fn(*mut c_void, *const InterfaceStatus) -> c_int>,
    context: *mut c_void,
) -> c_int {
    set_up();
    c::answer(|| {
        let visit = visit.ok_or("lcr_interfaces_each was called with null for visit")?;
        for interface in Factory::process().interfaces() {
            let (name, component) = (for_c(&interface.name), for_c(&interface.component));
            let state = for_c(interface.state.as_str());
            let file = interface.file.map(|file| for_c(&file.to_string_lossy()));
            let status = InterfaceStatus {
                size: size_of::<InterfaceStatus>(),
                name: name.as_ptr(),
                version: interface.version,
                state: state.as_ptr(),
                file: file.as_ref().map_or(ptr::null(), |file| file.as_ptr()),
                component: component.as_ptr(),
                references: interface.references as u64,
            };
            // SAFETY: the caller's word; all that it points to is alive.
            if unsafe { visit(context, &raw const status) } != 0 {
                break;
            }
        }
        Ok(())
    })
}

/// A text that must be there.
///
/// # Safety
///
/// As [`given`].
pub(crate) unsafe fn wanted<'a>(text: *const c_char, call: &str, what: &str) -> Result<&'a str, String> {
    // SAFETY: the caller's word.
    unsafe { given(text, what) }?.ok_or_else(|| format!("{call} was called with null for {what}"))
}
