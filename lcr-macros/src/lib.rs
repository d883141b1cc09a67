//! The macros of lcr-core; use them through that crate.
