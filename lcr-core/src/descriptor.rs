//! Descriptors: what a component says of itself.
//!
//! Every interface has one [`Iface`] and every component one [`Comp`], whether it
//! is written in Rust or in C, compiled in or loaded. Both are the structures
//! `lcr_iface` and `lcr_comp` of corosync 1.4's LCR, byte for byte, so that a
//! component compiled from C in 2008 and one annotated today stand in one table.
//!
//! `Iface::interfaces` points to the table of functions. A *raw* table is an
//! array of C functions whose length nobody wrote down: only the caller's header
//! knows it. A *typed* table, made by the `Interface` derive, begins with a
//! [`Prologue`]. The two are told apart by the first eight bytes: a typed table
//! has [`MAGIC`] there, which is no canonical x86-64 address and thus can never
//! be the first function of a raw one.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::{offset_of, size_of};
use std::ptr;

pub use crate::construct::{MAGIC, Prologue, TypedTable};

/// The version of everything that crosses the border between a program and a
/// library: descriptors, tables, services. It stands in the name of a library's
/// entry symbol too, `lcr_v1_library`.
pub const ABI_VERSION: u32 = 1;

/// An interface: the twin of C's `struct lcr_iface`.
#[repr(C)]
#[derive(Debug)]
pub struct Iface {
    /// The name, ended by a NUL.
    pub name: *const c_char,
    /// The version.
    pub version: c_int,
    /// The versions that this one can stand in for.
    pub versions_replace: *const c_int,
    /// How many they are.
    pub versions_replace_count: c_int,
    /// The names of the interfaces that must be constructed before this one.
    pub dependencies: *const *const c_char,
    /// How many they are.
    pub dependency_count: usize,
    /// Called with the reference's context; anything but 0 is a failure. A typed
    /// interface has none here: its [`Prologue`] says how it is made.
    pub constructor: Option<unsafe extern "C" fn(*mut c_void) -> c_int>,
    /// Called with the same context when the reference is released.
    pub destructor: Option<unsafe extern "C" fn(*mut c_void)>,
    /// The table of functions.
    pub interfaces: *const *const c_void,
}

/// A component: the twin of C's `struct lcr_comp`.
#[repr(C)]
#[derive(Debug)]
pub struct Comp {
    /// Its interfaces.
    pub ifaces: *const Iface,
    /// How many they are.
    pub iface_count: usize,
}

// SAFETY: a descriptor is read-only once it is registered, and what it points to
// lives as long as the object that holds it is mapped.
unsafe impl Sync for Iface {}
// SAFETY: as for `Iface`.
unsafe impl Sync for Comp {}
// SAFETY: as for `Sync`: nothing in a descriptor belongs to a thread.
unsafe impl Send for Iface {}
// SAFETY: as for `Iface`.
unsafe impl Send for Comp {}

#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<Iface>() == 72);
    assert!(offset_of!(Iface, name) == 0);
    assert!(offset_of!(Iface, version) == 8);
    assert!(offset_of!(Iface, versions_replace) == 16);
    assert!(offset_of!(Iface, versions_replace_count) == 24);
    assert!(offset_of!(Iface, dependencies) == 32);
    assert!(offset_of!(Iface, dependency_count) == 40);
    assert!(offset_of!(Iface, constructor) == 48);
    assert!(offset_of!(Iface, destructor) == 56);
    assert!(offset_of!(Iface, interfaces) == 64);
    assert!(size_of::<Comp>() == 16);
    assert!(offset_of!(Comp, ifaces) == 0);
    assert!(offset_of!(Comp, iface_count) == 8);
};

/// NUL-terminated names in a row, as `Iface::dependencies` points to them.
#[repr(transparent)]
#[derive(Debug)]
pub struct Names<const N: usize>([*const c_char; N]);

// SAFETY: pointers to constants.
unsafe impl<const N: usize> Sync for Names<N> {}

