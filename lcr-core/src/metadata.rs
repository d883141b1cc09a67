//! What a file says of itself, read without running it.
//!
//! A component's note (see [`note`](crate::note)) stands in the file that it is
//! linked into, a library or an executable alike. [`Metadata::read`] takes the
//! ELF header, the program headers and the segments that they call notes, and
//! nothing else: no section headers, no symbols, no relocations. So it reads a
//! stripped file, costs one small read as a rule, and can be pointed at a library
//! that nobody should run: a factory learns here which library offers what it
//! wants, and whether the contracts agree, before any code of it is mapped.
//!
//! Invariants:
//!
//! - The file is not trusted. No count or size in it leads to an allocation that
//!   was not compared with the file's own length, and with the limits below,
//!   first; no content of it makes the reader panic.
//! - A descriptor is read with `pread` alone: its position is neither used nor
//!   moved, so threads can read one descriptor at the same time.
//! - What is read does not depend on the order in which the linker placed the
//!   notes: components and contracts are sorted by name, package and version.
//!   Interfaces and methods keep the order of their declaration, which means
//!   something.
//! - Notes of other owners, notes of ours of another type than JSON, kinds of
//!   JSON that are not known here and keys that are not known are passed over:
//!   that is how the format can grow. Another number under `lcr` is an error.
//!
//! Two limits: [`MAX_NOTES`] bytes of notes, and program headers of 64 KiB, which
//! is also the most that Linux takes when it starts a program.

#[cfg(feature = "dlopen")]
mod elf;
#[cfg(feature = "dlopen")]
mod json;
#[cfg(feature = "dlopen")]
mod read;
#[cfg(feature = "dlopen")]
pub(crate) mod unnoted;
#[cfg(feature = "dlopen")]
mod value;

use std::fmt;

#[cfg(feature = "dlopen")]
pub(crate) use self::read::Content;
#[cfg(feature = "dlopen")]
pub use self::read::{FORMAT, MAX_NOTES, MetadataError, Problem};

/// What a file is, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Whether the file is a program or a library.
    pub kind: FileKind,
    /// The components, by name, package and version. Empty for a file that was
    /// not built with lcr, and for a C library.
    pub components: Vec<Component>,
    /// The contracts that the file's crates declare, by name, package and version.
    pub contracts: Vec<ContractNote>,
    /// What `library!` says of the file; `None` for a file that is no library of
    /// ours.
    pub library: Option<LibraryNote>,
    /// What lcr-core says of itself, where it was built without its feature `dlopen`:
    /// such a program loads nothing.
    pub core: Option<CoreNote>,
}

/// What is done with a file: it is run, or loaded.
///
/// A file is an executable that has a fixed address (`ET_EXEC`), names the
/// dynamic linker that shall start it (`PT_INTERP`), or calls itself a
/// position-independent executable (`DF_1_PIE`: a static one has nothing else).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A shared object.
    Library,
    /// A program.
    Executable,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileKind::Library => "library",
            FileKind::Executable => "executable",
        })
    }
}

/// A component, from its note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// The component's name.
    pub name: String,
    /// The cargo package that it comes from.
    pub package: String,
    /// The package's version.
    pub package_version: String,
    /// The compiler that built it, as `1.95.0`.
    pub rustc: String,
    /// Its interfaces, in the order of their declaration.
    pub interfaces: Vec<Interface>,
}

/// An interface that a component offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The interface's name.
    pub name: String,
    /// Its version.
    pub version: i32,
    /// The versions that it can stand in for.
    pub replaces: Vec<i32>,
    /// The names of the interfaces that must be constructed before it.
    pub requires: Vec<String>,
    /// Whether each reference constructs an instance of its own.
    pub per_reference: bool,
    /// Whether it hands its state over when it is replaced.
    pub state: bool,
    /// The contract that its table implements; `None` for a raw table.
    pub contract: Option<Contract>,
}

/// A contract as an interface implements it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// The trait's name.
    pub name: String,
    /// The methods, by position in the table.
    pub methods: Vec<Method>,
}

/// A method of a contract.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Method {
    /// The method's name.
    pub name: String,
    /// Its shape as text, for people: `fn(&str) -> String`.
    pub signature: String,
    /// The hash of its shape, for comparisons.
    pub hash: u64,
    /// Whether the trait has a body that answers for providers without it.
    pub has_default: bool,
}

/// A contract as the crate that declares it has it: one side of a border.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractNote {
    /// The trait's name.
    pub name: String,
    /// The cargo package that declares it.
    pub package: String,
    /// The package's version.
    pub package_version: String,
    /// The compiler that built it.
    pub rustc: String,
    /// The methods, in the order of their declaration.
    pub methods: Vec<Method>,
}

/// What `library!` writes of the library as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryNote {
    /// The cargo package of the library.
    pub package: String,
    /// The package's version.
    pub package_version: String,
    /// The compiler that built it.
    pub rustc: String,
    /// Whether it has an allocator of its own, so that buffers are copied.
    pub own_allocator: bool,
    /// Whether it asks never to be unloaded.
    pub stay: bool,
}

/// What lcr-core says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreNote {
    /// Its version.
    pub package_version: String,
    /// The compiler that built it.
    pub rustc: String,
    /// Whether it can load libraries.
    pub dlopen: bool,
}

impl Metadata {
    /// Every interface in the file, with the component that offers it.
    pub fn interfaces(&self) -> impl Iterator<Item = (&Component, &Interface)> {
        self.components.iter().flat_map(|c| c.interfaces.iter().map(move |i| (c, i)))
    }

    /// Puts the parts into the order that the module's documentation promises.
    ///
    /// What a running program reports of itself goes through here too, so that
    /// both can be compared with `==`.
    pub fn sort(&mut self) {
        let Metadata { kind: _, components, contracts, library: _, core: _ } = self;
        // Stable sorts: what has equal keys stays as it is in the file.
        components.sort_by(|a, b| {
            (&a.name, &a.package, &a.package_version).cmp(&(&b.name, &b.package, &b.package_version))
        });
        contracts.sort_by(|a, b| {
            (&a.name, &a.package, &a.package_version).cmp(&(&b.name, &b.package, &b.package_version))
        });
    }
}
