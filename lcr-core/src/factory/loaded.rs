//! A library that a factory has loaded, for as long as anything uses it.
//!
//! Every offer of the library holds it; when the last one goes, it is unloaded,
//! or put by as *kept*, with the reason. Whenever a library is loaded or unloaded,
//! and when [`sweep`] is called, those that are kept for a reason that passes are
//! tried again.

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use once_cell::sync::OnceCell;

use super::describe::component;
use super::history::sha256;
use super::offer::Offer;
use super::search::{Hit, Seen};
use super::{Inner, Wanted};
use crate::descriptor::Iface;
use crate::error::ReferenceError;
use crate::library::probe::Registered;
use crate::library::{
    CLibrary, Candidate, Kept, Library, LoadError, Locals, NotEntered, Object, Stamp, Unload,
};
use crate::metadata::{Interface, Metadata};
use crate::registry::Registration;
use crate::services;
use crate::table::Description;

pub(crate) struct Loaded {
    path: PathBuf,
    stamp: Stamp,
    code: ManuallyDrop<Code>,
    sha256: OnceCell<String>,
}

/// What is mapped.
enum Code {
    Rust(Library),
    C(CLibrary),
}

impl Code {
    fn object(&self) -> &Object {
        match self {
            Code::Rust(library) => library.object(),
            Code::C(library) => library.object(),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Code::Rust(library) => library.path(),
            Code::C(library) => library.path(),
        }
    }

    fn registrations(&self) -> Vec<&Registration> {
        match self {
            Code::Rust(library) => library.registrations().collect(),
            Code::C(library) => library.registrations().iter().collect(),
        }
    }

    /// What it was seen to register.
    fn registered(&self) -> Registered {
        let components = self.registrations().iter().map(|r| component(r).interfaces).collect();
        let passed_over = match self {
            Code::Rust(_) => Vec::new(),
            Code::C(library) => library.refused().to_vec(),
        };
        Registered { components, passed_over }
    }

    /// # Safety
    ///
    /// As [`Library::try_unload`].
    unsafe fn try_unload(self) -> Result<(), (Kept, Code)> {
        match self {
            // SAFETY: the caller's word.
            Code::Rust(library) => match unsafe { library.try_unload(Locals::Wait) } {
                Unload::Unloaded => Ok(()),
                Unload::Kept { reason, library } => Err((reason, Code::Rust(library))),
            },
            Code::C(library) => {
                // SAFETY: as above.
                let unloaded = unsafe { library.try_unload() };
                unloaded.map_err(|(reason, library)| (reason, Code::C(library)))
            }
        }
    }
}

/// How often a library that changes under the search is looked for.
const TRIES: u32 = 5;

impl Loaded {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The SHA-256 of what is mapped, in hexadecimal.
    pub(crate) fn sha256(&self) -> Option<String> {
        self.sha256.get_or_try_init(|| sha256(&mut self.code.object().content())).ok().cloned()
    }

    /// Is it a C library?
    pub(crate) fn is_c(&self) -> bool {
        matches!(*self.code, Code::C(_))
    }

    /// What it says of an interface's table.
    pub(super) fn table_of(&self, iface: *const Iface) -> Option<&Description> {
        match &*self.code {
            Code::Rust(_) => None,
            Code::C(library) => library.table_of(iface),
        }
    }

    /// All that the library offers.
    pub(super) fn offers(self: &Arc<Self>) -> Vec<Offer> {
        let registrations = self.code.registrations().into_iter();
        let each = registrations.flat_map(|registration| {
            // SAFETY: a registered descriptor is a sound one; both are in the library.
            let ifaces = unsafe { registration.comp().ifaces() }.iter();
            // SAFETY: as above.
            ifaces.map(move |iface| unsafe { Offer::external(iface, registration, Arc::clone(self)) })
        });
        each.collect()
    }

