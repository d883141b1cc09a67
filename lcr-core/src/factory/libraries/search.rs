//! Searching libraries by reading their notes.
//!
//! Nothing is opened with dlopen here: a library's metadata says what it offers,
//! and only the one that is chosen is loaded. Each directory is indexed once and
//! remembered with its modification time. While that has not moved, a look-up
//! costs one `stat` a directory and one of the file that it finds, which is read
//! again when it is loaded: an index can be out of date but never wrong. A look-up
//! that finds nothing, or a file that has changed, trusts no memory: it looks at
//! every file, for one overwritten in place does not move its directory's time.
//! (What stays unseen until then is a *better* version that was written over a
//! file which was not chosen: install libraries by renaming them into place.)
//!
//! Libraries in C have no notes. What their data describe is read instead
//! ([`unnoted`](crate::metadata)), and believed until one of them is loaded: from then
//! on it is known what it registers. Where the data describe nothing, and the wanted
//! name stands in the file, a child process loads it and tells ([`probe`]).

use std::collections::HashMap;
use std::fs::{self, File, Metadata as Status};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use once_cell::sync::OnceCell;
use rustix::fs::{Mode, OFlags};

use super::legacy;
use crate::library::Stamp;
use crate::library::probe::{self, Registered};
use crate::metadata::unnoted::{Unnoted, holds};
use crate::metadata::{Content, FileKind, Interface, Metadata, MetadataError};
use crate::version::Version;

/// A directory's time is no proof while it is this young: a change within one
/// tick of the clock that stamps files would not move it.
const RACY: Duration = Duration::from_millis(50);

/// Of a library with a copy of this crate in it that was not made by `library!`.
const OWN_COPY: &str = "it holds a copy of liblcr, with which its components register themselves, and not with this \
                        program: link a component in C with no library of lcr's, neither liblcr.a nor liblcr.so (one \
                        in Rust is made a library by `lcr_core::library!`)";

/// Of a C library that nobody has looked into.
const UNDESCRIBED: &str = "it registers components, and its data describe none: an interface lacks its name, or is \
                           filled in when it is loaded (`lcr inspect --probe` tells)";

/// A file that was looked at.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) path: PathBuf,
    pub(crate) stamp: Stamp,
    pub(crate) metadata: Result<Metadata, MetadataError>,
    /// What it says without a note; none where it has one.
    pub(crate) unnoted: Option<Unnoted>,
    /// What it registers, once that is known, or why nothing.
    told: OnceCell<Told>,
}

/// What a file registers, as it was seen.
#[derive(Debug)]
pub(crate) struct Told {
    interfaces: Vec<Interface>,
    /// Why not all of it, or nothing at all.
    fault: Option<String>,
}

impl From<Result<Registered, String>> for Told {
    fn from(seen: Result<Registered, String>) -> Self {
        let (Registered { components, passed_over }, fault) = match seen {
            Ok(registered) => (registered, None),
            Err(reason) => (Registered::default(), Some(reason)),
        };
        let interfaces: Vec<Interface> = components.into_iter().flatten().collect();
        let nothing = || interfaces.is_empty().then(|| probe::NOTHING.to_owned());
        let passed_over = || (!passed_over.is_empty()).then(|| passed_over.join("; "));
        let fault = fault.or_else(passed_over).or_else(nothing);
        Told { interfaces, fault }
    }
}

