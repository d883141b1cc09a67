//! Why a reference fails. Every message says what was wanted, what was found,
//! where, and what to do about it.

use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use crate::contract::Mismatch;
#[cfg(feature = "dlopen")]
use crate::library::LoadError;
#[cfg(feature = "dlopen")]
use crate::metadata::MetadataError;
use crate::version::Version;

/// Why a reference was not given.
///
/// `{:?}` prints the sentence too: it is what a `main` that returns this error
/// shows to a person.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// Nothing offers the interface in a version that would do.
    #[error("no component offers {}{}", wanted(.name, *.version), .found.describe())]
    NotFound {
        /// The interface's name.
        name: String,
        /// The wanted version.
        version: Version,
        /// What there is instead, and where was searched.
        found: Box<Found>,
    },
    /// Two compiled-in components, or two of one library, offer the same version
    /// of the interface.
    #[error(
        "`{name}` version {version} is offered twice: by {first} and by {second}; \
         drop one of them, or give it another version"
    )]
    Duplicate {
        /// The interface's name.
        name: String,
        /// The version that stands twice.
        version: i32,
        /// Where from.
        first: String,
        /// And where from.
        second: String,
    },
    /// The interface's table is not what the caller was compiled against.
    #[error("`{name}` version {version} ({origin}) does not fit: {mismatch}")]
    Contract {
        /// The interface's name.
        name: String,
        /// The version that was chosen.
        version: i32,
        /// Where from.
        origin: String,
        /// The difference.
        mismatch: Box<Mismatch>,
    },
    /// A raw reference to a typed interface.
    #[error(
        "`{name}` version {version} ({origin}) is a typed interface of contract `{contract}`, and has no table of C \
         functions: only Rust code can reference it, with `reference::<dyn {contract}>`"
    )]
    Typed {
        /// The interface's name.
        name: String,
        /// The version that was chosen.
        version: i32,
        /// Where from.
        origin: String,
        /// Its contract.
        contract: String,
    },
    /// What it requires is required by itself again.
    #[error("the dependencies of `{name}` form a circle: {}", .path.join(" → "))]
    Cycle {
        /// The interface's name.
        name: String,
        /// From the reference to the name that stands in it twice.
        path: Vec<String>,
    },
    /// Something that it requires cannot be had.
    #[error("`{name}` cannot be constructed, {}: {cause}", .path.join(" → "))]
    Dependency {
        /// The interface's name.
        name: String,
        /// From the reference to what is missing.
        path: Vec<String>,
        /// Why that cannot be had.
        cause: Box<ReferenceError>,
    },
    /// What its component says of its table cannot be true.
    #[error("`{name}` version {version} ({origin}) has no table as it says: {reason}")]
    Table {
        /// The interface's name.
        name: String,
        /// The version.
        version: i32,
        /// Where from.
        origin: String,
        /// What cannot be true.
        reason: String,
    },
    /// It requires something that requires something, and so on without a reasonable end.
    #[error(
        "the dependencies of `{name}` are more than {most} deep: {}; is the list of one of them made by a program that \
         has gone wrong?", ends(.path)
    )]
    Deep {
        /// The interface's name.
        name: String,
        /// How deep they may be.
        most: usize,
        /// From the reference on.
        path: Vec<String>,
    },
    /// The constructor failed.
    #[error("the constructor of `{name}` version {version} ({origin}) {}: {message}", said(*.panicked))]
    Construct {
        /// The interface's name.
        name: String,
        /// The version.
        version: i32,
        /// Where from.
        origin: String,
        /// What it said.
        message: String,
        /// Did it panic, instead of returning an error?
        panicked: bool,
    },
    /// The interface is just being constructed or released by the same caller.
    #[error(
        "`{name}` was referenced while it was being {stage} on the same path: {}; \
         name what a constructor needs in its interface's dependencies (`requires` and `Context::require` in Rust, \
         `dependencies` in C)",
        .path.join(" → ")
    )]
    Reentered {
        /// The interface's name.
        name: String,
        /// `constructed` or `released`.
        stage: &'static str,
        /// What waits for what.
        path: Vec<String>,
    },
    /// The interface is referenced by what is about to replace it.
    #[error(
        "`{name}` was referenced while what replaces it was being constructed or restored, {}: the handle would lead \
         to that itself; pass what is needed in the state, or through another interface", .path.join(" → ")
    )]
    Succeeding {
        /// The interface's name.
        name: String,
        /// What waits for what.
        path: Vec<String>,
    },
    /// Another thread has been constructing or releasing the interface for too long; it
    /// may be waiting for the very thread that is refused here.
    #[error(
        "`{name}` is still being {stage} by another thread ({thread}) after {patience:?}: if that one waits for \
         this thread, neither goes on; a constructor may start a thread that references what it constructs, but \
         must not wait for it; if it only takes long, allow more: LCR_CONSTRUCT_WAIT=SECONDS, or \
         Builder::construct_wait in a Rust program"
    )]
    Waited {
        /// The interface's name.
        name: String,
        /// `constructed` or `released`.
        stage: &'static str,
        /// Which thread: its name and its number.
        thread: String,
        /// How long it was waited for.
        patience: Duration,
    },
    /// An ELF constructor of a library referenced something while that was being loaded.
    #[error(
        "`{name}` was referenced by an ELF constructor of a library that is being loaded: \
         reference it in the interface's constructor, or name it in its dependencies"
    )]
    WhileLoading {
        /// The interface's name.
        name: String,
    },
    /// A library was found, and could not be loaded.
    #[cfg(feature = "dlopen")]
    #[error(transparent)]
    Load(#[from] Box<LoadError>),
    /// The library was found, and when it was opened its notes could not be read.
    #[cfg(feature = "dlopen")]
    #[error(transparent)]
    Unreadable(#[from] Box<MetadataError>),
    /// A library was found, and is gone, or offers something else, each time it is
    /// opened.
    #[error(
        "{}: changed between being found and being loaded, {tries} times in a row; \
         install libraries by renaming them into place", path.display()
    )]
    Changing {
        /// The library.
        path: PathBuf,
        /// How often it was looked for.
        tries: u32,
    },
    /// What the library says in its notes, or a C library's data, and what its code
    /// registers differ.
    #[error(
        "{}: it says that it offers `{name}` version {version}, and its code does not register that; \
         build the library anew", path.display()
    )]
    Unregistered {
        /// The library.
        path: PathBuf,
        /// The interface.
        name: String,
        /// The version.
        version: i32,
    },
    /// The program is fully static: it has no dynamic linker.
    #[error(
        "no compiled-in component offers {}, and this program cannot load one: it is fully static \
         (`crt-static`, or `-static`, `-static-pie` in C), and a second C library beside its own would crash it; \
         compile the component in, or link the program dynamically", wanted(.name, *.version)
    )]
    Static {
        /// The interface's name.
        name: String,
        /// The wanted version.
        version: Version,
    },
    /// A library's code referenced through a factory that it has made for itself.
    #[error(
        "`{name}` was referenced through a factory that a library has made, and only programs have factories of their \
         own; reference it by `lcr_core::reference`, which asks the program, or by `Context::require`"
    )]
    InLibrary {
        /// The interface's name.
        name: String,
    },
    /// The host answered a library's reference with this error.
    #[error("{message}")]
    Host {
        /// The kind, as [`ReferenceError::kind`] says it.
        kind: String,
        /// The host's message.
        message: String,
    },
}

