//! lcr: components that register themselves, and can be replaced live.

extern crate self as lcr_core;

#[doc(hidden)]
pub mod __private;
pub mod abi;
pub mod allocator;
pub mod border;
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
pub mod metadata;
pub mod note;
pub mod prelude;
pub mod registry;
pub mod services;
mod sync;
pub mod text;
pub mod version;

pub use abi::Abi;
pub use call::CallError;
pub use construct::{BoxError, Construct};
pub use context::{Context, ContextError, Value};
pub use contract::Contract;
pub use error::ReferenceError;
pub use factory::{Factory, Raw, reference, reference_raw, reference_with};
pub use handle::{Guard, Handle, Instance};
pub use handover::{Handover, State, StateError};
pub use lcr_macros::{Interface, component, contract, file_component};
pub use version::Version;