impl Seen {
    /// `directory` is what `path` lies in: from there the way is short.
    fn read(path: PathBuf, directory: Option<&File>) -> Option<Self> {
        // Without O_NONBLOCK the open would wait for the other end of a pipe.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = match (directory, path.file_name()) {
            (Some(directory), Some(name)) => rustix::fs::openat(directory, name, flags, Mode::empty()),
            _ => rustix::fs::open(&path, flags, Mode::empty()),
        };
        let Ok(file) = opened.map(File::from) else {
            let status = fs::metadata(&path).ok().filter(Status::is_file)?;
            // Says why it cannot be opened.
            let metadata = Metadata::read(&path);
            return Some(Seen::new(path, Stamp::from(&status), metadata, None));
        };
        let status = file.metadata().ok().filter(Status::is_file)?;
        let content = Content::of(&file, status.len());
        let metadata = Metadata::of_library(&content, &path);
        Some(Seen::new(path, Stamp::from(&status), metadata, Some(content)))
    }

    /// What was read from a descriptor that nobody can change any more.
    pub(crate) fn verified(file: &File, path: PathBuf, stamp: Stamp, metadata: Metadata) -> Self {
        let length = file.metadata().map_or(0, |status| status.len());
        Seen::new(path, stamp, Ok(metadata), Some(Content::of(file, length)))
    }

    fn new(
        path: PathBuf,
        stamp: Stamp,
        metadata: Result<Metadata, MetadataError>,
        content: Option<Content<'_>>,
    ) -> Self {
        let is_silent = metadata.as_ref().is_ok_and(|m| m.components.is_empty() && m.library.is_none());
        let unnoted = content.filter(|_| is_silent).map(Unnoted::read);
        Seen { path, stamp, metadata, unnoted, told: OnceCell::new() }
    }

    /// Keeps what it was seen to register.
    pub(crate) fn tell(&self, registered: Registered) {
        let _ = self.told.set(Told::from(Ok(registered)));
    }

    /// Has a child process load it, if it may offer `name` and does not say so.
    fn ask(&self, name: &str) {
        if !self.unnoted.as_ref().is_some_and(|u| u.registers) || self.told.get().is_some() {
            return;
        }
        if File::open(&self.path).is_ok_and(|file| holds(&file, name)) {
            self.told.get_or_init(|| probe::ask(&self.path).into());
        }
    }

    /// Why it offers no `name`, for a message.
    pub(crate) fn fault(&self, name: &str) -> Option<String> {
        let path = self.path.display();
        match (&self.metadata, self.told.get(), &self.unnoted) {
            (Err(error), ..) => Some(error.to_string()),
            (_, Some(Told { fault: Some(reason), .. }), _) => Some(format!("{path}: {reason}")),
            (_, None, Some(unnoted)) if unnoted.registers && unnoted.interfaces.is_empty() => {
                Some(format!("{path}: {UNDESCRIBED}"))
            }
            (_, _, Some(Unnoted { is_older: true, .. })) => Some(format!("{path}: {}", probe::OLDER)),
            (Ok(metadata), ..) if Self::has_own_copy(metadata) => {
                let file = File::open(&self.path).ok().filter(|file| holds(file, name));
                file.map(|_| format!("{path}: {OWN_COPY}"))
            }
            _ => None,
        }
    }

    /// Does it hold components of ours, and is nothing that could be loaded for them?
    fn has_own_copy(metadata: &Metadata) -> bool {
        metadata.kind == FileKind::Library && metadata.library.is_none() && !metadata.components.is_empty()
    }

    fn is_unchanged(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|status| Stamp::from(&status) == self.stamp)
    }

    /// The interfaces in it; none where it could not be read.
    pub(crate) fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        let told = self.told.get().map(|told| told.interfaces.as_slice());
        let described = self.unnoted.as_ref().map(|unnoted| unnoted.interfaces.as_slice());
        let noted = self.metadata.iter().flat_map(|m| m.interfaces().map(|(_, interface)| interface));
        noted.chain(told.or(described).unwrap_or_default())
    }
}

/// What a search chose.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    /// What was looked for.
    pub(crate) wish: Version,
    /// The file was named, not found: no other one will do.
    pub(crate) is_named: bool,
    pub(crate) seen: Arc<Seen>,
    pub(crate) interface: Interface,
}

/// A directory or a file that is searched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    /// Whether only `*.lcrso` count there: in the original's places any library of the
    /// system may lie.
    pub(crate) is_legacy: bool,
}

/// The places of one factory, and what is remembered of them.
#[derive(Debug, Default)]
pub(crate) struct Search {
    places: Mutex<Arc<[Place]>>,
    /// The original's places, behind those: built in, and whether they are searched.
    is_legacy: AtomicBool,
    built_in: Mutex<Option<PathBuf>>,
    legacy: OnceCell<Vec<Place>>,
    remembered: Mutex<HashMap<Place, Remembered>>,
}

#[derive(Clone, Debug)]
struct Remembered {
    modified: SystemTime,
    is_proof: bool,
    files: Arc<Files>,
}

/// The files of one place, in the order in which they are asked.
#[derive(Debug, Default)]
struct Files {
    all: Vec<Arc<Seen>>,
    /// Which of them offer an interface, by its name.
    offering: HashMap<String, Vec<u32>>,
    /// Which of them register something that their data do not describe.
    opaque: Vec<u32>,
}

