//! Reading a file: from its bytes to [`Metadata`], or why not.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use thiserror::Error;

use super::{Component, ContractNote, CoreNote, LibraryNote, Metadata, elf, json};

/// The most bytes of note segments that a file may have: 16 MiB.
pub const MAX_NOTES: u64 = 16 << 20;

/// The number under `lcr` in the notes that this crate writes and reads.
pub const FORMAT: i64 = 1;

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

    /// The document that `lcr inspect --json` prints for the file called `file`.
    ///
    /// Its keys are a promise to scripts: some may be added, none is renamed.
    #[must_use]
    pub fn to_json(&self, file: &Path) -> serde_json::Value {
        json::document(self, file)
    }
}

fn read<S: Source + ?Sized>(source: &S, ask_kind: bool) -> Result<Metadata, Problem> {
    let elf = elf::read(source, ask_kind)?;
    let mut metadata =
        Metadata { kind: elf.kind, components: Vec::new(), contracts: Vec::new(), library: None, core: None };
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
            Some(Item::Core(core)) => metadata.core = Some(core),
            None => {}
        }
    }
    metadata.sort();
    Ok(metadata)
}

/// What one note says.
pub(super) enum Item {
    Component(Component),
    Contract(ContractNote),
    Library(LibraryNote),
    Core(CoreNote),
}

/// A regular file, with all its bytes if they are few: a library in C without debug
/// information is about 16 KiB, and one call that copies so much costs less than two.
pub(crate) struct Content<'f> {
    pub(super) file: &'f File,
    pub(super) len: u64,
    pub(super) whole: Option<Vec<u8>>,
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
pub(super) trait Source {
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
