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

use std::ffi::{c_char, c_int, c_void};
use std::mem::{offset_of, size_of};


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
