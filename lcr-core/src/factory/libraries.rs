//! The libraries of one factory: where they are searched, which may be loaded, which are.
//!
//! Without the feature `dlopen`, `no_libraries.rs` stands in this module's place.

mod legacy;
mod loaded;
mod search;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use once_cell::sync::OnceCell;

pub(super) use self::loaded::Loaded;
use self::loaded::revive;
pub use self::loaded::{KeptLibrary, sweep};
use self::search::Search;
pub(super) use self::search::{Hit, Seen};
use super::offer::Offer;
use super::{Builder, Factory, Inner, Wanted};
use crate::contract::{Mismatch, compatible};
use crate::error::{Found, ReferenceError};
use crate::library::{CLibrary, Candidate, LoadError, NotEntered, Policy, is_secure, is_static};
use crate::metadata::{Interface, Metadata};
use crate::registry::Registration;
use crate::services::{self, Services};
use crate::version::Version;

/// What a builder was told of them.
#[derive(Debug, Default)]
pub(super) struct Settings {
    places: Vec<PathBuf>,
    policy: Option<Policy>,
}

impl Settings {
    /// What was said, and what the environment says, if that is to be looked at.
    pub(super) fn libraries(self, with_environment: bool) -> Libraries {
        let Settings { mut places, policy } = self;
        // With more rights than its caller's, a program does not let the caller choose.
        if with_environment
            && !is_secure()
            && let Some(path) = std::env::var_os("LCR_PATH")
        {
            places.extend(std::env::split_paths(&path).filter(|p| !p.as_os_str().is_empty()));
        }
        Libraries {
            search: Search::new(places),
            policy: policy.unwrap_or_default(),
            services: OnceCell::new(),
            loading: Mutex::default(),
            loaded: Mutex::default(),
        }
    }
}

/// What a factory knows of them.
pub(super) struct Libraries {
    search: Search,
    policy: Policy,
    services: OnceCell<&'static Services>,
    /// Held while a library is mapped: two references at once map it once.
    loading: Mutex<()>,
    loaded: Mutex<Vec<Weak<Loaded>>>,
}

impl Builder {
    /// Searches this directory, or takes this file into account, after those that
    /// were named before and before `LCR_PATH`.
    pub fn path(mut self, place: impl Into<PathBuf>) -> Self {
        self.libraries.places.push(place.into());
        self
    }

    /// Which libraries may be loaded; [`Policy::default`] says what is usual.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.libraries.policy = Some(policy);
        self
    }
}

impl Factory {
    /// Searches these places from now on, in the place of those that the builder and
    /// `LCR_PATH` named. What is loaded stays.
    pub fn set_search(&self, places: impl IntoIterator<Item = PathBuf>) {
        self.inner.libraries.search.set(places.into_iter().collect());
    }

    /// The places that are searched, in order.
    #[must_use]
    pub fn search(&self) -> Vec<PathBuf> {
        self.inner.libraries.search.places()
    }

    /// Searches the places of corosync's LCR too, behind all others, or no longer: the
    /// directory that the process is in at the first look-up, `built_in`,
    /// `LD_LIBRARY_PATH`, and the directories of `/etc/ld.so.conf`, for `*.lcrso`
    /// alone. Off unless switched on: it lets whoever can write to one of these choose
    /// what runs, and only the check of a file's owner stands in between.
    pub fn search_as_the_original(&self, is_on: bool, built_in: Option<PathBuf>) {
        self.inner.libraries.search.legacy(is_on, built_in);
    }
}

impl Libraries {
    /// The places that are searched, in order.
    pub(super) fn places(&self) -> Vec<PathBuf> {
        self.search.places()
    }

    /// What answers a reference that nothing compiled in does.
    pub(super) fn find(&self, name: &str, version: Version) -> Result<Option<Hit>, ReferenceError> {
        match self.search.find(name, version) {
            Some(_) if is_static() => Err(ReferenceError::Static { name: name.to_owned(), version }),
            hit => Ok(hit),
        }
    }

    /// Nothing does: what there is instead, and where was looked.
    pub(super) fn not_found(
        &self,
        name: &str,
        version: Version,
        mut versions: Vec<(i32, String)>,
    ) -> ReferenceError {
        if is_static() {
            return ReferenceError::Static { name: name.to_owned(), version };
        }
        let mut unreadable = Vec::new();
        for place in self.search.named_places() {
            if let Err(error) = std::fs::metadata(&place) {
                unreadable.push(format!("{}: {error}", place.display()));
            }
        }
        for seen in self.search.look() {
            let others = seen.interfaces().filter(|i| i.name == name);
            versions.extend(others.map(|i| (i.version, seen.path.display().to_string())));
            unreadable.extend(seen.fault(name));
        }
        versions.sort_by_key(|(version, _)| *version);
        let searched = self.search.places();
        let nowhere = searched.is_empty();
        let found = Found { versions, searched, unreadable, nowhere };
        ReferenceError::NotFound { name: name.to_owned(), version, found: Box::new(found) }
    }

    /// The files that are searched.
    #[cfg(feature = "replace")]
    pub(super) fn look(&self) -> Vec<Arc<Seen>> {
        self.search.look()
    }

    /// Refuses a file that could not be loaded.
    #[cfg(feature = "replace")]
    pub(super) fn check(&self, hit: &Hit) -> Result<(), ReferenceError> {
        drop(Candidate::open(&hit.seen.path, &self.policy)?);
        Ok(())
    }

