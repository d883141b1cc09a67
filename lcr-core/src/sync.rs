//! The atomics that `gate/protocol.rs` is written in.
//!
//! The loom model (`tests/loom_gate.rs`) includes that very file and puts loom's
//! atomics in this module's place: what is modelled is what runs.

pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
