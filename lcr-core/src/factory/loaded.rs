//! A library that a factory has loaded, for as long as anything uses it.
//!
//! Every offer of the library holds it; when the last one goes, it is unloaded,
//! or put by as *kept*, with the reason. Whenever a library is loaded or unloaded,
//! and when [`sweep`] is called, those that are kept for a reason that passes are
//! tried again.

use std::fmt;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::offer::Offer;
use super::search::{Hit, Seen};
use super::{Inner, Wanted};
use crate::error::ReferenceError;
use crate::library::{Candidate, Kept, Library, Locals, NotEntered, Stamp, Unload};
use crate::metadata::Metadata;
use crate::registry::Registration;
use crate::services;
use crate::version::Version;

pub(crate) struct Loaded {
    path: PathBuf,
    stamp: Stamp,
    library: ManuallyDrop<Library>,
}

/// How often a library that changes under the search is looked for.
const TRIES: u32 = 5;

impl Loaded {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The library's interface of this name and version.
    fn offer(self: &Arc<Self>, name: &str, version: i32) -> Option<Offer> {
        for registration in self.library.registrations() {
            // SAFETY: a registered descriptor is a sound one.
            for iface in unsafe { registration.comp().ifaces() } {
                // SAFETY: as above.
                if iface.version == version && unsafe { iface.name() } == name {
                    // SAFETY: both are in the library.
                    return Some(unsafe { Offer::external(iface, registration, Arc::clone(self)) });
                }
            }
        }
        None
    }

    /// Which of its components offer a version of `name` twice.
    fn duplicate(&self, name: &str) -> Option<(i32, &Registration, &Registration)> {
        let mut seen: Vec<(i32, &Registration)> = Vec::new();
        for registration in self.library.registrations() {
            // SAFETY: a registered descriptor is a sound one.
            for iface in unsafe { registration.comp().ifaces() } {
                // SAFETY: as above.
                if unsafe { iface.name() } != name {
                    continue;
                }
                if let Some((version, first)) = seen.iter().find(|(v, _)| *v == iface.version) {
                    return Some((*version, first, registration));
                }
                seen.push((iface.version, registration));
            }
        }
        None
    }
}

impl Inner {
    /// The offer that `hit` speaks of; its library is loaded, unless it is already.
    pub(super) fn load(&self, hit: &Hit, wanted: Wanted<'_>) -> Result<Offer, ReferenceError> {
        let mut hit = hit.clone();
        for _ in 0..TRIES {
            let name = hit.interface.name.clone();
            if let Some(loaded) = self.loaded(&hit.seen.path) {
                wanted.fits_note(&hit)?;
                return offer_of(&loaded, &name, hit.interface.version);
            }
            let candidate = Candidate::open(&hit.seen.path, &self.policy)?;
            // From here on the file may change: the copy cannot.
            let metadata = Metadata::read_from(candidate.file(), &hit.seen.path)?;
            let seen = Arc::new(Seen::verified(hit.seen.path.clone(), candidate.stamp(), metadata));
            let still = seen.interfaces().find(|i| i.name == name && i.version == hit.interface.version);
            if let Some(interface) = still {
                let verified = Hit { interface: interface.clone(), seen: Arc::clone(&seen) };
                wanted.fits_note(&verified)?;
                let loaded = self.map(candidate)?;
                return offer_of(&loaded, &name, hit.interface.version);
            }
            match self.search.find_anew(&name, Version::exact(hit.interface.version)) {
                Some(other) => hit = other,
                None => return Err(self.not_found(&name, Version::exact(hit.interface.version))),
            }
        }
        Err(ReferenceError::Changing { path: hit.seen.path.clone(), tries: TRIES })
    }

    /// The library that was loaded from the file which stands at `path` now.
    fn loaded(&self, path: &Path) -> Option<Arc<Loaded>> {
        let stamp = Stamp::from(&std::fs::metadata(path).ok()?);
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|library| library.strong_count() > 0);
        loaded.iter().filter_map(Weak::upgrade).find(|l| l.path == path && l.stamp == stamp)
    }

    fn map(&self, candidate: Candidate) -> Result<Arc<Loaded>, ReferenceError> {
        sweep();
        let (path, stamp) = (candidate.path().to_owned(), candidate.stamp());
        let services = self.services.get_or_init(|| services::offered(self.number));
        let library = candidate.map()?.enter(services).map_err(|refused| {
            let NotEntered { error, mut object } = *refused;
            // SAFETY: of the object only ELF constructors have run, and at most an
            // entry that refused the services: nobody has anything of it.
            unsafe { object.close() };
            error
        })?;
        let loaded = Arc::new(Loaded { path, stamp, library: ManuallyDrop::new(library) });
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&loaded));
        Ok(loaded)
    }
}

fn offer_of(loaded: &Arc<Loaded>, name: &str, version: i32) -> Result<Offer, ReferenceError> {
    if let Some((version, first, second)) = loaded.duplicate(name) {
        let origin =
            |r: &Registration| format!("component `{}` of {}", r.name(), loaded.path.display());
        return Err(ReferenceError::Duplicate {
            name: name.to_owned(),
            version,
            first: origin(first),
            second: origin(second),
        });
    }
    loaded.offer(name, version).ok_or_else(|| ReferenceError::Unregistered {
        path: loaded.path.clone(),
        name: name.to_owned(),
        version,
    })
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: taken once, here.
        let library = unsafe { ManuallyDrop::take(&mut self.library) };
        // SAFETY: every offer, instance and raw reference of it held this `Loaded`,
        // and so did every gate through which it could be called.
        if let Unload::Kept { reason, library } = unsafe { library.try_unload(Locals::Wait) } {
            KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(Waiting { library, reason });
        }
        sweep();
    }
}

/// Libraries that nothing refers to any more, and that could not be unmapped.
static KEPT: Mutex<Vec<Waiting>> = Mutex::new(Vec::new());

struct Waiting {
    library: Library,
    reason: Kept,
}

/// A library that nothing refers to, and that is still mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLibrary {
    /// The file that it was loaded from.
    pub path: PathBuf,
    /// Why it is kept.
    pub reason: Kept,
}

impl fmt::Display for KeptLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: kept: {}", self.path.display(), self.reason)
    }
}

/// Tries again to unload the libraries that are kept, and says which still are,
/// and why. It runs by itself whenever a library is loaded or unloaded.
pub fn sweep() -> Vec<KeptLibrary> {
    // Taken out, not held: unloading runs the library's last code.
    let waiting = std::mem::take(&mut *KEPT.lock().unwrap_or_else(PoisonError::into_inner));
    let mut still = Vec::with_capacity(waiting.len());
    for Waiting { library, reason } in waiting {
        if !reason.may_pass() {
            still.push(Waiting { library, reason });
            continue;
        }
        // SAFETY: nothing refers to it since it was put by.
        if let Unload::Kept { reason, library } = unsafe { library.try_unload(Locals::Wait) } {
            still.push(Waiting { library, reason });
        }
    }
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.append(&mut still);
    kept.iter().map(|w| KeptLibrary { path: w.library.path().to_owned(), reason: w.reason }).collect()
}
