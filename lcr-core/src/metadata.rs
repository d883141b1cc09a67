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

mod elf;
mod json;
pub(crate) mod unnoted;
mod value;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use thiserror::Error;

/// The most bytes of note segments that a file may have: 16 MiB.
pub const MAX_NOTES: u64 = 16 << 20;

/// The number under `lcr` in the notes that this crate writes and reads.
pub const FORMAT: i64 = 1;

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

impl Metadata {
    /// Reads the file at `path`.
    ///
    /// A sound ELF file without notes of ours is no error: it has no components.
    /// A pipe or a device at `path` is refused, and never waited for.
    ///
    /// # Errors
    ///
    /// What [`Metadata::read_from`] refuses, and a file that cannot be opened.
    pub fn read(path: impl AsRef<Path>) -> Result<Metadata, MetadataError> {
        let path = path.as_ref();
        // Without O_NONBLOCK the open would wait for the other end of a pipe.
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
            .map_err(|error| MetadataError::new(path, Problem::Io { doing: "open it", error }))?;
        Metadata::read_from(&file, path)
    }

    /// Reads an open file, wherever its position is; the position stays.
    /// `path` is for messages only.
    ///
    /// # Errors
    ///
    /// When the file is not a regular one, cannot be read, is not a 64-bit
    /// little-endian ELF program or library for this machine, ends before what
    /// its headers speak of, has more than [`MAX_NOTES`] bytes of notes, or holds
    /// a note of ours that this crate does not understand. See [`Problem`].
    pub fn read_from(file: &File, path: &Path) -> Result<Metadata, MetadataError> {
        let read = || {
            let status = file.metadata().map_err(|error| Problem::Io { doing: "stat it", error })?;
            if !status.is_file() {
                return Err(Problem::NotAFile { found: type_name(status.file_type()) });
            }
            read(&Pread { file, len: status.len() }, true)
        };
        read().map_err(|problem| MetadataError::new(path, problem))
    }

    /// Reads a regular file as a search for libraries does, which looks at many: what
    /// kind of file it is is not asked.
    pub(crate) fn of_library(content: &Content<'_>, path: &Path) -> Result<Metadata, MetadataError> {
        match &content.whole {
            Some(bytes) => read(bytes.as_slice(), false),
            None => read(&Pread { file: content.file, len: content.len }, false),
        }
        .map_err(|problem| MetadataError::new(path, problem))
    }

    /// Reads a file whose content is in memory. `path` is for messages only.
    ///
    /// # Errors
    ///
    /// As [`Metadata::read_from`], but for what only a real file can have.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Metadata, MetadataError> {
        read(bytes, true).map_err(|problem| MetadataError::new(path, problem))
    }

    /// Every interface in the file, with the component that offers it.
    pub fn interfaces(&self) -> impl Iterator<Item = (&Component, &Interface)> {
        self.components.iter().flat_map(|c| c.interfaces.iter().map(move |i| (c, i)))
    }

    /// The document that `lcr inspect --json` prints for the file called `file`.
    ///
    /// Its keys are a promise to scripts: some may be added, none is renamed.
    #[must_use]
    pub fn to_json(&self, file: &Path) -> serde_json::Value {
        json::document(self, file)
    }

    /// Puts the parts into the order that the module's documentation promises.
    ///
    /// What a running program reports of itself goes through here too, so that
    /// both can be compared with `==`.
    pub fn sort(&mut self) {
        let Metadata { kind: _, components, contracts, library: _ } = self;
        // Stable sorts: what has equal keys stays as it is in the file.
        components.sort_by(|a, b| {
            (&a.name, &a.package, &a.package_version).cmp(&(&b.name, &b.package, &b.package_version))
        });
        contracts.sort_by(|a, b| {
            (&a.name, &a.package, &a.package_version).cmp(&(&b.name, &b.package, &b.package_version))
        });
    }
}

fn read<S: Source + ?Sized>(source: &S, ask_kind: bool) -> Result<Metadata, Problem> {
    let elf = elf::read(source, ask_kind)?;
    let mut metadata =
        Metadata { kind: elf.kind, components: Vec::new(), contracts: Vec::new(), library: None };
    for note in &elf.notes {
        match json::parse(note.offset, elf.desc(note))? {
            Some(Item::Component(component)) => metadata.components.push(component),
            Some(Item::Contract(contract)) => metadata.contracts.push(contract),
            Some(Item::Library(library)) => {
                if let Some(first) = &metadata.library {
                    let (first, second) = (first.package.clone(), library.package);
                    return Err(Problem::TwoLibraries { at: note.offset, first, second });
                }
                metadata.library = Some(library);
            }
            None => {}
        }
    }
    metadata.sort();
    Ok(metadata)
}

/// What one note says.
enum Item {
    Component(Component),
    Contract(ContractNote),
    Library(LibraryNote),
}

/// A regular file, with all its bytes if they are few: a library in C without debug
/// information is about 16 KiB, and one call that copies so much costs less than two.
pub(crate) struct Content<'f> {
    file: &'f File,
    len: u64,
    whole: Option<Vec<u8>>,
}

impl<'f> Content<'f> {
    const FEW: u64 = 32 << 10;

    /// A file that was found to have `len` bytes.
    pub(crate) fn of(file: &'f File, len: u64) -> Self {
        let all = || {
            let mut bytes = vec![0; usize::try_from(len).ok()?];
            let count = Pread { file, len }.read_at(&mut bytes, 0).ok()?;
            // It may have been cut off since; how it is refused then is no matter of its size.
            (count as u64 == len).then_some(bytes)
        };
        Content { file, len, whole: (len <= Self::FEW).then(all).flatten() }
    }
}

