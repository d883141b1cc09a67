//! What a component's module sees without naming it: the `component` attribute
//! writes `use lcr_core::prelude::*;` at its top. Your own names win over these.

pub use crate::call::CallError;
pub use crate::construct::{BoxError, Construct};
pub use crate::context::{Context, ContextError, Value};
pub use crate::handle::{Handle, Instance};
pub use crate::handover::{Handover, State};
pub use lcr_macros::Interface;
