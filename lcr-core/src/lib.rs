//! lcr: components that register themselves, and can be replaced live.

extern crate self as lcr_core;

pub mod abi;
pub mod allocator;
pub mod call;
pub mod construct;
pub mod context;
pub mod contract;
pub mod descriptor;
pub mod entry;
pub mod error;
pub mod factory;
pub mod gate;
pub mod handle;
pub mod handover;
pub mod interface;
pub mod library;
pub mod registry;
pub mod services;
pub mod metadata;
pub mod note;
mod sync;
pub mod text;
pub mod version;

pub use call::CallError;
pub use construct::{BoxError, Construct};
pub use context::{Context, ContextError, Value};
pub use contract::Contract;
pub use error::ReferenceError;
pub use factory::{Factory, Raw, reference, reference_raw, reference_with};
pub use version::Version;
pub use handle::{Guard, Handle, Instance};

/// What only the macros use.
#[doc(hidden)]
pub mod __private {
    pub use crate::entry;
    pub use crate::services::Services;
    #[cfg(feature = "inventory")]
    pub use inventory;
    #[cfg(feature = "linkme")]
    pub use linkme;
}