impl Files {
    fn new(all: Vec<Arc<Seen>>) -> Self {
        let mut offering: HashMap<String, Vec<u32>> = HashMap::with_capacity(all.len());
        let mut opaque = Vec::new();
        for (at, seen) in (0..).zip(&all) {
            if seen.unnoted.as_ref().is_some_and(|u| u.registers && u.interfaces.is_empty()) {
                opaque.push(at);
            }
            for interface in seen.interfaces() {
                let files = match offering.get_mut(&interface.name) {
                    Some(files) => files,
                    None => offering.entry(interface.name.clone()).or_default(),
                };
                if files.last() != Some(&at) {
                    files.push(at);
                }
            }
        }
        Files { all, offering, opaque }
    }

    /// The interfaces of a name, in order. Files that do not say what they offer are
    /// asked: those that say nothing at all, or, when nothing else was found, any.
    fn offers(&self, name: &str, trust: Trust) -> Vec<(Arc<Seen>, Interface)> {
        let noted = self.offering.get(name).map(Vec::as_slice).unwrap_or_default();
        let mut files: Vec<u32> = noted.to_vec();
        match trust {
            Trust::Directories => files.extend(&self.opaque),
            Trust::Nothing => files.extend((0..).zip(&self.all).filter_map(|(at, seen)| {
                seen.unnoted.as_ref().filter(|unnoted| unnoted.registers).map(|_| at)
            })),
        }
        files.sort_unstable();
        files.dedup();
        let mut offers = Vec::new();
        for seen in files.iter().map(|at| &self.all[*at as usize]) {
            let of_name = |i: &&Interface| i.name == name;
            if !seen.interfaces().any(|i| of_name(&i)) {
                seen.ask(name);
            }
            let of_name = seen.interfaces().filter(of_name);
            offers.extend(of_name.map(|interface| (Arc::clone(seen), interface.clone())));
        }
        offers
    }
}

/// May memory be trusted?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    Directories,
    Nothing,
}

impl Search {
    /// `places` are directories or single files, the first ones first.
    pub(crate) fn new(places: Vec<PathBuf>) -> Self {
        let search = Search::default();
        search.set(places);
        search
    }

    fn own(&self) -> MutexGuard<'_, Arc<[Place]>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Searches these places from now on, and the original's, where that is on.
    pub(crate) fn set(&self, places: Vec<PathBuf>) {
        *self.own() = places.into_iter().map(|path| Place { path, is_legacy: false }).collect();
    }

    /// Searches the original's places too, or no longer. `built_in` stands before
    /// those that the environment names; it is taken the first time.
    pub(crate) fn legacy(&self, is_on: bool, built_in: Option<PathBuf>) {
        if let Some(built_in) = built_in {
            let mut known = self.built_in.lock().unwrap_or_else(PoisonError::into_inner);
            known.get_or_insert(built_in);
        }
        self.is_legacy.store(is_on, Ordering::Release);
    }

    /// The places, in order. The original's are found out when they are first looked at.
    fn all_places(&self) -> Vec<Place> {
        let mut all = self.own().to_vec();
        if self.is_legacy.load(Ordering::Acquire) {
            let built_in = || self.built_in.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let paths = || legacy::places(built_in());
            let places = || paths().into_iter().map(|path| Place { path, is_legacy: true }).collect();
            all.extend(self.legacy.get_or_init(places).iter().cloned());
        }
        all
    }

    pub(crate) fn places(&self) -> Vec<PathBuf> {
        self.all_places().into_iter().map(|place| place.path).collect()
    }

    /// The places that somebody named: one that is not there is worth a word.
    pub(crate) fn named_places(&self) -> Vec<PathBuf> {
        self.own().iter().map(|place| place.path.clone()).collect()
    }

    /// The file that answers a reference, and its interface that does.
    pub(crate) fn find(&self, name: &str, version: Version) -> Option<Hit> {
        self.choose(name, version, Trust::Directories)
            .filter(|hit| hit.seen.is_unchanged())
            .or_else(|| self.find_anew(name, version))
    }

    /// All files, in the order in which they are asked.
    pub(crate) fn look(&self) -> Vec<Arc<Seen>> {
        let files = self.all_places().into_iter().filter_map(|place| self.files(&place, Trust::Nothing));
        files.flat_map(|files| files.all.clone()).collect()
    }

    /// What answers a reference when the file that did a moment ago no longer does.
    pub(crate) fn find_anew(&self, name: &str, version: Version) -> Option<Hit> {
        self.choose(name, version, Trust::Nothing)
    }

