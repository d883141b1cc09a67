//! The calls of the original, for C: what stands behind `lcr_ifact_reference`,
//! `lcr_ifact_release` and `lcr_component_register`.
//!
//! The functions are not exported from here, for then every Rust library would export
//! them too. `liblcr.so` and `liblcr.a` (package `lcr-capi`) give them their names for C
//! programs, and [`export_to_c!`](crate::export_to_c) for a Rust program, so that C
//! components find them in it.
//!
//! Invariants: a handle is a place in a table and the number of its use, so one that was
//! released, or never given, is told from all others and refused; no panic leaves; an
//! error's text is kept for the thread that met it.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::descriptor::Comp;
use crate::error::ReferenceError;
use crate::factory::{CReference, Factory};
use crate::registry;

thread_local! {
    /// Why this thread's last call failed.
    static LAST: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// Keeps a text as this thread's last error.
pub fn fail(text: &str) {
    // A text with a NUL ends there.
    let text = CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default();
    let _ = LAST.try_with(|last| last.replace(Some(text)));
}

/// Why this thread's last call of those here failed; null if none did. Valid until
/// this thread's next failure.
#[must_use]
pub fn last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ref().map_or(std::ptr::null(), |text| text.as_ptr()))
        .unwrap_or(std::ptr::null())
}

/// Runs `f`; a failure or a panic is kept as this thread's last error, and answered by -1.
pub fn answer(f: impl FnOnce() -> Result<(), String>) -> c_int {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(())) => 0,
        Ok(Err(text)) => {
            fail(&text);
            -1
        }
        Err(payload) => {
            fail(&format!("a panic: {}", crate::call::panic_text(&*payload)));
            -1
        }
    }
}

/// The references that C code holds.
struct Table {
    places: Vec<Place>,
    /// The first empty one; `NONE` if there is none.
    empty: u32,
}

struct Place {
    /// How often it was used: the upper half of the handle.
    uses: u32,
    content: Content,
}

enum Content {
    Held(CReference),
    /// And the next empty place.
    Empty(u32),
}

const NONE: u32 = u32::MAX;

static TABLE: Mutex<Table> = Mutex::new(Table { places: Vec::new(), empty: NONE });

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    fn put(&mut self, held: CReference) -> Option<u64> {
        let at = match self.empty {
            NONE => {
                let at = u32::try_from(self.places.len()).ok().filter(|at| *at != NONE)?;
                self.places.push(Place { uses: 0, content: Content::Empty(NONE) });
                at
            }
            at => at,
        };
        let place = &mut self.places[at as usize];
        if let Content::Empty(next) = place.content {
            self.empty = next;
        }
        // Never 0, so that a handle that is all zeros was never given.
        place.uses = if place.uses == u32::MAX { 1 } else { place.uses + 1 };
        place.content = Content::Held(held);
        Some(u64::from(place.uses) << 32 | u64::from(at))
    }

    fn take(&mut self, handle: u64) -> Option<CReference> {
        let (uses, at) = ((handle >> 32) as u32, handle as u32);
        let empty = self.empty;
        let place = self.places.get_mut(at as usize).filter(|place| place.uses == uses)?;
        if matches!(place.content, Content::Empty(_)) {
            return None;
        }
        let content = std::mem::replace(&mut place.content, Content::Empty(empty));
        self.empty = at;
        match content {
            Content::Held(held) => Some(held),
            Content::Empty(_) => None,
        }
    }
}

