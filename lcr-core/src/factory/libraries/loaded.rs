//! A library that a factory has loaded, for as long as anything uses it.
//!
//! Every offer of the library holds it; when the last one goes, it is unloaded,
//! or put by as *kept*, with the reason. Whenever a library is loaded or unloaded,
//! and when [`sweep`] is called, those that are kept for a reason that passes are
//! tried again.

use std::fmt;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use once_cell::sync::OnceCell;

use crate::descriptor::Iface;
use crate::factory::offer::Offer;
use crate::library::{CLibrary, Kept, Library, Locals, Object, Stamp, Unload};
use crate::registry::Registration;
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

impl Loaded {
    pub(super) fn of(path: PathBuf, stamp: Stamp, library: Library) -> Self {
        Self::new(path, stamp, Code::Rust(library))
    }

    pub(super) fn of_c(path: PathBuf, stamp: Stamp, library: CLibrary) -> Self {
        Self::new(path, stamp, Code::C(library))
    }

    fn new(path: PathBuf, stamp: Stamp, code: Code) -> Self {
        Loaded { path, stamp, code: ManuallyDrop::new(code), sha256: OnceCell::new() }
    }

    /// What all its components offer.
    pub(super) fn registrations(&self) -> Vec<&Registration> {
        self.code.registrations()
    }

    /// Why some of its components were passed over.
    pub(super) fn refused(&self) -> &[String] {
        match &*self.code {
            Code::Rust(_) => &[],
            Code::C(library) => library.refused(),
        }
    }

    /// Is it this file, as it was when it was looked at?
    pub(super) fn is(&self, path: &Path, stamp: Stamp) -> bool {
        self.path == path && self.stamp == stamp
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The SHA-256 of what is mapped, in hexadecimal.
    #[cfg(feature = "replace")]
    pub(crate) fn sha256(&self) -> Option<String> {
        self.sha256
            .get_or_try_init(|| crate::factory::history::sha256(&mut self.code.object().content()))
            .ok()
            .cloned()
    }

    /// Is it a C library?
    pub(crate) fn is_c(&self) -> bool {
        matches!(*self.code, Code::C(_))
    }

    /// What it says of an interface's table.
    pub(crate) fn table_of(&self, iface: *const Iface) -> Option<&Description> {
        match &*self.code {
            Code::Rust(_) => None,
            Code::C(library) => library.table_of(iface),
        }
    }

    /// All that the library offers.
    pub(crate) fn offers(self: &Arc<Self>) -> Vec<Offer> {
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
    pub(super) fn offer(self: &Arc<Self>, name: &str, version: i32) -> Option<Offer> {
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
    pub(super) fn duplicate(&self, name: &str) -> Option<(i32, &Registration, &Registration)> {
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
pub(super) fn revive(path: &Path, stamp: Stamp) -> Option<Loaded> {
    let mut kept = kept();
    let is_it = |w: &Waiting| {
        matches!(&w.code, Code::C(library) if library.is_whole()) && w.stamp == stamp && w.code.path() == path
    };
    let at = kept.iter().position(is_it)?;
    let Waiting { code, stamp, reason: _ } = kept.swap_remove(at);
    Some(Loaded::new(path.to_owned(), stamp, code))
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
