//! lcr: components that register themselves, and can be replaced live.

extern crate self as lcr_core;

pub mod abi;
pub mod allocator;
pub mod call;
pub mod construct;
pub mod context;
pub mod contract;
pub mod descriptor;
pub mod factory;
pub mod gate;
pub mod handle;
pub mod handover;
pub mod interface;
pub mod metadata;
pub mod note;
pub mod registry;
pub mod services;
pub mod text;

pub use abi::Abi;
pub use call::CallError;
pub use construct::{BoxError, Construct};
pub use context::{Context, ContextError, Value};
pub use contract::Contract;
pub use factory::ReferenceError;
pub use handle::{Guard, Handle, Instance};

/// What only the macros use.
#[doc(hidden)]
pub mod __private {
    #[cfg(feature = "inventory")]
    pub use inventory;
    #[cfg(feature = "linkme")]
    pub use linkme;
}
