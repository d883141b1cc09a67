//! C libraries: objects that have no entry symbol, and registered their components
//! while they were being mapped.
//!
//! Nothing in them records threads, keys and handlers, as `library!` does in a Rust
//! library. So one that could leave such a thing behind, by the functions that it calls,
//! is never unmapped: `kept`, with the name of the function. It is taken up again at
//! the next reference instead of being mapped a second time.

use std::path::Path;

use super::{Kept, Object};
use crate::descriptor::{Comp, Iface};
use crate::registry::Registration;
use crate::table::Description;

/// A C library that is mapped. Stays mapped when it is dropped.
#[derive(Debug)]
pub(crate) struct CLibrary {
    object: Object,
    registrations: Vec<Registration>,
    tables: Vec<Description>,
    stays: Option<Kept>,
}

impl CLibrary {
    /// The library of an object that has registered something. `leaves` is what it
    /// calls and could leave behind.
    pub(crate) fn new(object: Object, leaves: Option<&'static str>) -> CLibrary {
        let stays = if object.nodelete { Some(Kept::AskedToStay) } else { leaves.map(Kept::LeavesBehind) };
        let sound = |comp: &*const Comp| {
            // SAFETY: `register_c` has looked at it, and the object is mapped as long as
            // this library lives, which owns the registration.
            unsafe { Registration::of_c(*comp) }
        };
        let registrations = object.registered.components.iter().map(sound).collect();
        // SAFETY: as above; `describe_c` has looked at them.
        let tables = object.registered.tables.iter().map(|table| unsafe { Description::new(*table) });
        let tables = tables.collect();
        CLibrary { object, registrations, tables, stays }
    }

    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    pub(crate) fn path(&self) -> &Path {
        self.object.path()
    }

    pub(crate) fn registrations(&self) -> &[Registration] {
        &self.registrations
    }

    /// Why some of its components were passed over.
    pub(crate) fn refused(&self) -> &[String] {
        &self.object.registered.refused
    }

    /// What it says of this interface's table.
    pub(crate) fn table_of(&self, iface: *const Iface) -> Option<&Description> {
        self.tables.iter().find(|description| description.table().iface == iface)
    }

    /// Could it be used again, though nobody uses it now?
    pub(crate) fn is_whole(&self) -> bool {
        !self.object.is_closed()
    }

    /// Unmaps it, unless there is a reason not to.
    ///
    /// # Safety
    ///
    /// Nothing of it is in use, and no thread will begin to use it.
    pub(crate) unsafe fn try_unload(mut self) -> Result<(), (Kept, CLibrary)> {
        if !self.object.is_closed() {
            if let Some(reason) = self.stays {
                return Err((reason, self));
            }
            if self.object.on_this_stack() {
                return Err((Kept::OnStack, self));
            }
        }
        // SAFETY: the caller's word.
        if unsafe { self.object.close() } { Ok(()) } else { Err((Kept::Mapped, self)) }
    }
}