#[cfg(feature = "dlopen")]
impl From<LoadError> for ReferenceError {
    fn from(error: LoadError) -> Self {
        ReferenceError::Load(Box::new(error))
    }
}

#[cfg(feature = "dlopen")]
impl From<MetadataError> for ReferenceError {
    fn from(error: MetadataError) -> Self {
        ReferenceError::Unreadable(Box::new(error))
    }
}

impl fmt::Debug for ReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The first few of a path, and the last.
fn ends(path: &[String]) -> String {
    match path {
        [first @ .., last] if first.len() > 3 => format!("{} → … → {last}", first[..3].join(" → ")),
        all => all.join(" → "),
    }
}

fn wanted(name: &str, version: Version) -> String {
    if version == Version::any() { format!("any version of `{name}`") } else { format!("`{name}` {version}") }
}

fn said(panicked: bool) -> &'static str {
    if panicked { "panicked" } else { "failed" }
}

impl ReferenceError {
    /// A word for programs.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            ReferenceError::NotFound { .. } => "not-found",
            ReferenceError::Duplicate { .. } => "duplicate",
            ReferenceError::Contract { .. } => "contract",
            ReferenceError::Typed { .. } => "typed",
            ReferenceError::Cycle { .. } => "cycle",
            ReferenceError::Dependency { .. } | ReferenceError::Deep { .. } => "dependency",
            ReferenceError::Table { .. } => "table",
            ReferenceError::Construct { .. } => "construct",
            ReferenceError::Reentered { .. }
            | ReferenceError::Succeeding { .. }
            | ReferenceError::WhileLoading { .. } => "reentered",
            ReferenceError::Waited { .. } => "waited",
            #[cfg(feature = "dlopen")]
            ReferenceError::Load(_) | ReferenceError::Unreadable(_) => "load",
            ReferenceError::Changing { .. } | ReferenceError::Unregistered { .. } => "load",
            ReferenceError::Static { .. } => "static",
            ReferenceError::InLibrary { .. } => "in-library",
            ReferenceError::Host { kind, .. } => kind,
        }
    }
}

/// What a search saw that found nothing fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Other versions of the interface, with their origins.
    pub versions: Vec<(i32, String)>,
    /// The places that were searched.
    pub searched: Vec<PathBuf>,
    /// Files there that could not be read as libraries, and why.
    pub unreadable: Vec<String>,
    /// Was there nowhere to search?
    pub nowhere: bool,
}

impl Found {
    fn describe(&self) -> String {
        let mut text = String::new();
        if !self.versions.is_empty() {
            let versions: Vec<String> = self
                .versions
                .iter()
                .map(|(version, origin)| format!("version {version} ({origin})"))
                .collect();
            let _ = write!(text, "; there is {}", versions.join(", "));
        }
        if self.nowhere {
            text.push_str(if cfg!(feature = "dlopen") {
                "; nothing was searched: set LCR_PATH to the directories that hold libraries, or link the component in"
            } else {
                "; nothing was searched: lcr-core was built without its feature `dlopen`, so that this program loads \
                 no libraries; link the component in, or switch the feature on"
            });
        } else if !self.searched.is_empty() {
            let places: Vec<String> = self.searched.iter().map(|p| p.display().to_string()).collect();
            let _ = write!(text, "; searched: the program, {}", places.join(", "));
        }
        for file in &self.unreadable {
            let _ = write!(text, "; passed over: {file}");
        }
        text
    }
}
