//! provisional
use crate::services::*;
/// provisional
#[derive(Debug)] pub enum ReferenceError {}
pub(crate) unsafe extern "C" fn reference_wire(_: *const (), _: *const ReferenceWire) -> ReferencedWire { panic!() }
pub(crate) unsafe extern "C" fn raw_release_wire(_: *mut ()) -> *mut Message { panic!() }