/// `lcr_ifact_reference`: the interface's table through `interface`, a handle for its
/// release through `handle`, and 0; or -1, and [`last_error`].
///
/// # Safety
///
/// `name` is null or a C string, `handle` and `interface` are null or can be written,
/// and `context` is what the component expects.
pub unsafe fn reference(
    handle: *mut u64,
    name: *const c_char,
    version: c_int,
    interface: *mut *mut c_void,
    context: *mut c_void,
) -> c_int {
    answer(|| {
        if handle.is_null() || name.is_null() || interface.is_null() {
            return Err("lcr_ifact_reference was called with a null handle, name or interface".to_owned());
        }
        // SAFETY: the caller's word.
        let name = unsafe { CStr::from_ptr(name) };
        let name = if name.to_bytes().is_ascii() {
            // SAFETY: it is ASCII, as nearly all names are: that is seen in less time.
            unsafe { std::str::from_utf8_unchecked(name.to_bytes()) }
        } else {
            name.to_str().map_err(|_| format!("{name:?} is no UTF-8: no interface has such a name"))?
        };
        if registry::is_loading() {
            return Err(ReferenceError::WhileLoading { name: name.to_owned() }.to_string());
        }
        // SAFETY: as above.
        let held = unsafe { Factory::process().reference_c(name, version, context) };
        let held = held.map_err(|error| error.to_string())?;
        let functions = held.table();
        let number = table().put(held).ok_or("there are 4,294,967,295 references: release some")?;
        // SAFETY: as above.
        unsafe {
            *handle = number;
            *interface = functions;
        }
        Ok(())
    })
}

/// `lcr_ifact_release`: the destructor runs, and 0; or -1, and [`last_error`], for what
/// is no handle, or is one no more.
pub fn release(handle: u64) -> c_int {
    answer(|| {
        // Not under the lock: it runs the component's destructor.
        let held = table().take(handle);
        drop(held.ok_or_else(|| {
            format!("{handle:#x} is no handle of a reference: it was released already, or never given")
        })?);
        Ok(())
    })
}

/// `lcr_component_register`.
///
/// # Safety
///
/// As [`registry::register_c`].
pub unsafe fn register(comp: *const Comp) {
    // Called from ELF constructors: nobody there could take an answer.
    // SAFETY: passed on.
    answer(|| unsafe {
        registry::register_c(comp);
        Ok(())
    });
}

/// `lcr_component_describe`.
///
/// # Safety
///
/// As [`registry::describe_c`].
pub unsafe fn describe(table: *const crate::table::Table) {
    // SAFETY: passed on.
    answer(|| unsafe {
        registry::describe_c(table);
        Ok(())
    });
}

/// What a program with these calls does before anything else: if it was started to look
/// into a library, it does that and ends. Else nothing happens.
pub extern "C" fn at_start() {
    // A panic must not leave a constructor, and there is nobody to tell.
    #[cfg(feature = "dlopen")]
    let _ = catch_unwind(crate::library::probe::at_start);
}

/// Gives this program the four functions that C components expect of it.
///
/// Written once, at the root of the program's crate. The linker must export them: in the
/// build script,
///
/// ```text
/// for symbol in [
///     "lcr_component_register",
///     "lcr_component_describe",
///     "lcr_ifact_reference",
///     "lcr_ifact_release",
/// ] {
///     println!("cargo::rustc-link-arg-bins=-Wl,--export-dynamic-symbol={symbol}");
/// }
/// ```
#[macro_export]
macro_rules! export_to_c {
    () => {
        const _: () = {
            use ::std::ffi::{c_char, c_int, c_void};

            /// # Safety
            ///
            /// As `lcr_core::c::register`.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn lcr_component_register(comp: *const $crate::descriptor::Comp) {
                // SAFETY: passed on.
                unsafe { $crate::c::register(comp) }
            }

            /// # Safety
            ///
            /// As `lcr_core::c::describe`.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn lcr_component_describe(table: *const $crate::table::Table) {
                // SAFETY: passed on.
                unsafe { $crate::c::describe(table) }
            }

            /// # Safety
            ///
            /// As `lcr_core::c::reference`.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn lcr_ifact_reference(
                handle: *mut u64,
                name: *const c_char,
                version: c_int,
                interface: *mut *mut c_void,
                context: *mut c_void,
            ) -> c_int {
                // SAFETY: passed on.
                unsafe { $crate::c::reference(handle, name, version, interface, context) }
            }

            #[unsafe(no_mangle)]
            extern "C" fn lcr_ifact_release(handle: u64) -> c_int {
                $crate::c::release(handle)
            }

            // Before other constructors, and thus before `main`.
            #[used]
            #[unsafe(link_section = ".init_array.00001")]
            static AT_START: extern "C" fn() = $crate::c::at_start;
        };
    };
}
