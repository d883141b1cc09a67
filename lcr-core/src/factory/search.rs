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
use std::fs::{self, Metadata as Status};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

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
    fn read(path: PathBuf) -> Option<Self> {
        let status = fs::metadata(&path).ok().filter(Status::is_file)?;
        let metadata = Metadata::read(&path);
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
    files: Arc<[Arc<Seen>]>,
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
        self.files(Trust::Nothing)
    }

    /// What answers a reference when the file that did a moment ago no longer does.
    pub(crate) fn find_anew(&self, name: &str, version: Version) -> Option<Hit> {
        choose(&self.files(Trust::Nothing), name, version)
    }

    fn files(&self, trust: Trust) -> Vec<Arc<Seen>> {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        for place in &self.places {
            let known = remembered.get(place);
            let now = look_into(place, known, trust);
            if let Some(now) = now {
                all.extend(now.files.iter().cloned());
                remembered.insert(place.clone(), now);
            } else {
                remembered.remove(place);
            }
        }
        all
    }
}

/// Looks at a directory or a file. Files that have not changed are not read again.
fn look_into(place: &Path, known: Option<&Remembered>, trust: Trust) -> Option<Remembered> {
    let now = SystemTime::now();
    let status = fs::metadata(place).ok()?;
    let modified = status.modified().ok()?;
    if let Some(known) = known
        && trust == Trust::Directories
        && known.is_proof
        && known.modified == modified
    {
        return Some(known.clone());
    }
    let paths = if status.is_dir() { libraries_in(place) } else { vec![place.to_owned()] };
    let old: HashMap<&Path, &Arc<Seen>> =
        known.iter().flat_map(|k| k.files.iter()).map(|seen| (seen.path.as_path(), seen)).collect();
    let files = paths
        .into_iter()
        .filter_map(|path| match old.get(path.as_path()) {
            Some(seen) if seen.is_unchanged() => Some(Arc::clone(seen)),
            _ => Seen::read(path).map(Arc::new),
        })
        .collect();
    // A clock that was set back proves nothing either.
    let is_proof = status.is_dir() && now.duration_since(modified).is_ok_and(|age| age > RACY);
    Some(Remembered { modified, is_proof, files })
}

/// The `*.so` and `*.lcrso` files of a directory, sorted by name.
pub(crate) fn libraries_in(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "so" || e == "lcrso"))
        .collect();
    paths.sort_unstable();
    paths
}

fn choose(files: &[Arc<Seen>], name: &str, version: Version) -> Option<Hit> {
    let mut offers = Vec::new();
    for seen in files {
        offers.extend(seen.interfaces().filter(|i| i.name == name).map(|interface| (seen, interface)));
    }
    let at = version.choose(offers.iter().map(|(_, i)| (i.version, i.replaces.as_slice())))?;
    let (seen, interface) = offers[at];
    Some(Hit { wish: version, is_named: false, seen: Arc::clone(seen), interface: interface.clone() })
}
