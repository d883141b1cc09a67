//! provisional
/// provisional
#[repr(C)] #[derive(Debug)] pub struct Allocator { size: usize }
pub(crate) static LOCAL: Allocator = Allocator { size: 0 };