    /// The best of all places. Those behind one that offers the very version are not
    /// looked at.
    fn choose(&self, name: &str, version: Version, trust: Trust) -> Option<Hit> {
        let mut offers = Vec::new();
        for place in self.all_places() {
            let Some(files) = self.files(&place, trust) else { continue };
            offers.extend(files.offers(name, trust));
            if version.exact && offers.iter().any(|(_, i)| i.version == version.low) {
                break;
            }
        }
        let at = version.choose(offers.iter().map(|(_, i)| (i.version, i.replaces.as_slice())))?;
        let (seen, interface) = offers.swap_remove(at);
        Some(Hit { wish: version, is_named: false, seen, interface })
    }

    /// The files of a place, if it is there.
    fn files(&self, place: &Place, trust: Trust) -> Option<Arc<Files>> {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        match look_into(place, remembered.get(place), trust) {
            Looked::Unchanged(files) => Some(files),
            Looked::Anew(now) => {
                let files = Arc::clone(&now.files);
                remembered.insert(place.clone(), now);
                Some(files)
            }
            Looked::Nothing => {
                remembered.remove(place);
                None
            }
        }
    }
}

/// What is in a place.
enum Looked {
    /// What is remembered.
    Unchanged(Arc<Files>),
    Anew(Remembered),
    /// It is not there.
    Nothing,
}

/// Looks at a directory or a file. Files that have not changed are not read again.
fn look_into(place: &Place, known: Option<&Remembered>, trust: Trust) -> Looked {
    let now = SystemTime::now();
    let Place { path: place, is_legacy } = place;
    let Ok(status) = fs::metadata(place) else { return Looked::Nothing };
    let Ok(modified) = status.modified() else { return Looked::Nothing };
    if let Some(known) = known
        && trust == Trust::Directories
        && known.is_proof
        && known.modified == modified
    {
        return Looked::Unchanged(Arc::clone(&known.files));
    }
    let is_directory = status.is_dir();
    let paths = if is_directory { libraries_in(place, *is_legacy) } else { vec![place.clone()] };
    let directory = if is_directory { File::open(place).ok() } else { None };
    let old: HashMap<&Path, &Arc<Seen>> =
        known.iter().flat_map(|k| k.files.all.iter()).map(|seen| (seen.path.as_path(), seen)).collect();
    let files = each(&paths, |path| match old.get(path) {
        Some(seen) if seen.is_unchanged() => Some(Arc::clone(seen)),
        _ => Seen::read(path.to_owned(), directory.as_ref()).map(Arc::new),
    });
    // A clock that was set back proves nothing either.
    let is_proof = is_directory && now.duration_since(modified).is_ok_and(|age| age > RACY);
    Looked::Anew(Remembered { modified, is_proof, files: Arc::new(Files::new(files)) })
}

/// From how many files on it pays to start a thread for them.
const SHARE: usize = 128;

/// What `read` makes of each path, in order. Of many, other threads read their share:
/// nearly all of the time goes into system calls, which wait for nobody.
fn each<R: Send>(paths: &[PathBuf], read: impl Fn(&Path) -> Option<R> + Sync) -> Vec<R> {
    let read_all = |share: &[PathBuf]| share.iter().filter_map(|path| read(path)).collect::<Vec<R>>();
    let threads = thread::available_parallelism().map_or(1, usize::from).min(paths.len() / SHARE).max(1);
    let mut shares = paths.chunks(paths.len().div_ceil(threads).max(1));
    let Some(own) = shares.next() else { return Vec::new() };
    thread::scope(|scope| {
        let read_all = &read_all;
        let others: Vec<_> = shares
            .map(|share| {
                let name = "lcr-search".to_owned();
                (share, thread::Builder::new().name(name).spawn_scoped(scope, move || read_all(share)))
            })
            .collect();
        let mut all = read_all(own);
        for (share, other) in others {
            match other.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(read)) => all.extend(read),
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                // No thread could be had.
                Err(_) => all.extend(read_all(share)),
            }
        }
        all
    })
}

/// The `*.so` and `*.lcrso` files of a directory, or the latter alone, sorted by name.
fn libraries_in(directory: &Path, is_legacy: bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "lcrso" || e == "so" && !is_legacy))
        .collect();
    // As bytes: they differ in their last part alone.
    paths.sort_unstable_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    paths
}