impl<const N: usize> Names<N> {
    /// The names.
    #[must_use]
    pub const fn new(names: [&'static CStr; N]) -> Self {
        let mut pointers = [ptr::null(); N];
        let mut i = 0;
        while i < N {
            pointers[i] = names[i].as_ptr();
            i += 1;
        }
        Names(pointers)
    }
}

/// C functions in a row: a raw table, as `Iface::interfaces` points to it.
#[repr(transparent)]
#[derive(Debug)]
pub struct RawTable<const N: usize>(pub [*const c_void; N]);

// SAFETY: pointers to functions.
unsafe impl<const N: usize> Sync for RawTable<N> {}

impl Iface {
    /// The descriptor of a typed interface.
    #[must_use]
    pub const fn typed<M, const R: usize, const D: usize>(
        name: &'static CStr,
        version: c_int,
        replaces: &'static [c_int; R],
        requires: &'static Names<D>,
        table: &'static TypedTable<M>,
    ) -> Self {
        Iface {
            name: name.as_ptr(),
            version,
            versions_replace: replaces.as_ptr(),
            versions_replace_count: R as c_int,
            dependencies: requires.0.as_ptr(),
            dependency_count: D,
            constructor: None,
            destructor: None,
            interfaces: ptr::from_ref(table).cast(),
        }
    }

    /// The descriptor of an interface with a raw table.
    #[must_use]
    pub const fn raw<const R: usize, const D: usize, const F: usize>(
        name: &'static CStr,
        version: c_int,
        replaces: &'static [c_int; R],
        requires: &'static Names<D>,
        constructor: Option<unsafe extern "C" fn(*mut c_void) -> c_int>,
        destructor: Option<unsafe extern "C" fn(*mut c_void)>,
        table: &'static RawTable<F>,
    ) -> Self {
        Iface {
            name: name.as_ptr(),
            version,
            versions_replace: replaces.as_ptr(),
            versions_replace_count: R as c_int,
            dependencies: requires.0.as_ptr(),
            dependency_count: D,
            constructor,
            destructor,
            interfaces: table.0.as_ptr(),
        }
    }

    /// The prologue of a typed table; none for a raw one.
    ///
    /// # Safety
    ///
    /// `interfaces` must be null or point to a table of at least one function.
    #[must_use]
    pub unsafe fn prologue(&self) -> Option<&Prologue> {
        if self.interfaces.is_null() {
            return None;
        }
        // SAFETY: a table's first eight bytes are a function's address or the
        // magic; with the magic, a whole prologue follows.
        unsafe {
            let first = self.interfaces.cast::<u64>().read();
            (first == MAGIC).then(|| &*self.interfaces.cast::<Prologue>())
        }
    }

    /// The name as text; bytes that are no UTF-8 are replaced.
    ///
    /// # Safety
    ///
    /// `name` must point to a NUL-terminated string.
    #[must_use]
    pub unsafe fn name(&self) -> std::borrow::Cow<'_, str> {
        // SAFETY: the caller's word.
        unsafe { CStr::from_ptr(self.name) }.to_string_lossy()
    }

    /// The versions it replaces.
    ///
    /// # Safety
    ///
    /// The pointer and the count must belong together.
    #[must_use]
    pub unsafe fn replaces(&self) -> &[c_int] {
        match usize::try_from(self.versions_replace_count) {
            // SAFETY: the caller's word.
            Ok(count) if count > 0 && !self.versions_replace.is_null() => unsafe {
                std::slice::from_raw_parts(self.versions_replace, count)
            },
            _ => &[],
        }
    }

    /// The names of what it requires. A null ends them, for whom has counted that, too: the
    /// original never read the list.
    ///
    /// # Safety
    ///
    /// The pointers and the count must belong together.
    #[must_use]
    pub unsafe fn requires(&self) -> Vec<String> {
        if self.dependency_count == 0 || self.dependencies.is_null() {
            return Vec::new();
        }
        // SAFETY: the caller's word.
        unsafe {
            std::slice::from_raw_parts(self.dependencies, self.dependency_count)
                .iter()
                .take_while(|name| !name.is_null())
                .map(|name| CStr::from_ptr(*name).to_string_lossy().into_owned())
                .collect()
        }
    }
}

impl Comp {
    /// The descriptor of a component.
    #[must_use]
    pub const fn new(ifaces: &'static [Iface]) -> Self {
        Comp { ifaces: ifaces.as_ptr(), iface_count: ifaces.len() }
    }

    /// Its interfaces.
    ///
    /// # Safety
    ///
    /// The pointer and the count must belong together.
    #[must_use]
    pub unsafe fn ifaces(&self) -> &[Iface] {
        if self.ifaces.is_null() || self.iface_count == 0 {
            return &[];
        }
        // SAFETY: the caller's word.
        unsafe { std::slice::from_raw_parts(self.ifaces, self.iface_count) }
    }
}