    /// The libraries that are in use.
    pub(super) fn all_loaded(&self) -> Vec<Arc<Loaded>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|library| library.strong_count() > 0);
        loaded.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Hit {
    pub(super) fn name(&self) -> &str {
        &self.interface.name
    }

    pub(super) fn version(&self) -> i32 {
        self.interface.version
    }

    pub(super) fn requires(&self) -> Vec<String> {
        self.interface.requires.clone()
    }

    pub(super) fn is_typed(&self) -> bool {
        self.interface.contract.is_some()
    }

    pub(super) fn is_singleton(&self) -> bool {
        !self.interface.per_reference
    }
}

impl Wanted<'_> {
    /// Does it fit, by the note of a library that is not loaded.
    pub(super) fn fits_note(self, hit: &Hit) -> Result<(), ReferenceError> {
        let interface = &hit.interface;
        let origin = || hit.seen.path.display().to_string();
        let mismatch = match (self, &interface.contract) {
            (Wanted::Raw, Some(contract)) => {
                return Err(ReferenceError::Typed {
                    name: interface.name.clone(),
                    version: interface.version,
                    origin: origin(),
                    contract: contract.name.clone(),
                });
            }
            (Wanted::Raw, None) | (Wanted::Typed, _) => return Ok(()),
            (Wanted::Contract(wanted), None) => Mismatch::Raw { expected: wanted.contract().to_owned() },
            (Wanted::Contract(wanted), Some(offered)) => match compatible(wanted.view(), offered.view()) {
                Ok(()) => return Ok(()),
                Err(mismatch) => mismatch,
            },
        };
        Err(ReferenceError::Contract {
            name: interface.name.clone(),
            version: interface.version,
            origin: origin(),
            mismatch: Box::new(mismatch),
        })
    }
}

/// How often a library that changes under the search is looked for.
const TRIES: u32 = 5;

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
            hit = self.libraries.search.find_anew(name, wish).ok_or_else(|| self.not_found(name, wish))?;
        }
        Err(ReferenceError::Changing { path: hit.seen.path.clone(), tries: TRIES })
    }

    /// The notes of a file that was named, through the same door as its code.
    pub(super) fn look_at(&self, file: &Path) -> Result<Seen, ReferenceError> {
        let candidate = Candidate::open(file, &self.libraries.policy)?;
        let metadata = Metadata::read_from(candidate.file(), file)?;
        Ok(Seen::verified(candidate.file(), file.to_owned(), candidate.stamp(), metadata))
    }

    /// None if the file is no longer the one that was found.
    fn try_load(&self, hit: &Hit, wanted: Wanted<'_>) -> Result<Option<Arc<Loaded>>, ReferenceError> {
        // Dropped when the lock is not held: each may be its library's last, and that
        // library's last code may reference something.
        let others;
        let _one = self.libraries.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let Hit { wish: _, is_named: _, seen, interface } = hit;
        others = self.libraries.all_loaded();
        if let Some(loaded) = others.iter().find(|l| l.is(&seen.path, seen.stamp)) {
            wanted.fits_note(hit)?;
            return Ok(Some(Arc::clone(loaded)));
        }
        let candidate = match Candidate::open(&seen.path, &self.libraries.policy) {
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
                    seen.tell(loaded.registered());
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

    fn map(&self, candidate: Candidate) -> Result<Arc<Loaded>, ReferenceError> {
        let (path, stamp) = (candidate.path().to_owned(), candidate.stamp());
        let services = self.libraries.services.get_or_init(|| services::offered(self.number));
        // SAFETY: they are this factory's.
        let library = unsafe { candidate.map()?.enter(services) }.map_err(|refused| {
            let NotEntered { error, mut object } = *refused;
            // SAFETY: of the object only ELF constructors have run, and at most an
            // entry that refused the services: nobody has anything of it.
            unsafe { object.close() };
            error
        })?;
        Ok(self.keep_track(Loaded::of(path, stamp, library)))
    }

    /// Maps a library without a note: it is what it registers.
    fn map_c(
        &self,
        candidate: Candidate,
        leaves: Option<&'static str>,
    ) -> Result<Arc<Loaded>, ReferenceError> {
        let (path, stamp) = (candidate.path().to_owned(), candidate.stamp());
        let library = CLibrary::new(candidate.map()?, leaves);
        Ok(self.keep_track(Loaded::of_c(path, stamp, library)))
    }

    fn keep_track(&self, loaded: Loaded) -> Arc<Loaded> {
        let loaded = Arc::new(loaded);
        self.libraries.loaded.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&loaded));
        loaded
    }
}

fn offer_of(loaded: &Arc<Loaded>, name: &str, version: i32) -> Result<Offer, ReferenceError> {
    if let Some((version, first, second)) = loaded.duplicate(name) {
        let origin = |r: &Registration| format!("component `{}` of {}", r.name(), loaded.path().display());
        return Err(ReferenceError::Duplicate {
            name: name.to_owned(),
            version,
            first: origin(first),
            second: origin(second),
        });
    }
    loaded.offer(name, version).ok_or_else(|| ReferenceError::Unregistered {
        path: loaded.path().to_owned(),
        name: name.to_owned(),
        version,
    })
}
