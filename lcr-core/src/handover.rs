//! State hand-over: how an old version gives its state to a new one.

/// The thunks of an interface that hands state over. Its layout grows at its
/// end; `size` says how much of it there is.
#[repr(C)]
#[derive(Debug)]
pub struct HandoverTable {
    /// The size of this table in bytes.
    pub size: usize,
}
