//! Values that cross the border between modules which share no compiler.

mod raw;

pub use raw::{RawSlice, RawStr};
