//! What a component's module sees without naming it: the `component` attribute
//! writes `use lcr_core::prelude::*;` into it.
//!
//! What the module declares itself, and what it imports by name, wins over these.
//! What comes from a glob of yours does not: under `use super::*;`, a `State` of the
//! parent's is as near as this one, and the compiler calls the name ambiguous where it
//! is used. The cure is the import by name, beside the glob:
//!
//! ```
//! # #[lcr_core::contract]
//! # pub trait Clock: Send + Sync { fn now(&self) -> u64; }
//! pub struct State(u64);
//!
//! #[lcr_core::component]
//! mod noon {
//!     use super::*;
//!     use super::State;
//!
//!     #[derive(Interface)]
//!     #[interface(name = "clock", version = 0, contract = dyn Clock)]
//!     pub struct Noon(State);
//!
//!     impl Construct for Noon {
//!         fn construct(_: &Context) -> Result<Self, BoxError> {
//!             Ok(Noon(State(12)))
//!         }
//!     }
//!
//!     impl Clock for Noon {
//!         fn now(&self) -> u64 {
//!             self.0.0
//!         }
//!     }
//! }
//! # fn main() {}
//! ```

pub use crate::call::CallError;
pub use crate::construct::{BoxError, Construct};
pub use crate::context::{Context, ContextError, Value};
pub use crate::handle::{Handle, Instance};
pub use crate::handover::{Handover, State};
pub use lcr_macros::Interface;
