//! Why a file could not be loaded.

use std::io;
use std::path::PathBuf;

/// Why a file could not be loaded. Every message says what was wanted, what was
/// found, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file, or its directory, cannot be opened.
    #[error("{}: cannot be opened: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Not a regular file.
    #[error("{}: is {found}, wanted a regular file: name the shared object itself", path.display())]
    NotRegular {
        /// The path.
        path: PathBuf,
        /// What it is: "a directory".
        found: &'static str,
    },
    /// The file, or its directory, belongs to someone who is not trusted.
    #[error("{}: belongs to {found}, wanted {wanted}; {cure}", path.display())]
    Owner {
        /// The file or directory.
        path: PathBuf,
        /// Its owner.
        found: String,
        /// Who is trusted.
        wanted: String,
        /// The command, or the setting, that lets it be loaded.
        cure: String,
    },
    /// The file, or its directory, can be written by someone who is not trusted.
    #[error("{}: has mode {mode:04o}, {found}; wanted {wanted}; run: {cure}", path.display())]
    Mode {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Who can write it.
        found: String,
        /// What the policy wants.
        wanted: &'static str,
        /// The `chmod` that lets it be loaded.
        cure: String,
    },
    /// Larger than the policy allows.
    #[error("{}: has {found} bytes, wanted at most {wanted}: in a Rust program, Policy::max_size sets the limit", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The policy's limit.
        wanted: u64,
    },
    /// The file was being written all the while it was read.
    #[error("{}: changed while it was read, {tries} times: install a library by renaming a finished file", path.display())]
    Changing {
        /// The file.
        path: PathBuf,
        /// How often it was read.
        tries: u32,
    },
    /// The private copy, which is what is loaded, could not be made.
    #[error("{}: cannot make a private copy to load ({what}): {source}", path.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Not an ELF file that this process can load.
    #[error("{}: is no shared object for this process: {found}", path.display())]
    NotElf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// It finds what it needs relative to its own place, which a private copy has not.
    #[error(
        "{}: its RUNPATH is `{runpath}`: $ORIGIN has no meaning for the verified private copy that is loaded; \
         link it without $ORIGIN, or, in a Rust program, allow loading by path (Policy::by_path)", path.display()
    )]
    Origin {
        /// The file.
        path: PathBuf,
        /// Its RUNPATH or RPATH.
        runpath: String,
    },
    /// By path, the dynamic linker answered with another file than the verified one.
    #[error(
        "{}: the dynamic linker mapped another file than the one that was verified ({found}): it was replaced \
         meanwhile, or an older one is still loaded under this name", path.display()
    )]
    Swapped {
        /// The file.
        path: PathBuf,
        /// What was mapped.
        found: String,
    },
    /// This program is static.
    #[error(
        "{}: this program is linked statically (`crt-static`, or `-static`, `-static-pie` in C) and cannot load libraries: \
         a second C library would come with them; link it dynamically, or compile the component in",
        path.display()
    )]
    Static {
        /// The file.
        path: PathBuf,
    },
    /// The dynamic linker refused it.
    #[error("{}: the dynamic linker refused it: {message}", path.display())]
    Link {
        /// The file.
        path: PathBuf,
        /// The linker's words.
        message: String,
    },
    /// It has no entry symbol of its own: no library that `library!` made. It may
    /// be a component library in C.
    #[error("{}: is no lcr library: wanted the symbol `lcr_v1_library`, found {found}; \
             its root crate says lcr_core::library!(…)", path.display())]
    NoEntry {
        /// The file.
        path: PathBuf,
        /// "none", or whose symbol answered.
        found: String,
    },
    /// Made for another version of the border.
    #[error("{}: speaks lcr ABI {found}, wanted {wanted}: build it with the program's version of lcr-core", path.display())]
    Abi {
        /// The file.
        path: PathBuf,
        /// The library's version, or "…".
        found: String,
        /// The program's version.
        wanted: u32,
    },
}
