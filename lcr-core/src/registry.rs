//! What this module (a program or a library) registered at link time.

use crate::abi::RawStr;
use crate::descriptor::Comp;

/// One component, as its annotation registered it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Registration {
    /// The descriptor.
    pub comp: *const Comp,
    /// The component's name.
    pub name: RawStr,
    /// The package that holds it.
    pub package: RawStr,
    /// That package's version.
    pub package_version: RawStr,
    /// The Rust path of the annotated module.
    pub module: RawStr,
}

// SAFETY: a registration is read-only, and what it points to lives as long as
// the module that registered it is mapped.
unsafe impl Sync for Registration {}
// SAFETY: as above.
unsafe impl Send for Registration {}

/// Every component of this module.
#[cfg(feature = "linkme")]
#[linkme::distributed_slice]
pub static COMPONENTS: [Registration];

/// Every component of this module.
pub fn registrations() -> impl Iterator<Item = &'static Registration> {
    #[cfg(feature = "linkme")]
    return COMPONENTS.iter();
    #[cfg(not(feature = "linkme"))]
    return std::iter::empty();
}