/// Something with a length that can be read anywhere.
trait Source {
    /// How many bytes there are.
    fn len(&self) -> u64;

    /// Fills `into` from `offset`, or says how many bytes there were.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl Source for [u8] {
    fn len(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|o| self.get(o..)).unwrap_or(&[]);
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

struct Pread<'f> {
    file: &'f File,
    len: u64,
}

impl Source for Pread<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.file.read_at(&mut into[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

fn type_name(found: std::fs::FileType) -> &'static str {
    if found.is_dir() {
        "a directory"
    } else if found.is_fifo() {
        "a pipe"
    } else if found.is_socket() {
        "a socket"
    } else if found.is_char_device() || found.is_block_device() {
        "a device"
    } else {
        "something else"
    }
}

/// Why a file's metadata cannot be read. The message names the file, what was
/// wanted, what was found, and what to do.
#[derive(Debug, Error)]
#[error("{}: {problem}", .path.display())]
pub struct MetadataError {
    path: PathBuf,
    problem: Problem,
}

impl MetadataError {
    fn new(path: &Path, problem: Problem) -> MetadataError {
        MetadataError { path: path.to_owned(), problem }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with it.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Whether the file is simply something else than an ELF file, as a text or a
    /// linker script is: a search passes over it, and says nothing.
    #[must_use]
    pub fn is_not_elf(&self) -> bool {
        matches!(self.problem, Problem::NotElf { .. } | Problem::NotAFile { .. })
    }
}

/// What is wrong with a file. Offsets are from the beginning of the file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Problem {
    /// The system refused.
    #[error("cannot {doing}: {error}; check the name and that this user may read it")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// A directory, a pipe, a device.
    #[error("wanted a file, found {found}; name a library or an executable")]
    NotAFile {
        /// What it is.
        found: &'static str,
    },
    /// The file does not begin as ELF files do.
    #[error(
        "not an ELF file: wanted 7f 45 4c 46 at its beginning, found {found}; name a library or an executable"
    )]
    NotElf {
        /// The first bytes, in hexadecimal.
        found: String,
    },
    /// 32 bits.
    #[error("wanted a 64-bit ELF file, found {found}; build it for a 64-bit target")]
    Class {
        /// What the header says.
        found: String,
    },
    /// Big-endian.
    #[error("wanted a little-endian ELF file, found {found}; build it for a little-endian target")]
    ByteOrder {
        /// What the header says.
        found: String,
    },
    /// Another machine.
    #[error("wanted an ELF file for {wanted}, found {found}; build it for this machine")]
    Machine {
        /// The machine this program runs on.
        wanted: String,
        /// What the header says.
        found: String,
    },
    /// An object file, a core dump.
    #[error("wanted a shared object or an executable, found {found}; name the file that the linker made")]
    Type {
        /// What the header says.
        found: String,
    },
    /// The program headers cannot be what a linker wrote.
    #[error("wanted {wanted}, found {found}: the ELF header is damaged; copy or build the file again")]
    Header {
        /// What a header may say.
        wanted: &'static str,
        /// What it says.
        found: String,
    },
    /// The file ends too early.
    #[error(
        "truncated: wanted {wanted} bytes at offset {offset} for {what}, but the file has {has} bytes; \
         copy or build it again"
    )]
    Truncated {
        /// What should have been there.
        what: &'static str,
        /// Where it begins.
        offset: u64,
        /// How many bytes it takes.
        wanted: u64,
        /// How many bytes the file has.
        has: u64,
    },
    /// More notes than is reasonable.
    #[error(
        "its note segments have {found} bytes, and at most {MAX_NOTES} are read; build it with less metadata"
    )]
    TooLarge {
        /// The sum of their sizes.
        found: u64,
    },
    /// A note that does not fit into its segment.
    #[error(
        "the note at offset {at} claims a name of {name} and a content of {content} bytes, but its segment \
         has only {left} bytes from there; copy or build the file again"
    )]
    Note {
        /// Where the note begins.
        at: u64,
        /// The size of its owner's name.
        name: u32,
        /// The size of its content.
        content: u32,
        /// The bytes of the segment from there.
        left: u64,
    },
    /// A note of ours without JSON in it.
    #[error("the LCR note at offset {at} is not JSON: {error}; build the file again")]
    Json {
        /// Where the note begins.
        at: u64,
        /// What is wrong, with line and column.
        error: serde_json::Error,
    },
    /// A note of ours with an absurd number of values, which would take many
    /// times its size in memory.
    #[error("the LCR note at offset {at} holds more than {limit} {what}; split the component")]
    Crowded {
        /// Where the note begins.
        at: u64,
        /// What there is too much of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// A note of ours in another format.
    #[error(
        "the LCR note at offset {at} has format {found}, and this lcr reads format {FORMAT}; use a newer lcr, \
         or build the file with this one"
    )]
    Format {
        /// Where the note begins.
        at: u64,
        /// The number under `lcr`.
        found: String,
    },
    /// A note of ours whose JSON is not what the format says.
    #[error(
        "the LCR note at offset {at}: wanted {wanted} under `{key}`, found {found}; build the file again with \
         one version of lcr"
    )]
    Key {
        /// Where the note begins.
        at: u64,
        /// The way to the value, as `interfaces[0].version`.
        key: String,
        /// What should have been there.
        wanted: &'static str,
        /// What is there.
        found: String,
    },
    /// Two `library!` in one file.
    #[error(
        "the LCR note at offset {at} describes the library of package {second}, and one of package {first} is \
         described already; call `library!` in one crate only"
    )]
    TwoLibraries {
        /// Where the second note begins.
        at: u64,
        /// The package of the first.
        first: String,
        /// The package of the second.
        second: String,
    },
}
