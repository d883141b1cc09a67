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

use std::collections::HashMap;
use std::fs::{self, File, Metadata as Status};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags};

use crate::library::Stamp;
use crate::metadata::{Interface, Metadata, MetadataError};
use crate::version::Version;

/// A directory's time is no proof while it is this young: a change within one
/// tick of the clock that stamps files would not move it.
const RACY: Duration = Duration::from_millis(50);

/// A file that was looked at.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) path: PathBuf,
    pub(crate) stamp: Stamp,
    pub(crate) metadata: Result<Metadata, MetadataError>,
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
            return Some(Seen { stamp: Stamp::from(&status), metadata, path });
        };
        let status = file.metadata().ok().filter(Status::is_file)?;
        let metadata = Metadata::read_library(&file, status.len(), &path);
        Some(Seen { stamp: Stamp::from(&status), metadata, path })
    }

    /// What was read from a descriptor that nobody can change any more.
    pub(crate) fn verified(path: PathBuf, stamp: Stamp, metadata: Metadata) -> Self {
        Seen { path, stamp, metadata: Ok(metadata) }
    }

    fn is_unchanged(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|status| Stamp::from(&status) == self.stamp)
    }

    /// The interfaces in it; none where it could not be read.
    pub(crate) fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.metadata.iter().flat_map(|m| m.interfaces().map(|(_, interface)| interface))
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

/// The places of one factory, and what is remembered of them.
#[derive(Debug, Default)]
pub(crate) struct Search {
    places: Vec<PathBuf>,
    remembered: Mutex<HashMap<PathBuf, Remembered>>,
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
}

impl Files {
    fn new(all: Vec<Arc<Seen>>) -> Self {
        let mut offering: HashMap<String, Vec<u32>> = HashMap::with_capacity(all.len());
        for (at, seen) in (0..).zip(&all) {
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
        Files { all, offering }
    }

    /// The interfaces of a name, in order.
    fn offers<'f>(&'f self, name: &'f str) -> impl Iterator<Item = (&'f Arc<Seen>, &'f Interface)> {
        let files = self.offering.get(name).into_iter().flatten();
        let files = files.map(|at| &self.all[*at as usize]);
        files.flat_map(move |seen| {
            seen.interfaces().filter(move |i| i.name == name).map(move |interface| (seen, interface))
        })
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
        Search { places, remembered: Mutex::default() }
    }

    pub(crate) fn places(&self) -> &[PathBuf] {
        &self.places
    }

    /// The file that answers a reference, and its interface that does.
    pub(crate) fn find(&self, name: &str, version: Version) -> Option<Hit> {
        if self.places.is_empty() {
            return None;
        }
        choose(&self.files(Trust::Directories), name, version)
            .filter(|hit| hit.seen.is_unchanged())
            .or_else(|| self.find_anew(name, version))
    }

    /// All files, in the order in which they are asked.
    pub(crate) fn look(&self) -> Vec<Arc<Seen>> {
        self.files(Trust::Nothing).iter().flat_map(|files| files.all.iter().cloned()).collect()
    }

    /// What answers a reference when the file that did a moment ago no longer does.
    pub(crate) fn find_anew(&self, name: &str, version: Version) -> Option<Hit> {
        choose(&self.files(Trust::Nothing), name, version)
    }

    /// Those of each place.
    fn files(&self, trust: Trust) -> Vec<Arc<Files>> {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::with_capacity(self.places.len());
        for place in &self.places {
            match look_into(place, remembered.get(place), trust) {
                Looked::Unchanged(files) => all.push(files),
                Looked::Anew(now) => {
                    all.push(Arc::clone(&now.files));
                    remembered.insert(place.clone(), now);
                }
                Looked::Nothing => {
                    remembered.remove(place);
                }
            }
        }
        all
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
fn look_into(place: &Path, known: Option<&Remembered>, trust: Trust) -> Looked {
    let now = SystemTime::now();
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
    let paths = if is_directory { libraries_in(place) } else { vec![place.to_owned()] };
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

/// The `*.so` and `*.lcrso` files of a directory, sorted by name.
pub(crate) fn libraries_in(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "so" || e == "lcrso"))
        .collect();
    // As bytes: they differ in their last part alone.
    paths.sort_unstable_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    paths
}

fn choose(places: &[Arc<Files>], name: &str, version: Version) -> Option<Hit> {
    let offers: Vec<_> = places.iter().flat_map(|files| files.offers(name)).collect();
    let at = version.choose(offers.iter().map(|(_, i)| (i.version, i.replaces.as_slice())))?;
    let (seen, interface) = offers[at];
    Some(Hit { wish: version, is_named: false, seen: Arc::clone(seen), interface: interface.clone() })
}
