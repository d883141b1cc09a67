//! lcr: components that register themselves, and can be replaced live.

extern crate self as lcr_core;

pub mod abi;
pub mod allocator;
pub mod descriptor;
pub mod text;

pub use abi::Abi;
