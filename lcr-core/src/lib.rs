//! lcr: components that register themselves, and can be replaced live.

extern crate self as lcr_core;

pub mod abi;
pub mod allocator;
pub mod descriptor;
pub mod entry;
pub mod library;
pub mod registry;
pub mod services;
pub mod text;

/// What only the macros' output names.
#[doc(hidden)]
pub mod __private {
    pub use crate::entry;
    pub use crate::services::Services;
}