    /// The library's interface of this name and version.
    fn offer(self: &Arc<Self>, name: &str, version: i32) -> Option<Offer> {
        for registration in self.code.registrations() {
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
        for registration in self.code.registrations() {
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
    /// Where the file has changed meanwhile, what answers the same wish now.
    pub(super) fn load(&self, hit: &Hit, wanted: Wanted<'_>) -> Result<Offer, ReferenceError> {
        // Before the lock is held: it runs libraries' last code.
        sweep();
        let mut hit = hit.clone();
        for _ in 0..TRIES {
            let (name, wish) = (&hit.interface.name, hit.wish);
            if let Some(loaded) = self.try_load(&hit, wanted)? {
                match offer_of(&loaded, name, hit.interface.version) {
                    // Its data spoke of something that it does not register: now it is
                    // known, and the next one is asked.
                    Err(ReferenceError::Unregistered { .. }) if loaded.is_c() && !hit.is_named => {}
                    offer => return offer,
                }
            }
            if hit.is_named {
                let seen = self.look_at(&hit.seen.path)?;
                let same = |i: &&Interface| i.name == *name && i.version == hit.interface.version;
                let interface = seen.interfaces().find(same).cloned();
                let interface = interface.ok_or_else(|| self.not_found(name, wish))?;
                hit = Hit { seen: Arc::new(seen), interface, ..hit };
                continue;
            }
            hit = self.search.find_anew(name, wish).ok_or_else(|| self.not_found(name, wish))?;
        }
        Err(ReferenceError::Changing { path: hit.seen.path.clone(), tries: TRIES })
    }

    /// The notes of a file that was named, through the same door as its code.
    pub(super) fn look_at(&self, file: &Path) -> Result<Seen, ReferenceError> {
        let candidate = Candidate::open(file, &self.policy)?;
        let metadata = Metadata::read_from(candidate.file(), file)?;
        Ok(Seen::verified(candidate.file(), file.to_owned(), candidate.stamp(), metadata))
    }

    /// None if the file is no longer the one that was found.
    fn try_load(&self, hit: &Hit, wanted: Wanted<'_>) -> Result<Option<Arc<Loaded>>, ReferenceError> {
        // Dropped when the lock is not held: each may be its library's last, and that
        // library's last code may reference something.
        let others;
        let _one = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let Hit { wish: _, is_named: _, seen, interface } = hit;
        others = self.all_loaded();
        if let Some(loaded) = others.iter().find(|l| l.path == seen.path && l.stamp == seen.stamp) {
            wanted.fits_note(hit)?;
            return Ok(Some(Arc::clone(loaded)));
        }
        let candidate = match Candidate::open(&seen.path, &self.policy) {
            Err(LoadError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            candidate => candidate?,
        };
        if candidate.stamp() != seen.stamp {
            return Ok(None);
        }
        if let Some(unnoted) = &seen.unnoted {
            // The same file, and it has no note to compare: what it registers will tell.
            return match revive(&seen.path, seen.stamp) {
                Some(kept) => Ok(Some(self.keep_track(kept))),
                None => {
                    let loaded = self.map_c(candidate, unnoted.stays)?;
                    seen.tell(loaded.code.registered());
                    Ok(Some(loaded))
                }
            };
        }
        // From here on the file may change: the copy cannot.
        let metadata = Metadata::read_from(candidate.file(), &seen.path)?;
        let mut offered = metadata.interfaces().map(|(_, interface)| interface);
        let Some(interface) = offered.find(|i| i.name == interface.name && i.version == interface.version)
        else {
            return Ok(None);
        };
        wanted.fits_note(&Hit { interface: interface.clone(), ..hit.clone() })?;
        self.map(candidate).map(Some)
    }

    /// The libraries that are in use.
    pub(super) fn all_loaded(&self) -> Vec<Arc<Loaded>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|library| library.strong_count() > 0);
        loaded.iter().filter_map(Weak::upgrade).collect()
    }

    fn map(&self, candidate: Candidate) -> Result<Arc<Loaded>, ReferenceError> {
        let (path, stamp) = (candidate.path().to_owned(), candidate.stamp());
        let services = self.services.get_or_init(|| services::offered(self.number));
        // SAFETY: they are this factory's.
        let library = unsafe { candidate.map()?.enter(services) }.map_err(|refused| {
            let NotEntered { error, mut object } = *refused;
            // SAFETY: of the object only ELF constructors have run, and at most an
            // entry that refused the services: nobody has anything of it.
            unsafe { object.close() };
            error
        })?;
        let code = ManuallyDrop::new(Code::Rust(library));
        Ok(self.keep_track(Loaded { path, stamp, code, sha256: OnceCell::new() }))
    }

    /// Maps a library without a note: it is what it registers.
    fn map_c(
        &self,
        candidate: Candidate,
        leaves: Option<&'static str>,
    ) -> Result<Arc<Loaded>, ReferenceError> {
        let (path, stamp) = (candidate.path().to_owned(), candidate.stamp());
        let code = ManuallyDrop::new(Code::C(CLibrary::new(candidate.map()?, leaves)));
        Ok(self.keep_track(Loaded { path, stamp, code, sha256: OnceCell::new() }))
    }

    fn keep_track(&self, loaded: Loaded) -> Arc<Loaded> {
        let loaded = Arc::new(loaded);
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&loaded));
        loaded
    }
}

fn offer_of(loaded: &Arc<Loaded>, name: &str, version: i32) -> Result<Offer, ReferenceError> {
    if let Some((version, first, second)) = loaded.duplicate(name) {
        let origin = |r: &Registration| format!("component `{}` of {}", r.name(), loaded.path.display());
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
        let code = unsafe { ManuallyDrop::take(&mut self.code) };
        // SAFETY: every offer, instance and raw reference of it held this `Loaded`,
        // and so did every gate through which it could be called.
        if let Err((reason, code)) = unsafe { code.try_unload() } {
            kept().push(Waiting { code, stamp: self.stamp, reason });
        }
        sweep();
    }
}

/// Libraries that nothing refers to any more, and that could not be unmapped.
static KEPT: Mutex<Vec<Waiting>> = Mutex::new(Vec::new());

struct Waiting {
    code: Code,
    stamp: Stamp,
    reason: Kept,
}

fn kept() -> MutexGuard<'static, Vec<Waiting>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The C library of this file, if it is kept: it registered itself once, and can be
/// used again. (A Rust library's thread-locals may be gone: that one is mapped anew.)
fn revive(path: &Path, stamp: Stamp) -> Option<Loaded> {
    let mut kept = kept();
    let is_it = |w: &Waiting| {
        matches!(&w.code, Code::C(library) if library.is_whole()) && w.stamp == stamp && w.code.path() == path
    };
    let at = kept.iter().position(is_it)?;
    let Waiting { code, stamp, reason: _ } = kept.swap_remove(at);
    Some(Loaded { path: path.to_owned(), stamp, code: ManuallyDrop::new(code), sha256: OnceCell::new() })
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
    let waiting: Vec<Waiting> = kept().extract_if(.., |w| w.reason.may_pass()).collect();
    let mut still = Vec::with_capacity(waiting.len());
    for Waiting { code, stamp, .. } in waiting {
        // SAFETY: nothing refers to it since it was put by.
        if let Err((reason, code)) = unsafe { code.try_unload() } {
            still.push(Waiting { code, stamp, reason });
        }
    }
    let mut kept = kept();
    kept.append(&mut still);
    kept.iter().map(|w| KeptLibrary { path: w.code.path().to_owned(), reason: w.reason }).collect()
}
