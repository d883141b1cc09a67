//! Nothing: see `benches/opponents.rs`.
