//! References of C code: to a component's own table, or, where the component says how
//! long that is, to one of ours that follows replacement.

use std::ffi::c_void;
use std::sync::Arc;

use super::instance::{NotOpened, RawHeld};
use super::libraries::Loaded;
use super::slot::Work;
use super::switchboard::SizedHeld;
use super::{Factory, Inner, Source, Wanted, plan};
use crate::error::ReferenceError;
use crate::registry;
use crate::version::Version;

/// A reference that C code holds; released when it is dropped.
pub(crate) enum CReference {
    /// To a component's own table,
    Raw(Box<RawHeld>),
    /// or to one of ours.
    Sized(Box<SizedHeld>),
}

impl CReference {
    pub(crate) fn table(&self) -> *mut c_void {
        match self {
            CReference::Raw(held) => held.table().cast_mut(),
            CReference::Sized(held) => held.table().cast_mut(),
        }
    }
}

impl Factory {
    /// References a raw table for C code, which may have none, and may release it on
    /// another thread.
    ///
    /// # Errors
    ///
    /// As [`reference()`](crate::reference()).
    ///
    /// # Safety
    ///
    /// As [`reference_raw`](crate::reference_raw()).
    pub(crate) unsafe fn reference_c(
        &self,
        name: &str,
        version: i32,
        context: *mut c_void,
    ) -> Result<CReference, ReferenceError> {
        // SAFETY: the caller's word.
        unsafe { Inner::for_c(&self.inner, name, Version::exact(version), context) }
    }
}

impl Inner {
    /// A reference for C code: through a table of ours, where the component says how long
    /// its own is.
    ///
    /// # Safety
    ///
    /// `context` must be what the component expects.
    unsafe fn for_c(
        this: &Arc<Self>,
        name: &str,
        version: Version,
        context: *mut c_void,
    ) -> Result<CReference, ReferenceError> {
        loop {
            let source = match this.compiled_in().index.find(name, version)? {
                Some(position) if !this.lines.know(name) => Source::CompiledIn(position),
                _ => this.source(name, version)?,
            };
            // SAFETY: the caller's word.
            match unsafe { this.open_for_c(&source, version, context) } {
                Ok(held) => return Ok(held),
                Err(NotOpened::Failed(error)) => return Err(error),
                Err(NotOpened::Replaced) => {}
            }
        }
    }

    /// # Safety
    ///
    /// `context` must be what the component expects.
    pub(super) unsafe fn open_for_c(
        self: &Arc<Self>,
        source: &Source,
        wish: Version,
        context: *mut c_void,
    ) -> Result<CReference, NotOpened> {
        let name = source.lasting_name(self);
        // What runs nothing for a reference cannot come back here.
        let work = if source.runs_nothing(self) {
            None
        } else {
            let work = Work::once(self.number, name.clone(), source.version(self))?;
            plan::check(self, source)?;
            Some(work)
        };
        let offer = self.offer(source, Wanted::Raw)?;
        let _work = work;
        if registry::has_tables() && offer.description().is_some() {
            // SAFETY: the caller's word.
            return unsafe { self.join(&offer, wish, context, name) }.map(CReference::Sized);
        }
        // SAFETY: as above.
        Ok(CReference::Raw(unsafe { self.hold_raw(source, offer, context, name)? }))
    }

    /// Does an interface that is compiled in or in use say how long its table is?
    pub(super) fn describes(&self, name: &str, version: i32) -> bool {
        let compiled_in = self.compiled_in().index.all(name).unwrap_or_default();
        let loaded = self.libraries.all_loaded();
        let in_use = loaded.iter().flat_map(Loaded::offers);
        let mut all = compiled_in.into_iter().map(|(_, offer)| offer).chain(in_use);
        all.any(|offer| offer.version() == version && offer.name() == name && offer.description().is_some())
    }
}

impl Source {
    /// Is it compiled in, without anything that it requires and without a constructor?
    fn runs_nothing(&self, factory: &Inner) -> bool {
        let is_inert = |position: usize| factory.compiled_in().index.is_inert(position);
        matches!(self, Source::CompiledIn(position) if is_inert(*position))
    }
}
